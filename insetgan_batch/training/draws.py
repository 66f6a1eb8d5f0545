"""Random numbers of a training: a function of where they are drawn, and of nothing before.

So a training that goes on from a checkpoint draws what it would have drawn, on as many workers as
there are then.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import torch
from torch import Tensor


def source(*where: int, device: torch.device | None = None) -> torch.Generator:
    """A source of numbers of its own for each place, such as (seed, iteration, phase, image)."""
    digest = hashlib.blake2b(struct.pack(f"<{len(where)}q", *where), digest_size=8).digest()
    found = torch.Generator(device or torch.device("cpu"))
    return found.manual_seed(struct.unpack("<q", digest)[0])


class Draws:
    """Numbers for a batch; each image has its own source, and depends on no other."""

    def __init__(self, sources: Sequence[torch.Generator], device: torch.device) -> None:
        """device: where the numbers are wanted."""
        self.sources, self._device = sources, device

    def __len__(self) -> int:
        return len(self.sources)

    def uniform(self, *shape: int) -> Tensor:
        """`[n *shape]` in 0..1."""
        return self._stacked(
            [torch.rand(shape, generator=s, device=s.device) for s in self.sources]
        )

    def normal(self, *shape: int) -> Tensor:
        """`[n *shape]` of mean 0 and variance 1."""
        return self._stacked(
            [torch.randn(shape, generator=s, device=s.device) for s in self.sources]
        )

    def _stacked(self, each: list[Tensor]) -> Tensor:
        return torch.stack(each).to(self._device)
