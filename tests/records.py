"""Records of runs that never were, each complete as its reader asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from insetgan_batch.data.commits import hh
from insetgan_batch.methods.insetgan.sources import Source, new_item, seed_id
from insetgan_batch.records import Item


def item(item_id: str) -> dict[str, Any]:
    """A row of seeds."""
    return {
        "item_id": item_id,
        "inputs": {"canvas_seed": 1, "face_seed": 1},
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
        "steps": 12,
        "seconds": 30.0,
        "measures": {
            "seam_before": 12.0,
            "seam_after": 3.0,
            "score": 0.75,
            "rounds": 2,
            "best_round": 2,
            "missed_detections": 0,
            "losses.face.border.l1": 0.12,
        },
        "facts": {"stop": "max_rounds", "perceptual": "alexnet-random-7"},
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


def montage_items(bodies: Iterable[int], faces: Iterable[int]) -> list[Item]:
    """Every face on every body, face by face."""
    return [
        new_item(
            seed_id({"canvas": body, "face": face}),
            Source("seed", body),
            {"face": Source("seed", face)},
        )
        for face in faces
        for body in list(bodies)
    ]
