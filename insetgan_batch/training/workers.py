"""The processes that train one network together, and what they tell each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Workers:
    """All of them as one of them sees it; alone by default. size: how many there are."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_process_group(cls) -> Workers:
        """Those of torch's process group, if this process is in one."""
        if not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, parts: int) -> list[int]:
        """Which of so many parts of a batch are this worker's."""
        return list(range(self.rank, parts, self.size))

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all workers, in one message."""
        found: Sequence[Tensor] = [tensor for tensor in tensors if tensor.numel()]
        if self.size == 1 or not found:
            return
        with torch.no_grad():
            flat = torch.cat([tensor.flatten() for tensor in found])
            dist.all_reduce(flat)
            totals = torch.split(flat, [tensor.numel() for tensor in found])
            for tensor, total in zip(found, totals, strict=True):
                tensor.copy_(total.view_as(tensor))
