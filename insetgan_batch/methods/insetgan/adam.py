"""Adam for items that share nothing: each has its own moments, step count and step size.

All items of a batch take their step in one pass over stacked tensors, so that a batch of eight
launches as many kernels as one item. Only elementwise arithmetic: what an item gets is the same to
the bit, whatever its neighbours are.
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

    After a phase the tensors are views of the batch's; code that stores one clones it first.
    """

    latents: Tensor
    first: Tensor
    second: Tensor
    step: int = 0

    @classmethod
    def at_rest(cls, latents: Tensor) -> MovingLatents:
        """Latents that have not moved yet."""
        return cls(latents, torch.zeros_like(latents), torch.zeros_like(latents))

    def numbers(self, rates: Sequence[float]) -> list[tuple[float, float, float]]:
        """For each of the next steps: the step size, and the bias corrections of the first and of
        the second moment (1 - beta^t).
        """
        steps = range(self.step + 1, self.step + 1 + len(rates))
        return [
            (rate, 1 - _BETAS[0] ** step, 1 - _BETAS[1] ** step)
            for rate, step in zip(rates, steps, strict=True)
        ]


class MovingBatch:
    """The latents of some items while they move, `[n 1+l c]`; copies, which steps change in place.

    In place, because a recorded step (`phase.py`) reads and writes the same memory each time.
    """

    def __init__(self, moving: Sequence[MovingLatents]) -> None:
        self.latents = torch.stack([m.latents for m in moving])
        self._first = torch.stack([m.first for m in moving])
        self._second = torch.stack([m.second for m in moving])

    def step(self, gradient: Tensor, numbers: Tensor, free: Tensor) -> None:
        """One step of Adam (Kingma and Ba 2015, algorithm 1); gradient `[n 1+l c]`.

        numbers: of each item, as `MovingLatents.numbers` has them, `[3 n]`. free `[n 1+l 1]`: 1 for
        the latents that move, 0 for those that stand still, whatever their momentum. An item whose
        gradient is not finite stays where it is: its latents must stay finite until its losses are
        checked.
        """
        beta1, beta2 = _BETAS
        rate, bias1, bias2 = numbers[:, :, None, None]
        is_finite = gradient.isfinite().all(dim=(1, 2), keepdim=True)
        g = torch.where(is_finite, gradient * free, 0.0)
        self._first.copy_(beta1 * self._first + (1 - beta1) * g)
        self._second.copy_(beta2 * self._second + (1 - beta2) * g.square())
        self.latents -= free * rate * (self._first / bias1) / ((self._second / bias2).sqrt() + _EPS)

    def hand_back(self, moving: Sequence[MovingLatents], steps: int) -> None:
        """Write the latents and moments back to the items, after so many steps."""
        batch = zip(moving, self.latents, self._first, self._second, strict=True)
        for m, latents, first, second in batch:
            m.latents, m.first, m.second = latents, first, second
            m.step += steps
