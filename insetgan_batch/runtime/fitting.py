"""How many items fit side by side into an actor: measured where it runs, for `slots: auto`.

Memory grows by the same amount with every item of a batch. So the peaks of a short trial with one
item and with two say how many there is room for. Each actor measures for itself: machines of one
run may have different GPUs. An actor that runs out of memory all the same is replaced by one with
half the slots (`actor.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Start
from insetgan_batch.nets.generator import Generator
from insetgan_batch.recipe import CANVAS, GeneratorSettings, Recipe
from insetgan_batch.recipe_variants import stages

# A CPU works as long on each item of a batch as on one alone, so its memory is not the limit; a few
# slots hide the waiting for the store.
ON_CPU = 4
# More would only delay the first result, and be more to hand over when a machine goes away.
MOST = 64
# Of the memory: the rest is for what the allocator cannot use again, and for other programs.
_SHARE = 0.85
_CANVAS_SHARE, _INSET_SHARE = 6, 2  # the trial's part is a sixth of a canvas, half of an inset


def fitting_slots(
    device: torch.device,
    gpu_share: float,
    generators: Mapping[str, Generator],
    recipe: Recipe,
    batch: Callable[[Recipe, int], SlotOptimizer],
) -> int:
    """Slots for an actor that has this share of the device, 1..64; 4 on a CPU.

    batch: makes an empty batch of a recipe with so many places.
    """
    if device.type != "cuda":
        return ON_CPU
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_reserved(device)
    room = int(_SHARE * min(gpu_share * total, free + own))

    def peak(items: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        trial(items, generators, recipe, batch)
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


def trial(
    items: int,
    generators: Mapping[str, Generator],
    recipe: Recipe,
    batch: Callable[[Recipe, int], SlotOptimizer],
) -> None:
    """A round of one step of every generator that ever moves, for items at their averages."""
    short = _one_step(recipe)
    optimizer = batch(short, items)
    latents, references, boxes = {}, {}, {}
    for name, generator in generators.items():
        latents[name] = generator.latents_of(generator.w_avg)
        with torch.no_grad():
            references[name] = generator.synthesise(generator.ws_of(latents[name])[None])[0]
        share = _CANVAS_SHARE if name == CANVAS else _INSET_SHARE
        x, y, half = generator.width / 2, generator.height / 2, generator.height / share / 2
        boxes[name] = Box(x - half, y - half, x + half, y + half)
    for number in range(items):
        optimizer.admit(Start(str(number), short, latents, references, boxes))
    optimizer.run_round()


def _one_step(recipe: Recipe) -> Recipe:
    """The recipe without stages, with one round of one step, which takes as much as any: it looks
    at whole pictures.
    """
    ever = [stage for _, stage in stages(recipe)]

    def short(settings: GeneratorSettings, steps: list[int]) -> GeneratorSettings:
        return dataclasses.replace(settings, steps=int(any(steps)))

    return dataclasses.replace(
        recipe,
        canvas=short(recipe.canvas, [stage.canvas.steps for stage in ever]),
        insets={
            name: short(settings, [stage.insets[name].steps for stage in ever])
            for name, settings in recipe.insets.items()
        },
        stages=(),
        full_share=1.0,
        min_rounds=1,
        max_rounds=1,
        best_after=0,
    )
