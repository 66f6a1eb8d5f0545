"""The continuous batch: items are admitted, moved by whole rounds, and released when they are done.

All items share one clock: everybody is in the canvas phase, then everybody in each inset's phase.
At the end of a canvas phase the detector looks at all canvases again; at the end of a round
converged items leave and others may enter. Nothing is averaged over items: each has its own losses,
Adam moments and step counts, regions and trace.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from insetgan_batch import boxes
from insetgan_batch.boxes import Box
from insetgan_batch.config import Player, Recipe
from insetgan_batch.errors import ConfigError, DivergedError, ItemError, NoFaceFoundError
from insetgan_batch.inset import images, schedule
from insetgan_batch.inset.adam import MovingLatents, adam_step
from insetgan_batch.inset.objective import (
    CANVAS,
    CanvasObjective,
    InsetObjective,
    Objective,
    Terms,
    term_weights,
)
from insetgan_batch.inset.states import Finished, Start, State, TraceRow
from insetgan_batch.nets.detector import Detector
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual


@dataclasses.dataclass(slots=True)
class _Slot:
    """One item in the batch."""

    key: str
    recipe: Recipe
    references: dict[str, Tensor]
    inset_boxes: dict[str, Box]
    canvas_boxes: dict[str, Box]
    regions: dict[str, Box]
    moments: dict[str, MovingLatents]
    images: dict[str, Tensor]
    scores: list[float] = dataclasses.field(default_factory=list)
    trace: list[TraceRow] = dataclasses.field(default_factory=list)
    missed_detections: int = 0
    start: State | None = None
    best: State | None = None
    error: ItemError | None = None

    @property
    def round(self) -> int:
        """Rounds done."""
        return len(self.scores)


class SlotOptimizer:
    """A batch of at most `capacity` items with their generators on one device.

    detectors: by generator; an inset's is asked once, the canvas' after each of its phases. Boxes
    of a generator without one come with the items; without the canvas' one regions stay.
    """

    def __init__(
        self,
        *,
        canvas: Generator,
        insets: Mapping[str, Generator],
        detectors: Mapping[str, Detector],
        perceptual: Perceptual,
        recipe: Recipe,
        capacity: int,
    ) -> None:
        """Raises `ConfigError` when the generators do not fit the recipe."""
        for name, generator in insets.items():
            if not generator.height == generator.width >= recipe.resolution:
                raise ConfigError(
                    f"inset `{name}` paints {generator.height}x{generator.width}, expected a square"
                    f" of at least recipe.resolution ({recipe.resolution})"
                )
        self._generators = {CANVAS: canvas, **insets}
        self._insets = list(insets)
        self._detectors = detectors
        self._perceptual = perceptual
        self._recipe = recipe
        self._slots: list[_Slot] = []
        self.capacity = capacity

    @property
    def free(self) -> int:
        """Places for new items."""
        return self.capacity - len(self._slots)

    @property
    def keys(self) -> list[str]:
        """The items inside."""
        return [slot.key for slot in self._slots]

    def admit(self, start: Start) -> None:
        """Take an item in, between rounds; raises `NoFaceFoundError` where a part is not found."""
        assert self.free > 0, "no free slot"
        inset_boxes = {name: self._first_box(name, start) for name in self._insets}
        # The detector sees one part per canvas image so far: every inset shares it.
        canvas_box = self._first_box(CANVAS, start)
        slot = _Slot(
            key=start.key,
            recipe=start.recipe,
            references=start.references,
            inset_boxes=inset_boxes,
            canvas_boxes=dict.fromkeys(self._insets, canvas_box),
            regions={
                name: self._region(name, canvas_box, inset_boxes[name]) for name in self._insets
            },
            moments={name: MovingLatents.at_rest(start.latents[name]) for name in self._generators},
            images={},
        )
        for name in self._generators:
            slot.images[name] = self._paint(name, [slot])[0]
        slot.start = self._assess([slot])[0]
        self._slots.append(slot)

    def run_round(self, on_step: Callable[[], None] = lambda: None) -> None:
        """One phase of every generator for all items inside; `on_step` is called every step."""
        self._run_phase(CANVAS, on_step)
        self._find_again()
        for name in self._insets:
            self._run_phase(name, on_step)
        healthy = [slot for slot in self._slots if slot.error is None]
        for slot, state in zip(healthy, self._assess(healthy), strict=True):
            slot.scores.append(state.score)
            if not math.isfinite(state.score):
                slot.error = DivergedError(f"the score of round {state.round} is {state.score}")
            elif slot.best is None or state.score < slot.best.score:
                slot.best = state

    def release(self) -> list[Finished]:
        """Let those go that have converged, used up their rounds or diverged."""
        done = [(slot, stop) for slot in self._slots if (stop := _stop(slot))]
        self._slots = [slot for slot in self._slots if not _stop(slot)]
        return [_finished(slot, stop) for slot, stop in done]

    # ---- entering ------------------------------------------------------------------------------

    def _first_box(self, name: str, start: Start) -> Box:
        if name in start.boxes:
            return start.boxes[name]
        detector = self._detectors.get(name)
        if detector is None:
            raise NoFaceFoundError(f"no detector for the {name}, and the item names no box")
        found = detector.find(images.to_pixels(start.references[name][None]))[0]
        if found is None:
            raise NoFaceFoundError(f"no face in the {name}'s reference image")
        return found

    def _region(self, name: str, canvas_box: Box, inset_box: Box) -> Box:
        generator = self._generators[name]
        return boxes.align(canvas_box, inset_box, generator.height, generator.width)

    # ---- phases --------------------------------------------------------------------------------

    def _run_phase(self, name: str, on_step: Callable[[], None]) -> None:
        """Move one generator of every healthy item; the others stand still."""
        slots = [slot for slot in self._slots if slot.error is None]
        if not slots:
            return
        objective = self._objective(name, slots)
        players = [_player(slot.recipe, name) for slot in slots]
        history: list[tuple[Terms, list[dict[str, float]], list[int]]] = []
        # The number of steps is the clock that all items share; it is the batch's, not an item's.
        for _ in range(_player(self._recipe, name).steps):
            steps = [slot.moments[name].step for slot in slots]
            weights = [
                self._weights(name, player, schedule.border_ramp(slot.recipe, player, step))
                for slot, player, step in zip(slots, players, steps, strict=True)
            ]
            rates = [
                schedule.learning_rate(slot.recipe, player, step)
                for slot, player, step in zip(slots, players, steps, strict=True)
            ]
            terms = self._step(name, slots, objective, weights, rates)
            history.append((terms, weights, steps))
            on_step()
        _record(name, slots, history)
        for slot, image in zip(slots, self._paint(name, slots), strict=True):
            slot.images[name] = image

    def _step(
        self,
        name: str,
        slots: list[_Slot],
        objective: Objective,
        weights: list[dict[str, float]],
        rates: list[float],
    ) -> Terms:
        """One optimiser step of one generator; returns the raw terms before it, `[n]` each."""
        moments = [slot.moments[name] for slot in slots]
        latents = torch.stack([m.latents for m in moments]).requires_grad_(True)
        terms = objective.terms(self._synthesize(name, latents), latents)
        loss = _weighted(terms, weights)
        # The sum keeps items apart: the gradient of each is that of its own loss.
        (gradient,) = torch.autograd.grad(loss.sum(), latents)
        adam_step(moments, gradient, rates)
        return {term: value.detach() for term, value in terms.items()}

    def _synthesize(self, name: str, latents: Tensor) -> Tensor:
        """Images `[n 3 H W]` of latents `[n 1+l c]`: ws = w + delta."""
        return self._generators[name].synthesise(latents[:, :1] + latents[:, 1:])

    def _paint(self, name: str, slots: list[_Slot]) -> Tensor:
        with torch.no_grad():
            return self._synthesize(name, torch.stack([s.moments[name].latents for s in slots]))

    def _objective(self, name: str, slots: list[_Slot]) -> Objective:
        """What the generator is held to in this phase, for these items."""
        wanted = {
            term
            for slot in slots
            for term, weight in self._weights(name, _player(slot.recipe, name)).items()
            if weight > 0
        }
        reference = torch.stack([slot.references[name] for slot in slots])
        device = reference.device
        w_avg = self._generators[name].w_avg
        if name == CANVAS:
            return CanvasObjective(
                wanted=wanted,
                perceptual=self._perceptual,
                reference=reference,
                insets={n: torch.stack([s.images[n] for s in slots]) for n in self._insets},
                regions={n: _tensor([s.regions[n] for s in slots], device) for n in self._insets},
                w_avg=w_avg,
                resolution=self._recipe.resolution,
                coarse_size=self._recipe.coarse_size,
            )
        return InsetObjective(
            name,
            wanted=wanted,
            perceptual=self._perceptual,
            reference=reference,
            box=_tensor([slot.inset_boxes[name] for slot in slots], device),
            canvas=torch.stack([slot.images[CANVAS] for slot in slots]),
            region=_tensor([slot.regions[name] for slot in slots], device),
            w_avg=w_avg,
            resolution=self._recipe.resolution,
            coarse_size=self._recipe.coarse_size,
        )

    def _weights(self, name: str, player: Player, border_ramp: float = 1.0) -> dict[str, float]:
        return term_weights(name, player, self._insets if name == CANVAS else [name], border_ramp)

    # ---- between phases ------------------------------------------------------------------------

    def _find_again(self) -> None:
        """Look for the part on every canvas, and move the regions towards where it is now."""
        slots = [slot for slot in self._slots if slot.error is None]
        detector = self._detectors.get(CANVAS)
        if not slots or detector is None:
            return
        pixels = images.to_pixels(torch.stack([slot.images[CANVAS] for slot in slots]))
        for slot, found in zip(slots, detector.find(pixels), strict=True):
            for name in self._insets:
                if found is None or not _plausible(found, slot.canvas_boxes[name]):
                    slot.missed_detections += 1
                    continue
                target = self._region(name, found, slot.inset_boxes[name])
                step = slot.recipe.region_step
                slot.canvas_boxes[name] = boxes.move(slot.canvas_boxes[name], found, step)
                slot.regions[name] = boxes.move(slot.regions[name], target, step)

    def _assess(self, slots: list[_Slot]) -> list[State]:
        """The score of every item as it stands: all weighted terms of all generators, without
        ramps.
        """
        if not slots:
            return []
        raw: Terms = {}
        score = torch.zeros(len(slots), device=slots[0].images[CANVAS].device)
        with torch.no_grad():
            for name in self._generators:
                image = torch.stack([slot.images[name] for slot in slots])
                latents = torch.stack([slot.moments[name].latents for slot in slots])
                terms = self._objective(name, slots).terms(image, latents)
                weights = [self._weights(name, _player(slot.recipe, name)) for slot in slots]
                score = score + _weighted(terms, weights)
                raw |= terms
        columns = {term: values.tolist() for term, values in raw.items()}
        return [
            State(
                round=slot.round + 1 if slot.start else 0,
                score=value,
                terms={term: values[i] for term, values in columns.items()},
                latents={name: m.latents for name, m in slot.moments.items()},
                images=dict(slot.images),
                regions=dict(slot.regions),
            )
            for i, (slot, value) in enumerate(zip(slots, score.tolist(), strict=True))
        ]


def _player(recipe: Recipe, name: str) -> Player:
    return recipe.canvas if name == CANVAS else recipe.insets[name]


def _plausible(found: Box, before: Box) -> bool:
    """Whether a detection can be the same part: less than half a box away, and less than twice as
    large or small.
    """
    dx, dy = (a - b for a, b in zip(found.centre, before.centre, strict=True))
    growth = (found.width * found.height) / (before.width * before.height)
    return abs(dx) < before.width / 2 and abs(dy) < before.height / 2 and 0.5 < growth < 2.0


def _weighted(terms: Terms, weights: list[dict[str, float]]) -> Tensor:
    """Sum of weight x raw loss, per item `[n]`."""
    return torch.stack(
        [
            value * value.new_tensor([w.get(term, 0.0) for w in weights])
            for term, value in terms.items()
        ]
    ).sum(dim=0)


def _record(
    name: str, slots: list[_Slot], history: list[tuple[Terms, list[dict[str, float]], list[int]]]
) -> None:
    """Move a phase's losses to the items' traces: one transfer from the device for all of it."""
    terms = list(history[0][0])
    values = torch.stack([torch.stack([h[0][t] for t in terms]) for h in history]).cpu().numpy()
    for i, slot in enumerate(slots):
        for step_values, (_, weights, steps) in zip(values[:, :, i], history, strict=True):
            slot.trace.append(
                TraceRow(
                    round=slot.round + 1,
                    phase=name,
                    step=steps[i],
                    raw=dict(zip(terms, step_values.tolist(), strict=True)),
                    weight={term: weights[i].get(term, 0.0) for term in terms},
                )
            )
        if not np.isfinite(values[:, :, i]).all():
            number = slot.round + 1
            slot.error = DivergedError(f"a loss of the {name} is not finite in round {number}")


def _stop(slot: _Slot) -> str:
    """Why the item is done; empty while it is not."""
    if slot.error is not None:
        return "diverged"
    if schedule.has_converged(slot.recipe, slot.scores):
        return "converged"
    return "max_rounds" if slot.round >= slot.recipe.max_rounds else ""


def _finished(slot: _Slot, stop: str) -> Finished:
    assert slot.start is not None
    return Finished(
        key=slot.key,
        start=slot.start,
        best=slot.best or slot.start,
        inset_boxes=slot.inset_boxes,
        scores=slot.scores,
        steps=sum(m.step for m in slot.moments.values()),
        missed_detections=slot.missed_detections,
        trace=slot.trace,
        stop=stop,
        error=slot.error,
    )


def _tensor(items: list[Box], device: torch.device) -> Tensor:
    """Boxes as `[n 4]`."""
    return torch.tensor([box.as_tuple() for box in items], dtype=torch.float32, device=device)
