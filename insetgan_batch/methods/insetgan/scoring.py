"""The objectives of a batch's generators, the scores of its items, and the traces of their losses.

An item's score is the sum of all weighted losses of all its generators, by its recipe's own
weights: without ramps and stages, in full precision and resolution. Losses of several items are
computed together; each item has its own weights, and terms that have a weight in other items only
are left out of its score, state and trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images, schedule
from insetgan_batch.methods.insetgan.errors import DivergedError
from insetgan_batch.methods.insetgan.image_terms import Losses
from insetgan_batch.methods.insetgan.objective import CanvasObjective, InsetObjective, Objective
from insetgan_batch.methods.insetgan.recipe import CANVAS, GeneratorSettings, Recipe
from insetgan_batch.methods.insetgan.states import Slot, State, TraceRow
from insetgan_batch.methods.insetgan.terms import Term, Weights, term_weights
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.identity import Identity
from insetgan_batch.nets.perceptual import Perceptual


class Scorer:
    """Makes the objectives of a batch's generators and scores its items."""

    def __init__(
        self,
        generators: Mapping[str, Generator],
        perceptual: Perceptual,
        identities: Mapping[str, Identity],
        recipe: Recipe,
    ) -> None:
        """generators: the canvas first; identities: by inset, for insets that are faces; recipe:
        the run's, for what all items share.
        """
        self._generators, self._perceptual = generators, perceptual
        self._identities, self._recipe = identities, recipe
        self._insets = [name for name in generators if name != CANVAS]

    def objective_of_steps(self, name: str, slots: list[Slot], height: int | None) -> Objective:
        """A generator's objective in the phase that begins, in low precision.

        height: in pixels, of the images that its passes render; None for full resolution.
        """
        recipes = [slot.now for slot in slots]
        return self._objective(name, slots, recipes, self._perceptual.low_precision, height)

    def weights_of_steps(self, name: str, slot: Slot, count: int) -> list[Weights]:
        """The weights of an item's losses in a generator's next steps, ramps included."""
        recipe, first = slot.now, slot.stage_steps[name]
        settings = recipe.generators[name]
        ramps = [schedule.border_ramp(recipe, settings, first + i) for i in range(count)]
        return [self._weights(name, settings, ramp) for ramp in ramps]

    def regions(self, slots: list[Slot], like: Tensor) -> dict[str, Tensor]:
        """The regions of the insets, `[n 5]` each, in canvas pixels."""
        return {
            name: images.boxes_as_tensor([slot.regions[name] for slot in slots], like)
            for name in self._insets
        }

    def assess(self, slots: list[Slot]) -> list[State]:
        """The state of every item, with its score."""
        if not slots:
            return []
        raw: Losses = {}
        score = slots[0].images[CANVAS].new_zeros(len(slots))
        recipes = [slot.recipe for slot in slots]
        own: list[set[Term]] = [set() for _ in slots]
        with torch.no_grad():
            for name in self._generators:
                image = torch.stack([slot.images[name] for slot in slots])
                latents = torch.stack([slot.moments[name].latents for slot in slots])
                objective = self._objective(name, slots, recipes, self._perceptual)
                losses = objective.losses(image, latents)
                weights = [self._weights(name, recipe.generators[name]) for recipe in recipes]
                score = score + _weighted_sum(losses, weights)
                raw |= losses
                for terms, w in zip(own, weights, strict=True):
                    terms |= _own_terms(losses, w)
        columns = {term: values.tolist() for term, values in raw.items()}
        return [
            State(
                round=slot.round + 1 if slot.start else 0,
                score=value,
                terms={str(term): values[i] for term, values in columns.items() if term in own[i]},
                latents={name: m.latents for name, m in slot.moments.items()},
                images=dict(slot.images),
                regions=dict(slot.regions),
                masks=slot.masks,
            )
            for i, (slot, value) in enumerate(zip(slots, score.tolist(), strict=True))
        ]

    def _weights(self, name: str, settings: GeneratorSettings, border_ramp: float = 1.0) -> Weights:
        return term_weights(name, settings, self._insets if name == CANVAS else [name], border_ramp)

    def _objective(
        self,
        name: str,
        slots: list[Slot],
        recipes: list[Recipe],
        perceptual: Perceptual,
        height: int | None = None,
    ) -> Objective:
        """A generator's objective by the weights of these recipes, one per item."""
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
                regions=self.regions(slots, reference),
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
            box=images.boxes_as_tensor([slot.inset_boxes[name] for slot in slots], reference),
            canvas=torch.stack([slot.images[CANVAS] for slot in slots]),
            region=images.boxes_as_tensor([slot.regions[name] for slot in slots], reference),
            w_avg=w_avg,
            resolution=self._recipe.resolution,
            coarse_size=self._recipe.coarse_size,
            inversion_size=self._recipe.inversion.resolution,
            mask=masks.get(name),
            faces=self._identities.get(name),
            height=height,
        )


def judge(slot: Slot, state: State) -> None:
    """Keep a round's state if it is the best so far; set `error` of an item that diverges."""
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


def record(
    name: str,
    slots: Sequence[Slot],
    terms: Sequence[Term],
    losses: Tensor,
    weights: Sequence[Sequence[Weights]],
) -> None:
    """Append a phase's raw losses `[steps terms n]` to the items' traces.

    weights: by item and step. It takes one transfer from the device for all of it. An item with a
    loss that is not finite has its `error` set.
    """
    fetched = losses.cpu().numpy()
    for i, (slot, weights_of_steps) in enumerate(zip(slots, weights, strict=True)):
        own = _own_terms(terms, weights_of_steps[0])
        columns = [number for number, term in enumerate(terms) if term in own]
        names = {str(terms[column]): terms[column] for column in columns}
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
                    weight={text: in_force[term] for text, term in names.items()},
                )
            )
        if not np.isfinite(fetched[:, columns, i]).all():
            number = slot.round + 1
            slot.error = DivergedError(f"a loss of the {name} is not finite in round {number}")


def _weighted_sum(losses: Losses, weights: list[Weights]) -> Tensor:
    """Sum of weight x raw loss, per item `[n]`."""
    return torch.stack(
        [
            value * value.new_tensor([w.get(term, 0.0) for w in weights])
            for term, value in losses.items()
        ]
    ).sum(dim=0)


def _own_terms(terms: Iterable[Term], weights: Weights) -> set[Term]:
    """The terms of an item with these weights; others are computed for a neighbour only."""
    return {term for term in terms if weights.get(term, 0.0) > 0 or term.is_regulariser}
