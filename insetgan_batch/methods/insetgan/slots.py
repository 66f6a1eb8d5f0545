"""The continuous batch: items are admitted, moved by whole rounds, and released when they are done.

All items share one clock: every item is in the canvas phase, then in each inset's phase. After a
canvas phase the parts are detected again (`tracking.py`); after a round items are scored
(`scoring.py`), converged ones leave and others may enter. Nothing is averaged over items: each has
its own losses, Adam moments and step counts, regions and trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.errors import ConfigError, ItemError
from insetgan_batch.methods.insetgan import schedule
from insetgan_batch.methods.insetgan.adam import MovingLatents
from insetgan_batch.methods.insetgan.film import Film
from insetgan_batch.methods.insetgan.inversion import InversionErrors, LatentNoise
from insetgan_batch.methods.insetgan.phase import Phase
from insetgan_batch.methods.insetgan.phase_renderer import PhaseRenderer
from insetgan_batch.methods.insetgan.recipe import CANVAS, Recipe
from insetgan_batch.methods.insetgan.scoring import Scorer, judge, record
from insetgan_batch.methods.insetgan.states import Finished, Slot, Start, State
from insetgan_batch.methods.insetgan.tracking import RegionTracker
from insetgan_batch.nets.detector import Detector, Segmenter
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.identity import Identity
from insetgan_batch.nets.perceptual import Perceptual

_NO_SEGMENTERS: Mapping[str, Segmenter] = {}
_NO_IDENTITIES: Mapping[str, Identity] = {}


class SlotOptimizer:
    """A batch of at most `capacity` items with their generators on one device.

    By inset: detectors find the part in the inset's reference, once; canvas_detectors find it on
    the canvas, at the start and after each phase of the canvas; segmenters are for insets of which
    the part alone is pasted; identities are for insets that are faces. Where there is no detector,
    boxes come with the items and regions stay. film_every: keep the composite of every so many
    steps, 0 for none.
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
        self._recipe = recipe
        self._slots: list[Slot] = []
        self._tracker = RegionTracker(canvas, insets, detectors, canvas_detectors, segmenters)
        self._scorer = Scorer(self._generators, perceptual, identities, recipe)
        self._inversion_errors = InversionErrors(perceptual, identities)
        self._noise = LatentNoise(self._generators)
        self._film = Film(list(insets), film_every)
        self.capacity = capacity

    @property
    def free(self) -> int:
        """How many more items can be admitted."""
        return self.capacity - len(self._slots)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The items in the batch, in the order in which they came in."""
        return tuple(self._slots)

    @property
    def keys(self) -> list[str]:
        """The keys of the items in the batch."""
        return [slot.key for slot in self._slots]

    def admit(self, start: Start) -> None:
        """Admit an item between rounds; raises `NoFaceFoundError` where a part is not found."""
        assert self.free > 0, "no free slot"
        self._slots.append(self._slot(start))

    def run_round(
        self,
        on_step: Callable[[], None] = lambda: None,
        on_phase: Callable[[str], None] = lambda name: None,
    ) -> None:
        """One phase of every generator for all items in the batch.

        on_step: called every step; on_phase: with the generator's name, when its phase has ended.
        """
        for slot in self._slots:
            slot.begin_stage()
        for name in self._recipe.phases:
            moved = self.run_phase(name, on_step)
            if name == CANVAS:
                self._tracker.follow(moved)
            on_phase(name)
        moving = [slot for slot in self._slots if slot.moves]
        for slot, state in zip(moving, self._scorer.assess(moving), strict=True):
            was_inverting = slot.is_inverting
            slot.scores.append(state.score)
            if not was_inverting:
                judge(slot, state)
            elif not slot.is_inverting:
                self._inversion_errors.record(slot, state)

    def run_phase(self, name: str, on_step: Callable[[], None]) -> list[Slot]:
        """Move one generator of every item whose stage moves it; returns these items.

        Items with the same number of steps move as one batch. Items in their inversion are a batch
        of their own, since they have other losses.
        """
        groups: dict[tuple[int, float, bool], list[Slot]] = {}
        for slot in self._slots:
            if slot.moves and (steps := slot.now.generators[name].steps):
                kind = (steps, slot.now.full_share, slot.is_inverting)
                groups.setdefault(kind, []).append(slot)
        for (steps, *_), slots in groups.items():
            self._move(name, slots, steps, on_step)
        return [slot for slots in groups.values() for slot in slots]

    def release(self) -> list[Finished]:
        """Remove and return the items that have converged, used up their rounds or failed."""
        done = [slot for slot in self._slots if slot.stop]
        self._slots = [slot for slot in self._slots if not slot.stop]
        return [slot.finished() for slot in done]

    def save(self, key: str) -> dict[str, Any]:
        """The state of an item between rounds, for `load` on any machine; the item stays in the
        batch.
        """
        (slot,) = (slot for slot in self._slots if slot.key == key)
        return slot.state_dict()

    def give_up(self, key: str, error: ItemError) -> None:
        """Let an item leave with that error at the next `release`."""
        (slot,) = (slot for slot in self._slots if slot.key == key)
        slot.error = error

    def load(self, start: Start, state: dict[str, Any]) -> None:
        """Admit an item with the state that `save` gave in another batch.

        Where it raises because of that state, the batch is as it was.
        """
        assert self.free > 0, "no free slot"
        slot = self._slot(start)
        slot.load_state_dict(state)
        self._synthesise_all(slot)
        slot.references = slot.given | self._synthesise(slot.anchors)
        slot.best = self._restored(slot, state["best"])
        slot.start = self._restored(slot, state["start"]) or slot.start
        self._slots.append(slot)

    def _restored(self, slot: Slot, saved: dict[str, Any] | None) -> State | None:
        """The state that `save` gave as plain data, None for none; images are synthesised anew."""
        if not saved:
            return None
        return State(
            round=saved["round"],
            score=saved["score"],
            terms=saved["terms"],
            latents=saved["latents"],
            images=self._synthesise(saved["latents"]),
            regions={name: Box.of(corners) for name, corners in saved["regions"].items()},
            masks=slot.masks,
        )

    def _slot(self, start: Start) -> Slot:
        inset_boxes = self._tracker.inset_boxes(start)
        canvas_boxes = self._tracker.canvas_boxes(start)
        slot = Slot(
            key=start.key,
            recipe=start.recipe,
            given=dict(start.references),
            inset_boxes=inset_boxes,
            canvas_boxes=canvas_boxes,
            regions=self._tracker.regions(start.recipe, canvas_boxes, inset_boxes),
            masks=self._tracker.masks(start),
            moments={name: MovingLatents.at_rest(start.latents[name]) for name in self._generators},
            pictures=start.pictures,
            seed=start.seed,
        )
        self._synthesise_all(slot)
        slot.start = self._scorer.assess([slot])[0]
        if slot.pictures and not slot.inversion_rounds:
            self._inversion_errors.record(slot, slot.start)
        return slot

    def _synthesise_all(self, slot: Slot) -> None:
        """Bring an item's images up to date with its latents."""
        slot.images |= self._synthesise({n: slot.moments[n].latents for n in self._generators})

    def _synthesise(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images `[3 H W]` of latents `[1+l c]`, by generator."""
        return {name: self._images(name, x[None])[0] for name, x in latents.items()}

    def _images(self, name: str, latents: Tensor) -> Tensor:
        """Images `[n 3 H W]` of a generator's latents `[n 1+l c]`, without gradients."""
        generator = self._generators[name]
        with torch.no_grad():
            return generator.synthesise(generator.ws_of(latents))

    def _move(self, name: str, slots: list[Slot], count: int, on_step: Callable[[], None]) -> None:
        renderer = self._renderer(name, slots)
        share = slots[0].now.full_share
        is_full = [renderer.is_whole or schedule.is_full(share, number) for number in range(count)]
        objectives = {
            full: self._scorer.objective_of_steps(name, slots, None if full else renderer.height)
            for full in set(is_full)
        }
        weights = [self._scorer.weights_of_steps(name, slot, count) for slot in slots]
        phase = Phase(
            [slot.moments[name] for slot in slots],
            [slot.now.generators[name] for slot in slots],
            rates=[_rates_of_steps(name, slot, count) for slot in slots],
            weights=weights,
            noise=self._noise.of(name, slots, count),
        )
        for number, full in enumerate(is_full):
            self._film_step(name, slots, phase.latents, number)
            phase.step(renderer.full() if full else renderer.low(), objectives[full])
            on_step()
        losses = phase.end()
        record(name, slots, phase.terms, losses, weights)
        latents = torch.stack([slot.moments[name].latents for slot in slots])
        for slot, image in zip(slots, self._images(name, latents), strict=True):
            slot.stage_steps[name] += count
            slot.images[name] = image

    def _film_step(self, name: str, slots: list[Slot], latents: Tensor, number: int) -> None:
        """Before a step of a phase (from 0): film the items whose turn it is."""
        for slot, own in zip(slots, latents, strict=True):
            if self._film.is_due(slot, number):
                self._film.keep(slot, self._synthesise({name: own}))

    def _renderer(self, name: str, slots: list[Slot]) -> PhaseRenderer:
        """What renders these items' images in the phase that begins."""
        recipe = self._recipe
        rendered = torch.stack([slot.images[name] for slot in slots])
        return PhaseRenderer(
            self._generators[name],
            side=max(recipe.picture_size, recipe.resolution),
            latents=torch.stack([slot.moments[name].latents for slot in slots]),
            rendered=rendered,
            regions=self._scorer.regions(slots, rendered) if name == CANVAS else {},
        )


def _rates_of_steps(name: str, slot: Slot, count: int) -> list[float]:
    """Adam's step sizes in an item's next steps of a generator."""
    recipe, first = slot.now, slot.stage_steps[name]
    settings = recipe.generators[name]
    return [schedule.learning_rate(recipe, settings, first + i) for i in range(count)]
