"""What a GPU does with the optimisation: one command of under eight minutes, one JSON object.

    python benchmarks/gpu.py [--size 1024] [--channels 512] [--minutes 7] [--pairs 3]
                             [--slots 16,32,64] [--out benchmarks/results/gpu.json]

Random full-channel generators, canvas and inset of the same size, the default recipe:

    ceilings   what the device reaches at most: a square matrix product in each precision, TFLOP/s;
               a copy of a large tensor, GB/s read and written
    steps      one optimiser step of one item, the mean of both generators: the literal loop, which
               does in every step what published programs do; ours for one item and for eight, in
               every precision; with recorded steps or the fused kernels switched off, or with
               torch.compile in their place (its compilation is in the part's time)
    slots      items an hour for so many items side by side until memory or time is used up, with
               the peak of memory: the whole schedule from empty slots to finished items; and how
               long the thread that steps is kept by what a finished item leaves (its pictures)
    scores     the literal losses in full resolution where pairs end: by the literal loop under the
               same recipe, and by ours in either precision
    blocks     forward and backward of the synthesis of eight pictures up to each resolution and the
               difference to the one below: TFLOP/s and GB/s that these are, and the least time that
               the ceilings allow: what arithmetic takes, or what features take to be written once
               and read once by each of its two convolutions and in the way back
    detector   MTCNN on 32 of the demo's canvases, enlarged to the size of ours

Each part has its share of the minutes, measures its first row in any case and says what it left
out. Files are left out: threads write them while the next items move. bfloat16 concerns the
convolutions of resolutions of 64 pixels and more, and of LPIPS, in steps; in float32 torch's
convolutions use TF32 on a GPU, the literal loop's too. The same command measures a CPU, where small
sizes alone are of use.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import surroundings
import torch
import torch.nn.functional as F
from optimiser import LiteralLoop, Scene, finish, with_steps
from torch.utils.flop_counter import FlopCounterMode

from insetgan_batch.data.models import demo_path
from insetgan_batch.methods.insetgan import encode, images
from insetgan_batch.methods.insetgan import recipe_variants as recipes
from insetgan_batch.methods.insetgan.phase import Phase
from insetgan_batch.methods.insetgan.recipe import CANVAS, Recipe
from insetgan_batch.methods.insetgan.states import Finished
from insetgan_batch.nets import layers
from insetgan_batch.nets.detector import SMALLEST_FACE_OF_CANVAS, FaceDetector
from insetgan_batch.nets.devices import Precision, best_device
from insetgan_batch.nets.generator import LOWEST_BFLOAT16_PX, Generator
from insetgan_batch.nets.stylegan2 import Block

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_REPEATS = 3
_BATCH = 8
_DETECTED = 32
_PUBLISHED = "official-1"
# Of the minutes; a part that needs less leaves the rest to the next.
_SHARES = {
    "ceilings": 0.05,
    "steps": 0.2,
    "slots": 0.35,
    "scores": 0.25,
    "blocks": 0.1,
    "detector": 0.05,
}


class Clock:
    """Times work on a device, and knows when a part's time is up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._end_s = time.perf_counter()

    def give(self, seconds: float) -> None:
        """So much time more, and what the parts before have left."""
        self._end_s = max(self._end_s, time.perf_counter() - seconds / 2) + seconds

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
    parser.add_argument("--pairs", type=int, default=3, help="whose scores are compared")
    parser.add_argument("--slots", default="16,32,64", help="items side by side")
    parser.add_argument("--parts", default=",".join(_SHARES))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    clock = Clock(best_device())
    parts: dict[str, Callable[[dict[str, Any]], object]] = {
        "ceilings": lambda found: measure_ceilings(clock),
        "blocks": lambda found: measure_blocks(clock, arguments, found["ceilings"]),
        "steps": lambda found: measure_steps(clock, arguments),
        "slots": lambda found: measure_slots(clock, arguments),
        "detector": lambda found: measure_detector(clock, arguments),
        "scores": lambda found: measure_scores(clock, arguments),
    }
    found: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "device": _about(clock.device),
        "torch": torch.__version__,
        "size": arguments.size,
        "channels": arguments.channels,
    } | surroundings.describe()
    for name in arguments.parts.split(","):
        clock.give(60 * arguments.minutes * _SHARES[name])
        started = clock.now_s()
        found[name] = parts[name](found)
        print(f"{name} ({clock.now_s() - started:.0f} s): {json.dumps(found[name])}", flush=True)
        if arguments.out:  # part by part, should the machine be taken away
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
        if clock.device.type == "cuda":
            torch.cuda.empty_cache()


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
    if is_gpu:  # what convolutions of float32 use
        with _matrix_products_in_tf32():
            a = torch.randn(side, side, device=clock.device)
            found["tf32_tflops"] = _rounded(2 * side**3 / clock.best_s(lambda: a @ a) / 1e12)
    x = torch.randn(count, device=clock.device)
    y = torch.empty_like(x)
    found["copy_gb_per_s"] = _rounded(2 * 4 * count / clock.best_s(lambda: y.copy_(x)) / 1e9)
    return found


@contextlib.contextmanager
def _matrix_products_in_tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


# Blocks


def measure_blocks(
    clock: Clock, arguments: argparse.Namespace, ceilings: dict[str, float]
) -> list[dict[str, object]]:
    """A row for each resolution of a canvas: what its block adds to those below, per picture."""
    rows: list[dict[str, object]] = []
    for precision in _PRECISIONS:
        if clock.is_over and rows:
            return [*rows, {"left_out": precision}]
        scene = _scene(arguments, recipes.preset("montage"), clock.device, precision)
        rate = ceilings[f"{precision}_tflops"]
        if precision == "float32":
            rate = ceilings.get("tf32_tflops", rate)
        rows += _blocks_of(clock, scene, precision, arguments.channels, rate, ceilings)
    return rows


def _blocks_of(
    clock: Clock,
    scene: Scene,
    precision: Precision,
    channels: int,
    tflops: float,
    ceilings: dict[str, float],
) -> list[dict[str, object]]:
    generator = scene.generators[CANVAS].low_precision
    latents = torch.cat([scene.start(seed).latents[CANVAS][1:][None] for seed in range(_BATCH)])
    ws = (latents + scene.start(0).latents[CANVAS][:1]).requires_grad_()
    rows: list[dict[str, object]] = []
    below_s, below_flop = 0.0, 0.0
    for height in scene.heights:

        def work(height: int = height) -> None:
            image = generator.synthesise(ws, upto=height)
            torch.autograd.backward(image.sum())

        with FlopCounterMode(display=False) as counter:
            work()
        flop, seconds = counter.get_total_flops() / _BATCH, clock.best_s(work) / _BATCH
        is_low = precision == "bfloat16" and height >= LOWEST_BFLOAT16_PX
        # Two convolutions: what each takes and what it gives, and the gradients of both.
        features = (2 if is_low else 4) * min(32768 // height, channels) * height**2
        least_s = max(
            (flop - below_flop) / tflops / 1e12, 2 * 4 * features / ceilings["copy_gb_per_s"] / 1e9
        )
        own_s = max(seconds - below_s, 1e-9)
        rows.append(
            {
                "precision": precision,
                "height": height,
                "ms": _rounded(1e3 * own_s),
                "least_ms": _rounded(1e3 * least_s),
                "gflop": _rounded((flop - below_flop) / 1e9),
                "tflops": _rounded((flop - below_flop) / own_s / 1e12),
                "gb_per_s": _rounded(2 * 4 * features / own_s / 1e9),
            }
        )
        below_s, below_flop = seconds, flop
    return rows


# Steps


def measure_steps(clock: Clock, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Milliseconds of one step for one item, in every way."""
    recipe = _with_steps(recipes.stages(recipes.preset("montage"))[0][1], 4)
    literal = LiteralLoop(_scene(arguments, recipe, clock.device), seed=0)
    literal_ms = 1e3 * clock.best_s(literal.run_round) / 8
    published = recipes.preset(_PUBLISHED)
    rows: list[dict[str, object]] = [
        {
            "way": "literal loop",
            "items": 1,
            "ms": _rounded(literal_ms),
            "speedup": 1.0,
            "seconds_per_item": {
                "default": _rounded(literal_ms * _steps_of(recipes.preset("montage")) / 1e3),
                _PUBLISHED: _rounded(literal_ms * _steps_of(published) / 1e3),
            },
        }
    ]
    del literal
    ways: list[tuple[str, int, Precision]] = [
        ("ours", 1, "bfloat16"),
        ("ours", _BATCH, "bfloat16"),
        ("ours", _BATCH, "float32"),
        ("not recorded", 1, "bfloat16"),
        ("without fused kernels", _BATCH, "bfloat16"),
        ("compiled", _BATCH, "bfloat16"),
    ]
    for way, items, precision in ways:
        if clock.is_over:
            return [*rows, {"left_out": way}]
        with _WAYS[way]():
            ms = 1e3 * _step_s(clock, arguments, items, precision)
        rows.append(
            {
                "way": way,
                "items": items,
                "precision": precision,
                "ms": _rounded(ms),
                "speedup": _rounded(literal_ms / ms),
            }
        )
    return rows


def _step_s(clock: Clock, arguments: argparse.Namespace, items: int, precision: Precision) -> float:
    """Seconds of a step of an item: how much longer a round is with 44 steps than with 4."""
    seconds = []
    for steps in (2, 22):
        recipe = _with_steps(recipes.stages(recipes.preset("montage"))[0][1], steps)
        scene = _scene(arguments, recipe, clock.device, precision)
        batch = scene.optimizer(items)
        for seed in range(items):
            batch.admit(scene.start(seed))
        batch.run_round()  # warms up
        seconds.append(min(clock.once_s(batch.run_round) for _ in range(2)))
    return (seconds[1] - seconds[0]) / 40 / items


@contextlib.contextmanager
def _not_recorded() -> Iterator[None]:
    own, Phase._waits_for_python = Phase._waits_for_python, lambda self: False  # type: ignore[method-assign]
    try:
        yield
    finally:
        Phase._waits_for_python = own  # type: ignore[method-assign]


@contextlib.contextmanager
def _without_kernels() -> Iterator[None]:
    own, layers.has_fused_kernels = layers.has_fused_kernels, lambda x, weight: False
    try:
        yield
    finally:
        layers.has_fused_kernels = own


@contextlib.contextmanager
def _compiled() -> Iterator[None]:
    """Blocks by torch.compile, in place of the fused kernels."""
    own, Block.forward = Block.forward, torch.compile(Block.forward, dynamic=False)  # type: ignore[method-assign]
    try:
        with _without_kernels(), torch._dynamo.config.patch(recompile_limit=64):
            yield
    finally:
        Block.forward = own  # type: ignore[method-assign]


_WAYS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "ours": contextlib.nullcontext,
    "not recorded": _not_recorded,
    "without fused kernels": _without_kernels,
    "compiled": _compiled,
}


def _steps_of(recipe: Recipe) -> int:
    """Of all generators together, in the whole schedule."""
    return sum(
        rounds * sum(settings.steps for settings in stage.generators.values())
        for rounds, stage in recipes.stages(recipe)
    )


# Slots


def measure_slots(clock: Clock, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each number of items side by side: items an hour, seconds an item, memory."""
    rows: list[dict[str, object]] = []
    scene = _scene(arguments, recipes.preset("montage"), clock.device, "bfloat16")
    for count in map(int, arguments.slots.split(",")):
        if clock.is_over and rows:
            return [*rows, {"slots": count, "left_out": "no time"}]
        starts = [scene.start(seed) for seed in range(count)]
        if clock.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(clock.device)
        try:
            batch = scene.optimizer(count)
            started = clock.now_s()
            for start in starts:
                batch.admit(start)
            finished = []
            while batch.keys:
                batch.run_round()
                finished += batch.release()
            seconds = clock.now_s() - started
            pictures_s = clock.once_s(functools.partial(_make_pictures, finished))
        except torch.OutOfMemoryError:
            return [*rows, {"slots": count, "left_out": "out of memory"}]
        row: dict[str, object] = {
            "slots": count,
            "seconds": _rounded(seconds),
            "seconds_per_item": _rounded(seconds / count),
            "items_per_hour": _rounded(3600 * count / seconds),
            "pictures_ms_per_item": _rounded(1e3 * pictures_s / count),
        }
        if clock.device.type == "cuda":
            row["peak_gb"] = _rounded(torch.cuda.max_memory_allocated(clock.device) / 1e9)
        rows.append(row)
        print(f"slots: {json.dumps(row)}", flush=True)
    return rows


def _make_pictures(finished: list[Finished]) -> None:
    for item in finished:
        encode.result_images(item)


# Detector


def measure_detector(clock: Clock, arguments: argparse.Namespace) -> dict[str, object]:
    """Milliseconds of one look at one canvas, and how many of them an item has."""
    generator = Generator.load(demo_path("canvas"), clock.device)
    small = generator.images_of_seeds(range(_DETECTED), 0.7)
    size = (arguments.size, arguments.size * generator.width // generator.height)
    pixels = images.to_pixels(F.interpolate(small, size, mode="bilinear"))
    detector = FaceDetector(clock.device, smallest_face=SMALLEST_FACE_OF_CANVAS)
    seconds = clock.best_s(lambda: detector.find(pixels))
    found = sum(box is not None for box in detector.find(pixels))
    stages = recipes.stages(recipes.preset("montage"))
    looks = sum(rounds for rounds, stage in stages if stage.region_step)
    return {"ms": _rounded(1e3 * seconds / _DETECTED), "found": found, "looks_per_item": looks}


# Scores


def measure_scores(clock: Clock, arguments: argparse.Namespace) -> dict[str, object]:
    """The literal losses of every pair at the start and after each side; their means."""
    plain = recipes.preset("montage")
    scene = _scene(arguments, plain, clock.device)
    ends = {
        precision: finish(plain, _scene(arguments, plain, clock.device, precision), arguments.pairs)
        for precision in _PRECISIONS
    }
    rows: list[list[float]] = []
    for seed in range(arguments.pairs):
        if clock.is_over and rows:
            break
        literal = LiteralLoop(scene, seed)
        literal.run_all()
        results = [scene.start(seed).latents, literal.latents()]
        results += [ends[precision][seed] for precision in _PRECISIONS]
        rows.append([_rounded(literal.score(latents)) for latents in results])
    means = [_rounded(statistics.mean(column)) for column in zip(*rows, strict=True)]
    return {"sides": ["start", "literal", *_PRECISIONS], "pairs": rows, "means": means}


def _scene(
    arguments: argparse.Namespace,
    recipe: Recipe,
    device: torch.device,
    precision: Precision = "float32",
) -> Scene:
    return Scene(arguments.size, recipe, arguments.channels, device=device, precision=precision)


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    """So many steps of each generator in a round, and rounds enough."""
    return dataclasses.replace(with_steps(recipe, steps), max_rounds=99, min_rounds=99)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
