"""An item of the batch: admitted (`Start`), in the batch (`Slot`), after a round (`State`),
released (`Finished`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.errors import CheckpointError, ItemError
from insetgan_batch.methods.insetgan import schedule
from insetgan_batch.methods.insetgan.adam import MovingLatents
from insetgan_batch.methods.insetgan.recipe import Recipe
from insetgan_batch.methods.insetgan.recipe_variants import inverting, stages


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """An item to be admitted.

    By generator: latents `[1+l c]` (w, then the offset of each layer: ws = w + delta), reference
    images `[3 H W]` in -1..1, boxes of the part in these pixels where the manifest names them (the
    detector finds the others), and psi, the truncation that the latents were made with. pictures:
    the generators that are inverted first, from their references. seed: of the item's random
    numbers.
    """

    key: str
    recipe: Recipe
    latents: dict[str, Tensor]
    references: dict[str, Tensor]
    boxes: dict[str, Box] = dataclasses.field(default_factory=dict)
    psi: dict[str, Any] = dataclasses.field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    seed: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """An item at the end of a round.

    round: from 1, 0 before the first. score: the weighted sum of its losses. terms: its raw losses,
    by the texts of their terms. By generator: latents `[1+l c]`, images `[3 H W]`; by inset:
    regions in canvas pixels, masks `[1 h w]` where the part alone is pasted.
    """

    round: int
    score: float
    terms: dict[str, float]
    latents: dict[str, Tensor]
    images: dict[str, Tensor]
    regions: dict[str, Box]
    masks: dict[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class TraceRow:
    """The losses of one step: raw values and the weights in force, by the texts of their terms.

    round: from 1, like State.round. phase: the generator that moved; step: its own count, from 0.
    """

    round: int
    phase: str
    step: int
    raw: dict[str, float]
    weight: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """An item that was released.

    start: round 0, before the recipe moves anything (after an inversion). best: the round that the
    recipe keeps. references: the item's reference images `[3 H W]`. stop: "converged",
    "max_rounds" or "diverged" (then `error` is set, and best is the best state before that). film:
    composites as bytes `[H W 3]`, every few steps. inversion: by generator and measure, the
    distances of inverted images from their pictures.
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
    references: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    film: list[np.ndarray] = dataclasses.field(default_factory=list)
    error: ItemError | None = None
    inversion: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Slot:
    """An item in the batch.

    By generator: given, the reference images of its `Start`; references, those of this stage;
    anchors, latents `[1+l c]` of references that were synthesised when the stage began; images of
    its latents now, `[3 H W]`; stage_steps, how many steps it took in this stage; inversion, the
    errors at the end of its inversion. By inset: boxes of the part in the inset and on the canvas,
    regions in canvas pixels, missed, how many detections were in vain. pictures: the generators
    that are inverted first.
    """

    key: str
    recipe: Recipe
    given: dict[str, Tensor]
    inset_boxes: dict[str, Box]
    canvas_boxes: dict[str, Box]
    regions: dict[str, Box]
    masks: dict[str, Tensor]
    moments: dict[str, MovingLatents]
    references: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    anchors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    images: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    stage_steps: dict[str, int] = dataclasses.field(default_factory=dict)
    scores: list[float] = dataclasses.field(default_factory=list)
    trace: list[TraceRow] = dataclasses.field(default_factory=list)
    film: list[np.ndarray] = dataclasses.field(default_factory=list)
    missed: dict[str, int] = dataclasses.field(default_factory=dict)
    start: State | None = None
    best: State | None = None
    error: ItemError | None = None
    pictures: tuple[str, ...] = ()
    seed: int = 0
    inversion: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    _stages: list[tuple[int, Recipe]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._stages = stages(self.recipe)
        if self.inversion_rounds:
            first = inverting(self.recipe, self.pictures)
            self._stages.insert(0, (self.inversion_rounds, first))
        self.begin_stage()

    @property
    def missed_detections(self) -> int:
        """How many detections were in vain, over all insets."""
        return sum(self.missed.values())

    @property
    def round(self) -> int:
        """How many rounds are done, those of the inversion included."""
        return len(self.scores)

    @property
    def inversion_rounds(self) -> int:
        """Rounds before the recipe's first one."""
        return self.recipe.inversion.rounds if self.pictures else 0

    @property
    def is_inverting(self) -> bool:
        """Whether this round belongs to the inversion."""
        return self.round < self.inversion_rounds

    @property
    def moves(self) -> bool:
        """Whether rounds are left for it, and it has not failed."""
        return self.error is None and self.round < self.inversion_rounds + self.recipe.rounds

    @property
    def now(self) -> Recipe:
        """The recipe as it is in this round's stage."""
        return schedule.stage_of(self._stages, self.round)[1]

    def begin_stage(self) -> None:
        """At the start of a round: if a stage begins, reset step counts and set references."""
        begins, recipe = schedule.stage_of(self._stages, self.round)
        if begins != self.round:
            return
        self.stage_steps = dict.fromkeys(self.moments, 0)
        self.references = self.given | self.references
        for name, settings in recipe.generators.items():
            if settings.anchor == "given":
                self.references[name] = self.given[name]
                self.anchors.pop(name, None)
            elif settings.anchor == "stage" and name in self.images:
                self.references[name] = self.images[name]
                self.anchors[name] = self.moments[name].latents

    @property
    def stop(self) -> str:
        """Why the item is done ("converged", "max_rounds", "diverged"); empty while it is not."""
        if self.error is not None:
            return "diverged"
        last_stage_begins = sum(rounds for rounds, _ in self._stages[:-1])
        scores = self.scores[self.inversion_rounds :]
        if self.round > last_stage_begins and schedule.has_converged(self.recipe, scores):
            return "converged"
        return "" if self.moves else "max_rounds"

    def finished(self) -> Finished:
        """The item as it is released."""
        assert self.start is not None
        return Finished(
            key=self.key,
            start=self.start,
            best=self.best or self.start,
            inset_boxes=self.inset_boxes,
            scores=self.scores,
            steps=sum(m.step for m in self.moments.values()),
            missed_detections=self.missed_detections,
            trace=self.trace,
            stop=self.stop,
            references=self.given,
            film=self.film,
            error=self.error,
            inversion=self.inversion,
        )

    def state_dict(self) -> dict[str, Any]:
        """What another machine needs, beside the item's `Start`, to go on with it.

        Tensors, numbers, texts, lists and dictionaries only.
        """
        return {
            "scores": list(self.scores),
            # A trace row never changes, so it needs no copy.
            "trace": [
                {field: getattr(row, field) for field in TraceRow.__slots__} for row in self.trace
            ],
            "stage_steps": dict(self.stage_steps),
            "missed": dict(self.missed),
            "canvas_boxes": _plain(self.canvas_boxes),
            "regions": _plain(self.regions),
            "anchors": _copies(self.anchors),
            "moments": {
                name: _copies({"latents": m.latents, "first": m.first, "second": m.second})
                | {"step": m.step}
                for name, m in self.moments.items()
            },
            "best": self.best and _saved(self.best),
            # What it was before anything moved follows from its `Start`; after an inversion it does
            # not.
            "start": _saved(self.start) if self.start and self.inversion else {},
            "inversion": {name: dict(errors) for name, errors in self.inversion.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all that `state_dict` gave; `SlotOptimizer.load` sets images and references.

        Raises `CheckpointError` for latents of another shape, which cannot be stacked with those of
        the batch's other items.
        """
        moments = {name: MovingLatents(**m) for name, m in state["moments"].items()}
        if (found := _shapes(moments)) != (expected := _shapes(self.moments)):
            raise CheckpointError(f"a state of latents {found}, expected {expected}")
        self.scores = list(state["scores"])
        self.trace = [TraceRow(**row) for row in state["trace"]]
        self.stage_steps = dict(state["stage_steps"])
        self.missed = dict(state["missed"])
        self.canvas_boxes = _boxes(state["canvas_boxes"])
        self.regions = _boxes(state["regions"])
        self.anchors = dict(state["anchors"])
        self.moments = moments
        self.inversion = {name: dict(errors) for name, errors in state["inversion"].items()}


def _saved(state: State) -> dict[str, Any]:
    """A state without its images, which follow from its latents."""
    return {
        "round": state.round,
        "score": state.score,
        "terms": dict(state.terms),
        "latents": _copies(state.latents),
        "regions": _plain(state.regions),
    }


def _copies(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Copies of the tensors: a view of the batch's tensor would be saved with all of it."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _shapes(moments: dict[str, MovingLatents]) -> dict[str, list[list[int]]]:
    """Of latents and Adam's moments, by generator."""
    return {n: [list(t.shape) for t in (m.latents, m.first, m.second)] for n, m in moments.items()}


def _plain(boxes: dict[str, Box]) -> dict[str, list[float]]:
    return {name: list(box.as_tuple()) for name, box in boxes.items()}


def _boxes(plain: dict[str, list[float]]) -> dict[str, Box]:
    return {name: Box.of(corners) for name, corners in plain.items()}
