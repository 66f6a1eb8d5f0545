"""What a GPU does with the optimisation: one command of under eight minutes, one JSON object.

    python benchmarks/gpu.py [--size 1024] [--channels 512] [--minutes 7]
                             [--out benchmarks/results/gpu.json]

Random full-channel generators, canvas and inset of the same size, the default recipe:

    ceilings   what the device reaches at most: a square matrix product in each precision, TFLOP/s;
               a copy of a large tensor, GB/s read and written
    blocks     forward and backward of the synthesis up to each resolution and the difference to the
               one below: TFLOP/s and GB/s that these are, and the least time that the ceilings
               allow: what arithmetic takes, or what features take to be written and read once
    steps      one optimiser step of each generator for one item, in full and in low resolution, in
               every precision and layout; and one step of the literal loop
    slots      items an hour for 1, 2, 4, ... items side by side until memory or time is used up,
               with the peak of memory: a round of each stage counts as often as the schedule has it

Each part has its share of the minutes and says what it left out. Detectors and files are left out.
The same command measures a CPU, where small sizes alone are of use.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import surroundings
import torch
from optimiser import LiteralLoop, Scene
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from insetgan_batch import recipe as recipes
from insetgan_batch.config import Precision
from insetgan_batch.nets.generator import best_device
from insetgan_batch.recipe import CANVAS, Recipe

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_LAYOUTS = ("contiguous", "channels_last")
_REPEATS = 3
_MOST_SLOTS = 64
_SHARES = {"ceilings": 0.1, "blocks": 0.2, "steps": 0.3, "slots": 0.4}  # of the minutes


class Clock:
    """Times work on a device, and knows when a part's time is up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._end_s = 0.0

    def give(self, seconds: float) -> None:
        """So much time from now on."""
        self._end_s = time.perf_counter() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time that was given is used up."""
        return time.perf_counter() > self._end_s

    def best_s(self, work: Callable[[], object]) -> float:
        """Seconds of the fastest of some repeats, after one that warms up."""
        self.once_s(work)
        return min(self.once_s(work) for _ in range(_REPEATS))

    def once_s(self, work: Callable[[], object]) -> float:
        """Seconds until the device has done it."""
        started = self.now_s()
        work()
        return self.now_s() - started

    def now_s(self) -> float:
        """The time when the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="height of both generators")
    parser.add_argument("--channels", type=int, default=512, help="at most, in every block")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    clock = Clock(best_device())
    parts: dict[str, Callable[[dict[str, Any]], object]] = {
        "ceilings": lambda found: measure_ceilings(clock),
        "blocks": lambda found: measure_blocks(clock, arguments, found["ceilings"]),
        "steps": lambda found: measure_steps(clock, arguments),
        "slots": lambda found: measure_slots(clock, arguments),
    }
    found: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "device": _about(clock.device),
        "torch": torch.__version__,
        "size": arguments.size,
        "channels": arguments.channels,
    } | surroundings.describe()
    for name, measure in parts.items():
        clock.give(60 * arguments.minutes * _SHARES[name])
        found[name] = measure(found)
        print(f"{name}: {json.dumps(found[name])}", flush=True)
        if arguments.out:  # part by part, should the machine be taken away
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")


def _about(device: torch.device) -> dict[str, object]:
    if device.type != "cuda":
        return {"name": "cpu", "threads": torch.get_num_threads()}
    about = torch.cuda.get_device_properties(device)
    return {
        "name": about.name,
        "memory_gb": round(about.total_memory / 1e9, 1),
        "processors": about.multi_processor_count,
        "cuda": torch.version.cuda,
    }


# Ceilings


def measure_ceilings(clock: Clock) -> dict[str, float]:
    """TFLOP/s of a matrix product by precision, GB/s of a copy."""
    is_gpu = clock.device.type == "cuda"
    side, count = (8192, 1 << 28) if is_gpu else (512, 1 << 24)
    found = {}
    for name, dtype in _DTYPES.items():
        a = torch.randn(side, side, device=clock.device).to(dtype)
        seconds = clock.best_s(lambda a=a: a @ a)  # type: ignore[misc]
        found[f"{name}_tflops"] = _rounded(2 * side**3 / seconds / 1e12)
    x = torch.zeros(count, device=clock.device)
    y = torch.empty_like(x)
    found["copy_gb_per_s"] = _rounded(2 * 4 * count / clock.best_s(lambda: y.copy_(x)) / 1e9)
    return found


# Blocks


def measure_blocks(
    clock: Clock, arguments: argparse.Namespace, ceilings: dict[str, float]
) -> list[dict[str, object]]:
    """A row for each resolution of a canvas in float32: what its block adds to those below."""
    scene = _scene(arguments, recipes.preset("montage"), clock.device)
    generator = scene.generators[CANVAS]
    rows: list[dict[str, object]] = []
    below_s, below_flop, below_bytes = 0.0, 0.0, 0.0
    for height in scene.heights:
        if clock.is_over:
            return [*rows, {"left_out_from": height}]
        ws = scene.start(0).latents[CANVAS][1:][None].requires_grad_()

        def work(height: int = height, ws: Tensor = ws) -> None:
            image = generator.synthesise(ws, upto=height)
            image.sum().backward()  # type: ignore[no-untyped-call]

        with FlopCounterMode(display=False) as counter:
            work()
        flop, seconds = float(counter.get_total_flops()), clock.best_s(work)
        channels = min(32768 // height, arguments.channels)
        # Two convolutions: features and their gradients, each written once and read once.
        size = below_bytes + 2 * 2 * 2 * 4 * channels * height**2
        own_s, own_flop, own_bytes = seconds - below_s, flop - below_flop, size - below_bytes
        least_s = max(
            own_flop / ceilings["float32_tflops"] / 1e12,
            own_bytes / ceilings["copy_gb_per_s"] / 1e9,
        )
        rows.append(
            {
                "height": height,
                "ms": _rounded(1e3 * own_s),
                "least_ms": _rounded(1e3 * least_s),
                "gflop": _rounded(own_flop / 1e9),
                "tflops": _rounded(own_flop / max(own_s, 1e-9) / 1e12),
                "gb_per_s": _rounded(own_bytes / max(own_s, 1e-9) / 1e9),
            }
        )
        below_s, below_flop, below_bytes = seconds, flop, size
    return rows


# Steps


def measure_steps(clock: Clock, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Milliseconds of one step of both generators together, for one item, in every way."""
    recipe = _with_steps(recipes.stages(recipes.preset("montage"))[0][1], 2)
    literal = LiteralLoop(_scene(arguments, recipe, clock.device), seed=0)
    ms = 1e3 * clock.best_s(literal.run_round) / 2
    rows: list[dict[str, object]] = [{"way": "literal loop", "ms": _rounded(ms)}]
    for precision, layout, full_share in itertools.product(_PRECISIONS, _LAYOUTS, (1.0, 0.0)):
        if clock.is_over:
            return [*rows, {"left_out": "the other ways"}]
        changed = dataclasses.replace(_with_steps(recipe, 6), full_share=full_share)
        scene = _scene(arguments, changed, clock.device, precision, layout)
        rows.append(
            {
                "way": "ours",
                "precision": precision,
                "layout": layout,
                "resolution": "full" if full_share else "low",
                "ms": _rounded(1e3 * _step_s(clock, scene)),
            }
        )
    return rows


def _step_s(clock: Clock, scene: Scene) -> float:
    """Seconds of a step of the canvas and one of the inset, without what begins a phase."""
    batch = scene.optimizer(1)
    batch.admit(scene.start(0))
    batch.run_round()  # warms up
    ends: list[list[float]] = [[]]

    def on_phase(name: str) -> None:
        ends.append([])

    batch.run_round(lambda: ends[-1].append(clock.now_s()), on_phase)
    phases = [phase for phase in ends if phase]
    return sum(
        statistics.median(after - before for before, after in itertools.pairwise(phase))
        for phase in phases
    )


# Slots


def measure_slots(clock: Clock, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each number of items side by side: items an hour, seconds an item, memory."""
    rows: list[dict[str, object]] = []
    count = 1
    while count <= _MOST_SLOTS and not clock.is_over:
        if clock.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(clock.device)
        try:
            seconds = _schedule_s(clock, arguments, count)
        except torch.OutOfMemoryError:
            return [*rows, {"slots": count, "left_out": "out of memory"}]
        row: dict[str, object] = {
            "slots": count,
            "seconds_per_item": _rounded(seconds / count),
            "items_per_hour": _rounded(3600 * count / seconds),
        }
        if clock.device.type == "cuda":
            row["peak_gb"] = _rounded(torch.cuda.max_memory_allocated(clock.device) / 1e9)
        rows.append(row)
        count *= 2
    return rows


def _schedule_s(clock: Clock, arguments: argparse.Namespace, count: int) -> float:
    """Seconds of the whole schedule for so many items, from a round of each stage."""
    total_s = 0.0
    for rounds, stage in recipes.stages(recipes.preset("montage")):
        scene = _scene(arguments, stage, clock.device)
        batch = scene.optimizer(count)
        for seed in range(count):
            batch.admit(scene.start(seed))
        total_s += rounds * clock.once_s(batch.run_round)
    return total_s


def _scene(
    arguments: argparse.Namespace,
    recipe: Recipe,
    device: torch.device,
    precision: Precision = "float32",
    layout: str = _LAYOUTS[0],
) -> Scene:
    return Scene(
        arguments.size,
        recipe,
        arguments.channels,
        device=device,
        precision=precision,
        channels_last=layout == "channels_last",
    )


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    """So many steps of each generator in a round, and rounds enough."""
    insets = {name: dataclasses.replace(p, steps=steps) for name, p in recipe.insets.items()}
    canvas = dataclasses.replace(recipe.canvas, steps=steps)
    return dataclasses.replace(recipe, canvas=canvas, insets=insets, max_rounds=99, min_rounds=99)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
