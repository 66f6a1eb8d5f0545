"""An item of the batch as it enters, as it stands after a round, and as it leaves."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.config import Recipe
from insetgan_batch.errors import ItemError


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """An item as it enters.

    By generator: latents `[1+l c]` (w, then the offset of each layer: ws = w + delta) and the
    reference image `[3 H W]`. boxes: where the part is, for those that a manifest names; the
    detector finds the others.
    """

    key: str
    recipe: Recipe
    latents: dict[str, Tensor]
    references: dict[str, Tensor]
    boxes: dict[str, Box] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What an item is at the end of a round.

    latents `[1+l c]`, images `[3 H W]`, regions in canvas pixels.
    """

    round: int
    score: float
    terms: dict[str, float]
    latents: dict[str, Tensor]
    images: dict[str, Tensor]
    regions: dict[str, Box]


@dataclasses.dataclass(frozen=True, slots=True)
class TraceRow:
    """The losses of one step: raw values and the weights in force, by term.

    round: from 1, like State.round. phase: the generator that moved; step: its own count, from 0.
    """

    round: int
    phase: str
    step: int
    raw: dict[str, float]
    weight: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """An item as it leaves.

    start: round 0, before anything moved. best: the round with the lowest score. stop: "converged",
    "max_rounds" or "diverged" (then `error` is set, and best is what stood before it).
    """

    key: str
    start: State
    best: State
    inset_boxes: dict[str, Box]
    scores: list[float]
    steps: int
    missed_detections: int
    trace: list[TraceRow]
    stop: str
    error: ItemError | None = None
