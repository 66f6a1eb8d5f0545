"""Records of runs by versions that knew no other method: InsetGAN's numbers stood at the top of a
commit, and an item named its canvas and its insets.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from insetgan_batch.methods.insetgan import measures as numbers
from insetgan_batch.methods.insetgan.sources import Source, inputs_of

_KEEP = ConfigDict(extra="allow", strict=True)
_Number = float | None
_Box = Annotated[list[float], Field(min_length=4, max_length=4)]
_Count = Annotated[int, Field(ge=0)]


@with_config(_KEEP)
class _Source(TypedDict):
    kind: Literal["average", "seed", "image", "latent"]
    value: int | str | None
    psi: _Number
    box: _Box | None


@with_config(_KEEP)
class _Item(TypedDict):
    item_id: str
    canvas: _Source
    insets: dict[str, _Source]
    seed: int
    overrides: dict[str, Any]
    meta: dict[str, Any]


@with_config(_KEEP)
class _Boxes(TypedDict):
    inset: _Box
    region: _Box
    region_before: _Box


@with_config(_KEEP)
class _Likeness(TypedDict):
    by: str
    cosine: _Number


@with_config(_KEEP)
class _Commit(TypedDict):
    item_id: str
    item: _Item
    rounds: _Count
    best_round: _Count
    steps: _Count
    stop: str
    seconds: float
    score: _Number
    score_start: NotRequired[_Number]
    seam_before: _Number
    seam_after: _Number
    losses: dict[str, _Number]
    boxes: dict[str, _Boxes]
    missed_detections: _Count
    perceptual: str
    inversion: NotRequired[dict[str, dict[str, _Number]] | None]
    identity: NotRequired[dict[str, _Likeness] | None]
    psi: NotRequired[dict[str, _Number | list[float]]]


@with_config(_KEEP)
class _Quarantined(TypedDict):
    item: NotRequired[_Item]


_COMMIT, _QUARANTINED = TypeAdapter(_Commit), TypeAdapter(_Quarantined)
_KEPT = ("item_id", "attempt", "files", "steps", "seconds", "machine", "provenance")


def upgrade_commit(data: bytes) -> dict[str, Any]:
    """A commit as it is written now; raises pydantic's `ValidationError` for one that is none."""
    old = _COMMIT.validate_json(data)
    plain: dict[str, Any] = {**old}
    identity = old.get("identity") or {}
    item = _item(old["item"])
    sources = _sources(old["item"])
    measures = numbers.measures(
        {name: value for name, value in plain.items() if name in numbers.PLAIN},
        old["losses"],
        old.get("inversion") or {},
        {name: found["cosine"] for name, found in identity.items()},
    )
    facts = numbers.facts(
        recipe=plain.get("provenance", {}).get("recipe", ""),
        stop=old["stop"],
        perceptual=old["perceptual"],
        identity_by={name: found["by"] for name, found in identity.items()},
        sources=sources,
        psi=old.get("psi") or {name: source.psi for name, source in sources.items()},
        boxes={name: _plain(found) for name, found in old["boxes"].items()},
    )
    kept = {name: value for name, value in plain.items() if name in _KEPT}
    return kept | {"item": item, "measures": measures, "facts": facts}


def upgrade_quarantined(data: bytes) -> dict[str, Any]:
    """The same of a record of the quarantine."""
    old = _QUARANTINED.validate_json(data)
    return {**old, "item": _item(old["item"])} if "item" in old else {**old}


def _sources(old: _Item) -> dict[str, Source]:
    found = {"canvas": old["canvas"], **old["insets"]}
    return {
        name: Source(s["kind"], s["value"], s["psi"], None if s["box"] is None else _box(s["box"]))
        for name, s in found.items()
    }


def _plain(found: _Boxes) -> dict[str, list[float]]:
    return {
        "inset": found["inset"],
        "region": found["region"],
        "region_before": found["region_before"],
    }


def _box(box: list[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return x0, y0, x1, y1


def _item(old: _Item) -> dict[str, Any]:
    kept = {name: value for name, value in old.items() if name not in ("canvas", "insets")}
    return kept | {"inputs": inputs_of(_sources(old))}
