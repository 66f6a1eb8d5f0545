"""Adam for items that share nothing: each has its own moments, step count and step size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

_BETAS = (0.9, 0.999)
_EPS = 1e-8


@dataclasses.dataclass(slots=True)
class MovingLatents:
    """Latents `[1+l c]` of one generator of one item, with Adam's state; step: its own count."""

    latents: Tensor
    first: Tensor
    second: Tensor
    step: int = 0

    @classmethod
    def at_rest(cls, latents: Tensor) -> MovingLatents:
        """Latents that have not moved yet."""
        return cls(latents, torch.zeros_like(latents), torch.zeros_like(latents))


def adam_step(
    moving: Sequence[MovingLatents],
    gradient: Tensor,
    rates: Sequence[float],
    free: Sequence[Tensor],
) -> None:
    """One step of Adam (Kingma and Ba 2015, algorithm 1), in place; gradient `[n 1+l c]`.

    free: 1 for the latents of an item that move, 0 for those that stand, momentum or not: `[1+l
    1]`. An item whose gradient is not finite gets none, since its latents must stay finite until
    somebody has looked at its losses.
    """
    beta1, beta2 = _BETAS
    for m, g, rate, moves in zip(moving, gradient, rates, free, strict=True):
        m.step += 1
        g = torch.where(g.isfinite().all(), g * moves, torch.zeros_like(g))
        m.first = beta1 * m.first + (1 - beta1) * g
        m.second = beta2 * m.second + (1 - beta2) * g.square()
        first = m.first / (1 - beta1**m.step)
        second = m.second / (1 - beta2**m.step)
        m.latents = m.latents - moves * rate * first / (second.sqrt() + _EPS)
