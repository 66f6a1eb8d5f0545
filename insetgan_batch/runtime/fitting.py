"""How many items fit side by side into an actor: measured where it runs, for `slots: auto`.

Memory grows by the same amount with every item of a batch. So the peaks of a short trial with one
item and with two say how many there is room for. Each actor measures for itself: machines of one
run may have different GPUs. An actor that runs out of memory all the same is replaced by one with
half the slots (`actor.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

# A CPU works as long on each item of a batch as on one alone, so its memory is not the limit; a few
# slots hide the waiting for the store.
ON_CPU = 4
# More would only delay the first result, and be more to hand over when a machine goes away.
MOST = 64
# Of the memory: the rest is for what the allocator cannot use again, and for other programs.
_SHARE = 0.85


def fitting_slots(
    device: torch.device,
    gpu_share: float,
    trial: Callable[[int], None],
) -> int:
    """Slots for an actor that has this share of the device, 1..64; 4 on a CPU.

    trial: the cheapest round that takes as much memory as any, with so many items.
    """
    if device.type != "cuda":
        return ON_CPU
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_reserved(device)
    room = int(_SHARE * min(gpu_share * total, free + own))

    def peak(items: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        trial(items)
        return torch.cuda.max_memory_allocated(device)

    return measured(peak, room)


def measured(peak: Callable[[int], int], room: int) -> int:
    """Slots that fit into `room` bytes, by the peaks of one item and of two; at least 1.

    peak: bytes at the peak of a trial with so many items; what runs out of memory with two holds
    one.
    """
    one = peak(1)
    try:
        two = peak(2)
    except torch.OutOfMemoryError:
        return 1
    per_item = max(1, two - one)
    return min(MOST, max(1, 1 + (room - one) // per_item))
