"""A round of one step, which takes as much memory as any: what `slots: auto` measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan.recipe import CANVAS, GeneratorSettings, Recipe
from insetgan_batch.methods.insetgan.recipe_variants import stages
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Start
from insetgan_batch.nets.generator import Generator

_CANVAS_SHARE, _INSET_SHARE = 6, 2  # the trial's part is a sixth of a canvas, half of an inset


def trial(
    items: int,
    generators: Mapping[str, Generator],
    recipe: Recipe,
    batch: Callable[[Recipe, int], SlotOptimizer],
) -> None:
    """Run one step of every generator that moves in any stage, for items that start at `w_avg`."""
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
    """The recipe without stages, with one round of one step. The step is in full resolution, which
    takes the most memory.
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
