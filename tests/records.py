"""Records of runs that never were, each complete as its reader asks for it."""

from __future__ import annotations

from typing import Any

from insetgan_batch.data.commits import hh


def item(item_id: str) -> dict[str, Any]:
    """A row of seeds."""
    source = {"kind": "seed", "value": 1, "psi": None, "box": None}
    return {
        "item_id": item_id,
        "canvas": source,
        "insets": {"face": source},
        "seed": 0,
        "overrides": {},
        "meta": {},
    }


def commit(item_id: str, attempt: str = "1-1", **changes: Any) -> dict[str, Any]:
    """The commit of an item with one file, which is no part of it: it need not be there."""
    key = f"items/{hh(item_id)}/{item_id}/{attempt}/image.png"
    return {
        "item_id": item_id,
        "attempt": attempt,
        "files": {"image": {"key": key, "sha256": "ab" * 32, "bytes": 1}},
        "item": item(item_id),
        "provenance": {},
        "rounds": 2,
        "best_round": 2,
        "steps": 12,
        "stop": "max_rounds",
        "seconds": 30.0,
        "score": 0.75,
        "seam_before": 12.0,
        "seam_after": 3.0,
        "losses": {"face.border.l1": 0.12},
        "boxes": {},
        "missed_detections": 0,
        "perceptual": "alexnet-random-7",
    } | changes


def quarantined(item_id: str, reason: str = "no_face", **changes: Any) -> dict[str, Any]:
    """Why an item was set aside."""
    return {
        "item_id": item_id,
        "reason": reason,
        "detail": "",
        "attempt": "1-1",
        "attempts": 1,
    } | changes
