"""Adam for items that share nothing: each has its own moments, step count and step size.

All items of a batch take their step in one pass over stacked tensors, so that a batch of eight
launches as many kernels as one item. Only elementwise arithmetic: what an item gets is the same to
the bit, whoever its neighbours are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

_BETAS = (0.9, 0.999)
_EPS = 1e-8


@dataclasses.dataclass(slots=True)
class MovingLatents:
    """Latents `[1+l c]` of one generator of one item, with Adam's state; step: its own count.

    After a step the tensors are views of the batch's: whoever stores one clones it first.
    """

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
    for m in moving:
        m.step += 1
    numbers = [
        (rate, 1 - beta1**m.step, 1 - beta2**m.step) for m, rate in zip(moving, rates, strict=True)
    ]
    rate, bias1, bias2 = gradient.new_tensor(numbers).T[:, :, None, None]
    moves = torch.stack(list(free))
    is_finite = gradient.isfinite().all(dim=(1, 2), keepdim=True)
    g = torch.where(is_finite, gradient * moves, 0.0)
    first = beta1 * torch.stack([m.first for m in moving]) + (1 - beta1) * g
    second = beta2 * torch.stack([m.second for m in moving]) + (1 - beta2) * g.square()
    change = moves * rate * (first / bias1) / ((second / bias2).sqrt() + _EPS)
    latents = torch.stack([m.latents for m in moving]) - change
    for m, *moved in zip(moving, latents, first, second, strict=True):
        m.latents, m.first, m.second = moved
