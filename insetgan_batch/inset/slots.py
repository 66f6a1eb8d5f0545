"""The continuous batch: items are admitted, moved by whole rounds, and released when they are done.

All items share one clock: everybody is in the canvas phase, then everybody in each inset's phase.
At the end of a canvas phase the detector looks at all canvases again; at the end of a round
converged items leave and others may enter. Nothing is averaged over items: each has its own losses,
Adam moments and step counts, regions and trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from insetgan_batch import boxes
from insetgan_batch.boxes import Box
from insetgan_batch.errors import (
    BadInputError,
    ConfigError,
    DivergedError,
    ItemError,
    LostFaceError,
    NoFaceFoundError,
)
from insetgan_batch.inset import compose, images, schedule
from insetgan_batch.inset.adam import MovingLatents
from insetgan_batch.inset.inversion import Inverted, Noise
from insetgan_batch.inset.objective import (
    CanvasObjective,
    InsetObjective,
    Objective,
    Terms,
    boxes_as_tensor,
    term_weights,
)
from insetgan_batch.inset.phase import Phase
from insetgan_batch.inset.phase_renderer import PhaseRenderer
from insetgan_batch.inset.states import Finished, Slot, Start, State, TraceRow
from insetgan_batch.nets.detector import Detector, Segmenter
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.identity import Identity
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.recipe import CANVAS, GeneratorSettings, Guards, Recipe

_MOST_CANVASES = 4  # of a region's height: a larger one fills the memory with nothing to see
_NO_SEGMENTERS: Mapping[str, Segmenter] = {}
_NO_IDENTITIES: Mapping[str, Identity] = {}


class SlotOptimizer:
    """A batch of at most `capacity` items with their generators on one device.

    By inset: detectors, asked once where the part is in the inset; canvas_detectors, asked where it
    is on the canvas, at the start and after each phase of the canvas; segmenters, for insets of
    which the part alone is pasted; identities, for insets that are faces. Boxes of what has no
    detector come with the items, and regions then stay. film_every: keep the composite of every so
    many steps, 0 for none.
    """

    def __init__(
        self,
        *,
        canvas: Generator,
        insets: Mapping[str, Generator],
        detectors: Mapping[str, Detector],
        canvas_detectors: Mapping[str, Detector],
        perceptual: Perceptual,
        recipe: Recipe,
        capacity: int,
        segmenters: Mapping[str, Segmenter] = _NO_SEGMENTERS,
        identities: Mapping[str, Identity] = _NO_IDENTITIES,
        film_every: int = 0,
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
        self._detectors, self._canvas_detectors = detectors, canvas_detectors
        self._segmenters, self._identities = segmenters, identities
        self._perceptual = perceptual
        self._recipe = recipe
        self._slots: list[Slot] = []
        self._inversion = Inverted(perceptual, identities)
        self._noise = Noise(self._generators)
        self._film_every = film_every
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
        self._slots.append(self._slot(start))

    def run_round(
        self,
        on_step: Callable[[], None] = lambda: None,
        on_phase: Callable[[str], None] = lambda name: None,
    ) -> None:
        """One phase of every generator for all items inside.

        on_step: called every step; on_phase: with the generator's name, when its phase has ended.
        """
        for slot in self._slots:
            slot.begin_stage()
        for name in self._recipe.phases:
            moved = self._run_phase(name, on_step)
            if name == CANVAS:
                self._find_again(moved)
            on_phase(name)
        moving = [slot for slot in self._slots if slot.moves]
        for slot, state in zip(moving, self._assess(moving), strict=True):
            was_inverting = slot.is_inverting
            slot.scores.append(state.score)
            if not was_inverting:
                _judge(slot, state)
            elif not slot.is_inverting:
                self._inversion.end(slot, state)

    def release(self) -> list[Finished]:
        """Let those go that have converged, used up their rounds or diverged."""
        done = [slot for slot in self._slots if slot.stop]
        self._slots = [slot for slot in self._slots if not slot.stop]
        return [slot.finished() for slot in done]

    def save(self, key: str) -> dict[str, Any]:
        """The state of an item between rounds, for `load` on any machine; it stays inside."""
        (slot,) = (slot for slot in self._slots if slot.key == key)
        return slot.state_dict()

    def give_up(self, key: str, error: ItemError) -> None:
        """Let an item leave with that error at the next `release`."""
        (slot,) = (slot for slot in self._slots if slot.key == key)
        slot.error = error

    def load(self, start: Start, state: dict[str, Any]) -> None:
        """Take an item in that has been somewhere else: its `Start`, and what `save` gave there.

        Nothing has changed when it raises, whatever it is, because of that state.
        """
        assert self.free > 0, "no free slot"
        slot = self._slot(start)
        slot.load_state_dict(state)
        self._paint_all(slot)
        slot.references = slot.given | self._paint_from(slot.anchors)
        slot.best = self._restored(slot, state["best"])
        slot.start = self._restored(slot, state["start"]) or slot.start
        self._slots.append(slot)

    def _restored(self, slot: Slot, saved: dict[str, Any] | None) -> State | None:
        """A state that was saved, with its images."""
        if not saved:
            return None
        return State(
            round=saved["round"],
            score=saved["score"],
            terms=saved["terms"],
            latents=saved["latents"],
            images=self._paint_from(saved["latents"]),
            regions={name: Box.of(corners) for name, corners in saved["regions"].items()},
            masks=slot.masks,
        )

    # ---- entering ------------------------------------------------------------------------------

    def _slot(self, start: Start) -> Slot:
        inset_boxes = {name: self._first_box(name, name, start) for name in self._insets}
        canvas_boxes = {name: self._first_box(CANVAS, name, start) for name in self._insets}
        slot = Slot(
            key=start.key,
            recipe=start.recipe,
            given=dict(start.references),
            inset_boxes=inset_boxes,
            canvas_boxes=canvas_boxes,
            regions={
                name: self._region(start.recipe, name, canvas_boxes[name], inset_boxes[name])
                for name in self._insets
            },
            masks={},
            moments={name: MovingLatents.at_rest(start.latents[name]) for name in self._generators},
            pictures=start.pictures,
            seed=start.seed,
        )
        self._paint_all(slot)
        for name, settings in slot.recipe.insets.items():
            if settings.region == "mask":
                pixels = images.to_pixels(start.references[name][None])
                slot.masks[name] = self._segmenters[name].mask(pixels)[0]
        slot.start = self._assess([slot])[0]
        if slot.pictures and not slot.inversion_rounds:
            self._inversion.end(slot, slot.start)
        return slot

    def _first_box(self, where: str, inset: str, start: Start) -> Box:
        """Where an inset's part is: on the canvas, or in the inset itself."""
        if where in start.boxes:
            return start.boxes[where]
        detectors = self._canvas_detectors if where == CANVAS else self._detectors
        if inset not in detectors:
            raise NoFaceFoundError(f"no detector for the {where}, and the item names no box")
        found = detectors[inset].find(images.to_pixels(start.references[where][None]))[0]
        if found is None:
            what = "face" if inset == "face" else f"part `{inset}`"
            raise NoFaceFoundError(f"no {what} in the {where}'s reference image")
        return found

    def _region(self, recipe: Recipe, name: str, canvas_box: Box, inset_box: Box) -> Box:
        """Upright also where it should be turned, if the detector gives no landmarks."""
        generator = self._generators[name]
        is_turned = recipe.insets[name].align == "similarity"
        if is_turned and canvas_box.landmarks and inset_box.landmarks:
            align = boxes.align_landmarks
        else:
            align = boxes.align
        region = align(canvas_box, inset_box, generator.height, generator.width)
        canvas = self._generators[CANVAS]
        if region.height > _MOST_CANVASES * canvas.height:
            raise BadInputError(
                f"inset `{name}` would cover {region.height:.0f} pixels of a canvas {canvas.height}"
                f" high, expected {_MOST_CANVASES} times that at most: the part is"
                f" {inset_box.height:.0f} high in the inset and {canvas_box.height:.0f} on the"
                " canvas; check both boxes"
            )
        return region

    def _paint_all(self, slot: Slot) -> None:
        for name in self._generators:
            slot.images[name] = self._paint(name, [slot])[0]

    def _paint_from(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images `[3 H W]` of latents `[1+l c]`, by generator."""
        with torch.no_grad():
            return {name: self._synthesise(name, x[None])[0] for name, x in latents.items()}

    # ---- phases --------------------------------------------------------------------------------

    def _run_phase(self, name: str, on_step: Callable[[], None]) -> list[Slot]:
        """Move one generator of every item whose stage moves it; returns these items.

        Those with the same steps go together: shapes stay fixed, nobody waits. Those that are
        inverted go by themselves, since they are compared with something else.
        """
        groups: dict[tuple[int, float, bool], list[Slot]] = {}
        for slot in self._slots:
            if slot.moves and (steps := slot.now.generators[name].steps):
                kind = (steps, slot.now.full_share, slot.is_inverting)
                groups.setdefault(kind, []).append(slot)
        for (steps, *_), slots in groups.items():
            self._move(name, slots, steps, on_step)
        return [slot for slots in groups.values() for slot in slots]

    def _move(self, name: str, slots: list[Slot], count: int, on_step: Callable[[], None]) -> None:
        recipes = [slot.now for slot in slots]
        renderer = self._renderer(name, slots)
        share = recipes[0].full_share
        is_full = [renderer.is_whole or schedule.is_full(share, number) for number in range(count)]
        objectives = {
            full: self._objective(
                name,
                slots,
                recipes,
                self._perceptual.low_precision,
                None if full else renderer.height,
            )
            for full in set(is_full)
        }
        weights = [self._weights_of_steps(name, slot, count) for slot in slots]
        moving = [slot.moments[name] for slot in slots]
        phase = Phase(
            moving,
            [recipe.generators[name] for recipe in recipes],
            rates=[_rates_of_steps(name, slot, count) for slot in slots],
            weights=weights,
            noise=self._noise.of(name, slots, count),
        )
        for number, full in enumerate(is_full):
            self._film(name, slots, phase.latents, number)
            phase.step(renderer.full() if full else renderer.low(), objectives[full])
            on_step()
        values = phase.end()
        _record(name, slots, phase.terms, values, weights)
        for slot, image in zip(slots, self._paint(name, slots), strict=True):
            slot.stage_steps[name] += count
            slot.images[name] = image

    def _film(self, name: str, slots: list[Slot], latents: Tensor, number: int) -> None:
        """Keep frames of the items whose turn it is, before a step of a phase (from 0)."""
        for slot, own in zip(slots, latents, strict=True):
            done = sum(m.step for m in slot.moments.values()) + number
            if self._film_every and done % self._film_every == 0:
                self._keep_frame(slot, self._paint_from({name: own}))

    def _keep_frame(self, slot: Slot, moving: dict[str, Tensor]) -> None:
        """The composite as it stands with the image of the generator that moves, for the film."""
        painted = slot.images | moving
        insets = {inset: painted[inset] for inset in self._insets}
        whole = compose.compose(painted[CANVAS], insets, slot.regions, slot.masks)
        slot.film.append(images.to_pixels(whole[None])[0].cpu().numpy())

    def _synthesise(self, name: str, latents: Tensor) -> Tensor:
        """Images `[n 3 H W]` of latents `[n 1+l c]`."""
        generator = self._generators[name]
        return generator.synthesise(generator.ws_of(latents))

    def _paint(self, name: str, slots: list[Slot]) -> Tensor:
        with torch.no_grad():
            return self._synthesise(name, torch.stack([s.moments[name].latents for s in slots]))

    def _renderer(self, name: str, slots: list[Slot]) -> PhaseRenderer:
        """What renders these items' images in the phase that begins."""
        recipe = self._recipe
        rendered = torch.stack([slot.images[name] for slot in slots])
        return PhaseRenderer(
            self._generators[name],
            side=max(recipe.picture_size, recipe.resolution),
            latents=torch.stack([slot.moments[name].latents for slot in slots]),
            rendered=rendered,
            regions=self._regions(slots, rendered) if name == CANVAS else {},
        )

    def _objective(
        self,
        name: str,
        slots: list[Slot],
        recipes: list[Recipe],
        perceptual: Perceptual,
        height: int | None = None,
    ) -> Objective:
        """What the generator is held to, for these items; its whole pictures at that height."""
        wanted = {
            term
            for recipe in recipes
            for term, weight in self._weights(name, recipe.generators[name]).items()
            if weight > 0
        }
        reference = torch.stack([slot.references[name] for slot in slots])
        w_avg = self._generators[name].w_avg
        # Which insets are cut out along a mask belongs to the run, so it is the same for all items.
        masks = {n: torch.stack([slot.masks[n] for slot in slots]) for n in slots[0].masks}
        if name == CANVAS:
            return CanvasObjective(
                wanted=wanted,
                perceptual=perceptual,
                reference=reference,
                insets={n: torch.stack([s.images[n] for s in slots]) for n in self._insets},
                regions=self._regions(slots, reference),
                w_avg=w_avg,
                resolution=self._recipe.resolution,
                coarse_size=self._recipe.coarse_size,
                inversion_size=self._recipe.inversion.resolution,
                masks=masks,
                height=height,
            )
        return InsetObjective(
            name,
            wanted=wanted,
            perceptual=perceptual,
            reference=reference,
            box=boxes_as_tensor([slot.inset_boxes[name] for slot in slots], reference),
            canvas=torch.stack([slot.images[CANVAS] for slot in slots]),
            region=boxes_as_tensor([slot.regions[name] for slot in slots], reference),
            w_avg=w_avg,
            resolution=self._recipe.resolution,
            coarse_size=self._recipe.coarse_size,
            inversion_size=self._recipe.inversion.resolution,
            mask=masks.get(name),
            faces=self._identities.get(name),
            height=height,
        )

    def _regions(self, slots: list[Slot], like: Tensor) -> dict[str, Tensor]:
        """Where the insets lie on the canvases, `[n 5]` each."""
        return {n: boxes_as_tensor([slot.regions[n] for slot in slots], like) for n in self._insets}

    def _weights(
        self, name: str, settings: GeneratorSettings, border_ramp: float = 1.0
    ) -> dict[str, float]:
        return term_weights(name, settings, self._insets if name == CANVAS else [name], border_ramp)

    def _weights_of_steps(self, name: str, slot: Slot, count: int) -> list[dict[str, float]]:
        """Of an item's next steps of a generator."""
        recipe, first = slot.now, slot.stage_steps[name]
        settings = recipe.generators[name]
        ramps = [schedule.border_ramp(recipe, settings, first + i) for i in range(count)]
        return [self._weights(name, settings, ramp) for ramp in ramps]

    # ---- between phases ------------------------------------------------------------------------

    def _find_again(self, moved: list[Slot]) -> None:
        """Look for the parts on every canvas, and move the regions towards where they are now."""
        slots = [slot for slot in moved if slot.error is None and slot.now.region_step > 0]
        if not slots:
            return
        pixels = images.to_pixels(torch.stack([slot.images[CANVAS] for slot in slots]))
        answers: dict[int, list[Box | None]] = {}  # one search serves all insets of a detector
        for name, detector in self._canvas_detectors.items():
            if id(detector) not in answers:
                answers[id(detector)] = detector.find(pixels)
            for slot, found in zip(slots, answers[id(detector)], strict=True):
                try:
                    self._follow(slot, name, found)
                except ItemError as err:  # its region has grown too large; the others go on
                    slot.error = err

    def _follow(self, slot: Slot, name: str, found: Box | None) -> None:
        height, width = slot.images[CANVAS].shape[1:]
        before = slot.canvas_boxes[name]
        is_seen = found is not None and _plausible(found, before)
        if found is None or not (is_seen and _allowed(found, slot.recipe.guards, height, width)):
            slot.missed[name] = misses = slot.missed.get(name, 0) + 1
            if misses >= slot.recipe.max_missed:
                slot.error = LostFaceError(
                    f"the {name} was not where it had been on the canvas, {misses} times"
                )
            return
        target = self._region(slot.recipe, name, found, slot.inset_boxes[name])
        step = slot.now.region_step
        slot.canvas_boxes[name] = boxes.move(before, found, step)
        slack = slot.recipe.region_slack
        slot.regions[name] = boxes.move(slot.regions[name], target, step, slack)

    def _assess(self, slots: list[Slot]) -> list[State]:
        """The score of every item as it stands: all weighted terms of all generators, by the
        recipe's own weights, without ramps and stages.
        """
        if not slots:
            return []
        raw: Terms = {}
        score = slots[0].images[CANVAS].new_zeros(len(slots))
        recipes = [slot.recipe for slot in slots]
        own: list[set[str]] = [set() for _ in slots]
        with torch.no_grad():
            for name in self._generators:
                image = torch.stack([slot.images[name] for slot in slots])
                latents = torch.stack([slot.moments[name].latents for slot in slots])
                objective = self._objective(name, slots, recipes, self._perceptual)
                terms = objective.terms(image, latents)
                weights = [self._weights(name, recipe.generators[name]) for recipe in recipes]
                score = score + _weighted(terms, weights)
                raw |= terms
                for names, w in zip(own, weights, strict=True):
                    names |= _own(terms, w)
        columns = {term: values.tolist() for term, values in raw.items()}
        return [
            State(
                round=slot.round + 1 if slot.start else 0,
                score=value,
                terms={term: values[i] for term, values in columns.items() if term in own[i]},
                latents={name: m.latents for name, m in slot.moments.items()},
                images=dict(slot.images),
                regions=dict(slot.regions),
                masks=slot.masks,
            )
            for i, (slot, value) in enumerate(zip(slots, score.tolist(), strict=True))
        ]


def _player(recipe: Recipe, name: str) -> GeneratorSettings:
    return recipe.canvas if name == CANVAS else recipe.insets[name]


def _rates_of_steps(name: str, slot: Slot, count: int) -> list[float]:
    """Step sizes of an item's next steps of a generator."""
    recipe, first = slot.now, slot.stage_steps[name]
    settings = recipe.generators[name]
    return [schedule.learning_rate(recipe, settings, first + i) for i in range(count)]


def _judge(slot: Slot, state: State) -> None:
    """Keep a round's state if it is the best so far; fail an item that runs away."""
    assert slot.start is not None
    bound = slot.recipe.max_rise * slot.start.score
    if not math.isfinite(state.score):
        slot.error = DivergedError(f"the score of round {state.round} is {state.score}")
    elif state.score > bound > 0:
        slot.error = DivergedError(
            f"the score of round {state.round} is {state.score:.4g}, more than"
            f" {slot.recipe.max_rise:g} times the one at the start"
        )
    else:
        best = None if slot.best is None else slot.best.score
        own_round = state.round - slot.inversion_rounds
        if schedule.is_better(slot.recipe, own_round, state.score, best):
            slot.best = state


def _plausible(found: Box, before: Box) -> bool:
    """Whether a detection can be the same part: less than half a box away, and less than twice as
    large or small.
    """
    dx, dy = (a - b for a, b in zip(found.centre, before.centre, strict=True))
    growth = (found.width * found.height) / (before.width * before.height)
    return abs(dx) < before.width / 2 and abs(dy) < before.height / 2 and 0.5 < growth < 2.0


def _allowed(found: Box, guards: Guards, height: int, width: int) -> bool:
    """Whether a detection lies within the recipe's guards."""
    off_centre = abs(found.centre[0] - width / 2) / width
    checks = (
        (guards.min_height, found.height / height, 1),
        (guards.max_height, found.height / height, -1),
        (guards.min_top, found.y0 / height, 1),
        (guards.max_top, found.y0 / height, -1),
        (guards.max_off_centre, off_centre, -1),
    )
    return all(limit is None or sign * (value - limit) >= 0 for limit, value, sign in checks)


def _weighted(terms: Terms, weights: list[dict[str, float]]) -> Tensor:
    """Sum of weight x raw loss, per item `[n]`."""
    return torch.stack(
        [
            value * value.new_tensor([w.get(term, 0.0) for w in weights])
            for term, value in terms.items()
        ]
    ).sum(dim=0)


def _own(terms: Iterable[str], weights: Mapping[str, float]) -> set[str]:
    """The terms of an item with these weights; others are computed for a neighbour only."""
    return {t for t in terms if weights.get(t, 0.0) > 0 or t.endswith((".latent", ".delta"))}


def _record(
    name: str,
    slots: list[Slot],
    terms: list[str],
    values: Tensor,
    weights: list[list[dict[str, float]]],
) -> None:
    """Move a phase's losses `[steps terms n]` to the items' traces: one transfer from the device
    for all of it.
    """
    fetched = values.cpu().numpy()
    for i, (slot, weights_of_steps) in enumerate(zip(slots, weights, strict=True)):
        own = _own(terms, weights_of_steps[0])
        columns = [number for number, term in enumerate(terms) if term in own]
        names = [terms[column] for column in columns]
        last = slot.moments[name].step
        steps = range(last - len(fetched), last)
        rows = zip(fetched[:, columns, i], weights_of_steps, steps, strict=True)
        for row, in_force, step in rows:
            slot.trace.append(
                TraceRow(
                    round=slot.round + 1,
                    phase=name,
                    step=step,
                    raw=dict(zip(names, row.tolist(), strict=True)),
                    weight={term: in_force[term] for term in names},
                )
            )
        if not np.isfinite(fetched[:, columns, i]).all():
            number = slot.round + 1
            slot.error = DivergedError(f"a loss of the {name} is not finite in round {number}")
