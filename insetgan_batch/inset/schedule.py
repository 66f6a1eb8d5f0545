"""Phases, ramps, step sizes and stopping: pure functions of the recipe and an item's own counters.

A round is one phase of the canvas, then one of each inset, every phase `Player.steps` long (the
first one too). Steps count from 0 per generator and item, rounds from 0 per item.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from insetgan_batch.config import Player, Recipe

# The step size falls to this share of itself in the last possible round.
_FINAL_LEARNING_RATE = 0.1


def learning_rate(recipe: Recipe, player: Player, step: int) -> float:
    """Adam's step size: a linear rise over the warm-up, and half a cosine down to a tenth at the
    end.
    """
    warm_up_steps = recipe.warm_up * player.steps
    rise = min(1.0, (step + 1) / warm_up_steps) if warm_up_steps else 1.0
    progress = min(1.0, step / (recipe.max_rounds * player.steps))
    fall = (1 + math.cos(math.pi * progress)) / 2
    return player.learning_rate * rise * (_FINAL_LEARNING_RATE + (1 - _FINAL_LEARNING_RATE) * fall)


def border_ramp(recipe: Recipe, player: Player, step: int) -> float:
    """What border weights are multiplied by: rises linearly from above 0 to 1, then stays."""
    ramp_steps = recipe.border_ramp_rounds * player.steps
    return min(1.0, (step + 1) / ramp_steps) if ramp_steps else 1.0


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
