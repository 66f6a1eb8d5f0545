"""Phases, ramps, step sizes and stopping: pure functions of the recipe and an item's own counters.

A round is one phase of each generator, every phase `GeneratorSettings.steps` long (the first one
too). Steps count from 0 per generator, item and stage, rounds from 0 per item.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from insetgan_batch.methods.insetgan.recipe import GeneratorSettings, Recipe


def learning_rate(recipe: Recipe, settings: GeneratorSettings, step: int) -> float:
    """Adam's step size: a linear rise over the warm-up, and half a cosine down over the cool-down.

    step: of the generator in the stage whose recipe this is.
    """
    warm_up_steps = recipe.warm_up * settings.steps
    rise = min(1.0, (step + 1) / warm_up_steps) if warm_up_steps else 1.0
    left = 1.0 - min(1.0, step / (recipe.max_rounds * settings.steps))
    fallen = 1.0 - min(1.0, left / recipe.cool_down) if recipe.cool_down else 0.0
    fall = (1 + math.cos(math.pi * fallen)) / 2
    return settings.learning_rate * rise * (recipe.final_rate + (1 - recipe.final_rate) * fall)


def border_ramp(recipe: Recipe, settings: GeneratorSettings, step: int) -> float:
    """What border weights are multiplied by: rises linearly from above 0 to 1, then stays."""
    ramp_steps = recipe.border_ramp_rounds * settings.steps
    return min(1.0, (step + 1) / ramp_steps) if ramp_steps else 1.0


def is_full(full_share: float, number: int) -> bool:
    """Whether a step of a phase (from 0) is one of full resolution; these are spread evenly."""
    return math.floor((number + 1) * full_share) > math.floor(number * full_share)


def has_converged(recipe: Recipe, scores: Sequence[float]) -> bool:
    """Whether the last round (scores: one per round, lower is better) brought less than the
    tolerance.

    "Until the updates converge" (InsetGAN, section 3.3): the best score of the rounds before it was
    not undercut by more than `tolerance` of itself.
    """
    if len(scores) < recipe.min_rounds or len(scores) < 2:
        return False
    best_before = min(scores[:-1])
    return scores[-1] > best_before * (1 - recipe.tolerance)


def stage_of(stages: Sequence[tuple[int, Recipe]], round_: int) -> tuple[int, Recipe]:
    """(the round in which the stage of this round began, the recipe as it is in it); rounds from 0.

    After the last stage its recipe stays.
    """
    begins = 0
    for rounds, recipe in stages[:-1]:
        if round_ < begins + rounds:
            return begins, recipe
        begins += rounds
    return begins, stages[-1][1]


def is_better(recipe: Recipe, round_: int, score: float, best: float | None) -> bool:
    """Whether a round (from 1) becomes the result; best: the score of the one so far, None for
    none.
    """
    if best is None:
        return True
    if not _is_kept(recipe, round_):
        return False
    if recipe.keep == "last":
        return True
    before = range(recipe.best_after + 1, round_)
    is_first = not any(_is_kept(recipe, earlier) for earlier in before)
    return is_first or score < best  # the first candidate replaces what was no candidate


def _is_kept(recipe: Recipe, round_: int) -> bool:
    """Whether the stage of a round (from 1) lets it become the result."""
    ends = itertools.accumulate(stage.rounds for stage in recipe.stages)
    stages = zip(recipe.stages, ends, strict=True)
    return next((stage.kept for stage, end in stages if round_ <= end), True)
