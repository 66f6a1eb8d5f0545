"""The round that `slots: auto` measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan.recipe import Recipe
from insetgan_batch.methods.insetgan.recipe_variants import preset
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Slot
from insetgan_batch.methods.insetgan.trial import trial
from insetgan_batch.nets.detector import FixedBox
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual


def test_a_trial_moves_every_generator_by_one_step_for_each_item(
    tiny_canvas: Generator, tiny_face: Generator, perceptual: Perceptual
) -> None:
    steps: list[tuple[str, int]] = []
    generators = {"canvas": tiny_canvas, "face": tiny_face}

    class Counting(SlotOptimizer):
        def _move(
            self, name: str, slots: list[Slot], count: int, on_step: Callable[[], None]
        ) -> None:
            steps.extend([(name, len(slots))] * count)
            super()._move(name, slots, count, on_step)

    def batch(recipe: Recipe, capacity: int) -> SlotOptimizer:
        box = FixedBox(Box(8, 4, 24, 20))
        return Counting(
            canvas=tiny_canvas,
            insets={"face": tiny_face},
            detectors={"face": box},
            canvas_detectors={"face": box},
            perceptual=perceptual,
            recipe=recipe,
            capacity=capacity,
        )

    small = dataclasses.replace(preset("montage"), resolution=32, coarse_size=32)
    trial(3, generators, small, batch)
    assert steps == [("canvas", 3), ("face", 3)]
