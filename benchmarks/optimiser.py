"""One step of one item against a literal loop, and continuous batches against ones that wait.

    python benchmarks/optimiser.py [--size 256] [--items 8] [--pairs 4] [--batches 24]
                                   [--parts steps,scores,populations] [--sides literal,ours,...]
                                   [--out benchmarks/results/optimiser.json]

Steps: random full-channel generators, canvas and inset of the same size, a region of a quarter of
it, the default recipe. The literal loop does in every step what published programs do: it paints
both sides, lets the package `lpips` compare both images of every pair, and computes the gradients
of the weights too, since nothing tells it not to; one pair at a time, torch's Adam. The standing
side is painted without gradients, which is kind to it. Losses, weights and schedule are the same.
Ours computes in the precision that a run chooses here (`precision: auto`). What makes it faster is
switched off in turn:

    anew      the literal loop with our generators: the standing side and the features of what
              stands still are computed in every step, in float32
    float32   ours, but steps are in float32
    kernels   the same, and kernels are modulated for each image

and what the default does not do is switched on:

    low       three of four steps look at as much of the pictures as they must (`full_share: 0.25`)
    batch     eight items side by side

All steps of a side cost the same, so the first stage is enough: ours on one round with all that
surrounds its steps (objectives, whole pictures, scores), the literal loops, which have nothing
around theirs, on five steps of each generator. One process that keeps freed memory, which is kind
to the literal loop too. Detectors would cost all sides the same and are left out. Speed-ups are of
wall time; those of the process' CPU time stand beside them, which other programs disturb less.

Scores: small generators, the whole schedule, one resolution above the one that a step of low
resolution looks at; those of the literal losses in full resolution. Several pairs, since a single
one is chance: starts that differ by 1e-4 end with scores that differ by 1 to 7 %.

Population: tiny generators, items that need 4 to 12 rounds (evenly spread, and evenly in the
logarithm). A fixed batch moves all of its items until the slowest has converged, and then admits
the next ones; a shrinking one waits as well, but moves only those that have not converged; the
continuous one admits at the end of every round. Rounds take turns here too. Prints tables; the JSON
file keeps one object per size, and the scores and populations of the last call that measured them.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import lpips
import surroundings
import torch
from generators import Weights, paint_literally
from torch import Tensor

from insetgan_batch import boxes
from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import images, schedule
from insetgan_batch.methods.insetgan import recipe_variants as recipes
from insetgan_batch.methods.insetgan.recipe import CANVAS, GeneratorSettings, ImageWeights, Recipe
from insetgan_batch.methods.insetgan.recipe_variants import for_item
from insetgan_batch.methods.insetgan.seam import SeamTerm
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Start
from insetgan_batch.nets.checkpoint import Checkpoint
from insetgan_batch.nets.detector import FixedBox
from insetgan_batch.nets.devices import Precision, best_precision
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.layers import Noise
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from insetgan_batch.nets.windows import Crop
from insetgan_batch.runtime.allocator import keep_freed_memory

_CPU = torch.device("cpu")
_FACE = "face"
_NAMES = (CANVAS, _FACE)
_FEWEST_ROUNDS, _MOST_ROUNDS = 4, 12
_PSI = 0.7
_SCORED_PX = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="height of both generators, 64 up")
    parser.add_argument("--items", type=int, default=8, help="slots of the batch")
    parser.add_argument("--sides", default=",".join(_SIDES), help="the literal loop is needed")
    parser.add_argument("--pairs", type=int, default=4, help="whose scores are compared")
    parser.add_argument("--batches", type=int, default=24, help="fixed batches of a population")
    parser.add_argument("--parts", default="steps,scores,populations")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    parts = set(arguments.parts.split(","))
    keep_freed_memory()
    facts = {
        "command": " ".join(["python", *sys.argv]),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_before": round(os.getloadavg()[0], 1),
    } | surroundings.describe()
    found: dict[str, object] = {}
    if "steps" in parts:
        sides = arguments.sides.split(",")
        found[f"steps at {arguments.size}"] = measure_steps(arguments.size, arguments.items, sides)
    if "scores" in parts:
        found["scores"] = measure_scores(arguments.pairs)
    if "populations" in parts:
        found["populations"] = {
            name: measure_population(name, arguments.items, arguments.batches)
            for name in _POPULATIONS
        }
    found = {name: {"found": result} | facts for name, result in found.items()}
    print(json.dumps(found))
    if arguments.out:
        kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        arguments.out.write_text(json.dumps(kept | found, indent=1) + "\n")


@dataclasses.dataclass(slots=True)
class Clock:
    """Time that one side has used."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def time(self, work: Callable[[], object]) -> None:
        """Do some work of this side."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        work()
        self.wall_s += time.perf_counter() - wall_s
        self.cpu_s += time.process_time() - cpu_s


# Steps


_LITERAL_SIDES = ("literal", "anew")
_SIDES = (*_LITERAL_SIDES, "ours", "float32", "kernels", "low", "batch")
_LITERAL_STEPS = 5
_LOW_SHARE = 0.25


def measure_steps(size: int, items: int, names: list[str]) -> list[dict[str, object]]:
    """A row for each side: milliseconds of one step of one item."""
    found = {name: _measure_side(name, size, items) for name in names}
    rows: list[dict[str, object]] = []
    print(f"{'side':8} {'ms per item-step':>16} {'of CPU':>9} {'speed-up':>9} {'by CPU':>8}")
    for name, (wall_ms, cpu_ms) in found.items():
        literal = found["literal"]
        row = {
            "side": name,
            "items": items if name == "batch" else 1,
            "ms_per_item_step": round(wall_ms, 1),
            "cpu_ms_per_item_step": round(cpu_ms, 1),
            "speedup": round(literal[0] / wall_ms, 2),
            "speedup_by_cpu": round(literal[1] / cpu_ms, 2),
        }
        rows.append(row)
        print(
            f"{name:8} {row['ms_per_item_step']:16} {row['cpu_ms_per_item_step']:9}"
            f" {row['speedup']:8}x {row['speedup_by_cpu']:7}x"
        )
    return rows


def _measure_side(name: str, size: int, items: int) -> tuple[float, float]:
    """Milliseconds of one step of one item, of the clock and of the CPU."""
    _, stage = recipes.stages(recipes.preset("montage"))[0]
    if name in _LITERAL_SIDES:
        stage = with_steps(stage, _LITERAL_STEPS)
    elif name == "low":
        stage = dataclasses.replace(stage, full_share=_LOW_SHARE)
    in_float32 = name in (*_LITERAL_SIDES, "float32", "kernels")
    precision = "float32" if in_float32 else best_precision(_CPU)
    scene, clock = Scene(size, stage, precision=precision), Clock()
    clock.time(_round_of(name, scene, items))
    steps = len(_NAMES) * stage.canvas.steps * (items if name == "batch" else 1)
    return 1e3 * clock.wall_s / steps, 1e3 * clock.cpu_s / steps


def _round_of(name: str, scene: Scene, items: int) -> Callable[[], None]:
    """One round of a side, ready to run."""
    if name in _LITERAL_SIDES:
        return LiteralLoop(scene, 0, scene.generators if name == "anew" else None).run_round
    batch = scene.optimizer(items if name == "batch" else 1)
    if name == "kernels":
        literal = {key: _Literal(network, key) for key, network in scene.networks.items()}
        batch = scene.optimizer(1, literal)
    for seed in range(batch.capacity):
        batch.admit(scene.start(seed))
    return batch.run_round


class _Literal(Generator):
    """A generator in the literal formulation, without gradients of weights."""

    def __init__(self, network: StyleGAN2, name: str) -> None:
        super().__init__(Checkpoint(network, {}, name), _CPU)
        self._weights = network.state_dict()

    def synthesise(self, ws: Tensor, *, upto: int | None = None, noise: Noise = "const") -> Tensor:
        """Images `[n 3 h w]`."""
        heights = [h for h in self._heights if upto is None or h <= upto]
        return paint_literally(self._weights, heights, ws)


def measure_scores(pairs: int) -> dict[str, object]:
    """The score of every pair at the start and after each side; their means."""
    plain = dataclasses.replace(
        recipes.preset("montage"), resolution=_SCORED_PX, coarse_size=_SCORED_PX
    )
    low = dataclasses.replace(plain, full_share=_LOW_SHARE, picture_size=_SCORED_PX << 1)
    own = Scene(_SCORED_PX << 2, plain, channels=16, precision=best_precision(_CPU))
    scene = Scene(_SCORED_PX << 2, plain, channels=16)
    ends = [finish(plain, own, pairs), finish(plain, scene, pairs), finish(low, own, pairs)]
    rows: list[list[float]] = []
    print(f"{'pair':>4} {'start':>8} {'literal':>8} {'ours':>8} {'float32':>8} {'low':>8}")
    for seed in range(pairs):
        literal = LiteralLoop(scene, seed)
        literal.run_all()
        results = [scene.start(seed).latents, literal.latents(), *(end[seed] for end in ends)]
        rows.append([round(literal.score(latents), 4) for latents in results])
        print(f"{seed:4} " + " ".join(f"{score:8}" for score in rows[-1]))
    means = [round(statistics.mean(column), 4) for column in zip(*rows, strict=True)]
    print("mean " + " ".join(f"{mean:8}" for mean in means))
    return {
        "sides": ["start", "literal", "ours", "float32", "low"],
        "pairs": rows,
        "means": means,
        "by_literal": {"ours": _ratios(rows, 2), "float32": _ratios(rows, 3)},
    }


def _ratios(rows: list[list[float]], side: int) -> dict[str, float]:
    """Of a side's scores and the literal loop's: the mean, its standard error, how many are
    worse.
    """
    ratios = [row[side] / row[1] for row in rows]
    error = statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    return {
        "mean": round(statistics.mean(ratios), 4),
        "standard_error": round(error, 4),
        "worse": sum(ratio > 1 for ratio in ratios),
    }


def finish(recipe: Recipe, scene: Scene, pairs: int) -> list[dict[str, Tensor]]:
    """Where pairs end under a recipe: `[1+l c]` of each generator."""
    batch = scene.optimizer(pairs, recipe=recipe)
    for seed in range(pairs):
        batch.admit(scene.start(seed, recipe))
    finished: dict[int, dict[str, Tensor]] = {}
    while batch.keys:
        batch.run_round()
        finished |= {int(item.key): item.best.latents for item in batch.release()}
    return [finished[seed] for seed in range(pairs)]


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """So many steps of each generator in a round."""
    return dataclasses.replace(
        recipe,
        canvas=dataclasses.replace(recipe.canvas, steps=steps),
        insets={_FACE: dataclasses.replace(recipe.insets[_FACE], steps=steps)},
    )


class Scene:
    """Two random generators, where the part is in their images, and what an item is held to."""

    def __init__(
        self,
        size: int,
        recipe: Recipe,
        channels: int = 512,
        *,
        device: torch.device = _CPU,
        precision: Precision = "float32",
    ) -> None:
        self.recipe, self.perceptual = recipe, Perceptual(None, precision).to(device)
        self.lpips = _lpips(self.perceptual).to(device)
        heights = [4 << i for i in range(int(math.log2(size)) - 1)]
        architecture = Architecture(
            (4, 4),
            tuple(min(32768 // h, channels) for h in heights),
            z_dim=channels,
            w_dim=channels,
        )
        self.heights = heights
        self.networks = {name: _random(architecture, seed) for seed, name in enumerate(_NAMES)}
        self.generators = {
            name: Generator(
                Checkpoint(network, {}, name),
                device,
                precision=precision,
            )
            for name, network in self.networks.items()
        }
        self.inset_box = Box(0.25 * size, 0.2 * size, 0.75 * size, 0.8 * size)
        # Half as large as in the inset, so that the region is a quarter of the canvas high.
        self.canvas_box = Box(0.4375 * size, 0.1 * size, 0.5625 * size, 0.25 * size)
        self.region = boxes.align(self.canvas_box, self.inset_box, size, size)

    def optimizer(
        self,
        capacity: int,
        generators: Mapping[str, Generator] | None = None,
        recipe: Recipe | None = None,
    ) -> SlotOptimizer:
        """An empty batch, of other generators or another recipe than the scene's if need be."""
        using = generators or self.generators
        return SlotOptimizer(
            canvas=using[CANVAS],
            insets={_FACE: using[_FACE]},
            detectors={_FACE: FixedBox(self.inset_box)},
            canvas_detectors={_FACE: FixedBox(self.canvas_box)},
            perceptual=self.perceptual,
            recipe=recipe or self.recipe,
            capacity=capacity,
        )

    def start(self, seed: int, recipe: Recipe | None = None) -> Start:
        """A pair of seeds, each generator held to its own picture."""
        latents, references = {}, {}
        for name, generator in self.generators.items():
            latents[name] = generator.latents_of(generator.seeds_to_w([seed], _PSI)[0])
            references[name] = generator.images_of_seeds([seed], _PSI)[0]
        return Start(str(seed), recipe or self.recipe, latents, references)


def _lpips(ours: Perceptual) -> lpips.LPIPS:
    """With our weights, as its authors' package computes it, which published programs use."""
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, lpips=False, verbose=False)
    prefix = "_lpips.net."
    weights = {
        k.removeprefix(prefix): v for k, v in ours.state_dict().items() if k.startswith(prefix)
    }
    theirs.net.load_state_dict(weights)
    return theirs.requires_grad_(False).eval()


def _random(architecture: Architecture, seed: int) -> StyleGAN2:
    torch.manual_seed(seed)
    return StyleGAN2(architecture).freeze()


class LiteralLoop:
    """One pair as published programs optimise it: everything anew in every step.

    generators: ours, in place of the literal formulation with its gradients of weights.
    """

    def __init__(
        self, scene: Scene, seed: int, generators: Mapping[str, Generator] | None = None
    ) -> None:
        self._generators = generators
        start = scene.start(seed)
        self._scene, self._recipe = scene, scene.recipe
        self._references = {name: image[None] for name, image in start.references.items()}
        self._latents = {
            name: latents[None].clone().requires_grad_() for name, latents in start.latents.items()
        }
        self._weights = {name: _learnable(n) for name, n in scene.networks.items()}
        self._adam = {name: torch.optim.Adam([self._latents[name]]) for name in _NAMES}
        self._steps = dict.fromkeys(_NAMES, 0)
        self._losses = {CANVAS: self._canvas_loss, _FACE: self._inset_loss}

    def enter(self, stage: Recipe) -> None:
        """Begin a stage of the recipe."""
        self._recipe, self._steps = stage, dict.fromkeys(_NAMES, 0)

    def run_round(self) -> None:
        """One phase of each generator."""
        for name in _NAMES:
            for _ in range(self._recipe.generators[name].steps):
                self._step(name)

    def run_all(self) -> None:
        """The whole schedule of the scene's recipe."""
        for rounds, stage in recipes.stages(self._scene.recipe):
            self.enter(stage)
            for _ in range(rounds):
                self.run_round()

    def latents(self) -> dict[str, Tensor]:
        """Where it is: `[1+l c]` of each generator."""
        return {name: latents.detach()[0] for name, latents in self._latents.items()}

    def score(self, latents: dict[str, Tensor]) -> float:
        """Both losses of a pair under the whole recipe's weights."""
        self.enter(self._scene.recipe)
        with torch.no_grad():
            painted = {name: self._paint(name, latents[name][None]) for name in _NAMES}
            losses = [self._losses[name](painted, latents[name][None], ramp=1.0) for name in _NAMES]
        return sum(float(loss) for loss in losses)

    def _step(self, moving: str) -> None:
        settings, step = self._recipe.generators[moving], self._steps[moving]
        painted = {}
        for name in _NAMES:
            with torch.set_grad_enabled(name == moving):
                painted[name] = self._paint(name, self._latents[name])
        ramp = schedule.border_ramp(self._recipe, settings, step)
        loss = self._losses[moving](painted, self._latents[moving], ramp=ramp)
        adam = self._adam[moving]
        adam.param_groups[0]["lr"] = schedule.learning_rate(self._recipe, settings, step)
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        self._steps[moving] += 1

    def _paint(self, name: str, latents: Tensor) -> Tensor:
        ws = self._scene.generators[name].ws_of(latents)
        if self._generators is not None:
            return self._generators[name].synthesise(ws)
        return paint_literally(self._weights[name], self._scene.heights, ws)

    def _canvas_loss(self, painted: dict[str, Tensor], latents: Tensor, *, ramp: float) -> Tensor:
        canvas, settings = painted[CANVAS], self._recipe.canvas
        covered = images.box_mask(
            _tensor(self._scene.region, canvas), (canvas.shape[2], canvas.shape[3])
        )
        body = self._image_loss(canvas, self._references[CANVAS], 1 - covered, settings.body)
        return (
            body + self._region_loss(painted, settings, ramp) + self._latent_loss(CANVAS, latents)
        )

    def _inset_loss(self, painted: dict[str, Tensor], latents: Tensor, *, ramp: float) -> Tensor:
        inset, settings = painted[_FACE], self._recipe.insets[_FACE]
        inside = images.box_mask(
            _tensor(self._scene.inset_box, inset), (inset.shape[2], inset.shape[3])
        )
        face = self._image_loss(inset, self._references[_FACE], inside, settings.face)
        return face + self._region_loss(painted, settings, ramp) + self._latent_loss(_FACE, latents)

    def _region_loss(
        self, painted: dict[str, Tensor], settings: GeneratorSettings, ramp: float
    ) -> Tensor:
        """Coarse and border: the canvas' crop against the inset."""
        side = self._recipe.resolution
        region = _tensor(self._scene.region, painted[CANVAS])
        crop = images.resample(painted[CANVAS], region, (side, side))
        inset = images.downsample(painted[_FACE], side)
        border = self._image_loss(
            crop, inset, images.border_mask(side).to(crop.device), settings.border
        )
        crop, inset = (images.downsample(x, self._recipe.coarse_size) for x in (crop, inset))
        coarse = self._image_loss(crop, inset, torch.ones_like(crop[:, :1]), settings.coarse)
        seam = SeamTerm(region, (painted[CANVAS].shape[2], painted[CANVAS].shape[3]))
        visible = seam(Crop.whole(painted[CANVAS]), painted[_FACE]).sum()
        return coarse + ramp * (border + settings.seam * visible)

    def _image_loss(
        self, image: Tensor, target: Tensor, mask: Tensor, weights: ImageWeights
    ) -> Tensor:
        difference = (image - target).abs().mean(dim=1, keepdim=True)
        apart = self._scene.lpips(image * mask, target * mask).sum()
        distances: Tensor = weights.l1 * (difference * mask).mean() + weights.lpips * apart
        return distances / mask.mean()

    def _latent_loss(self, name: str, latents: Tensor) -> Tensor:
        settings, w_avg = self._recipe.generators[name], self._scene.generators[name].w_avg
        from_average = (latents[0, 0] - w_avg).square().mean()
        return settings.latent * from_average + settings.delta * latents[0, 1:].square().mean()


def _learnable(network: StyleGAN2) -> Weights:
    """A copy of the weights as a file gives them to a program: they want gradients."""
    return {
        name: tensor.detach().clone().requires_grad_("noise" not in name)
        for name, tensor in network.state_dict().items()
    }


def _tensor(box: Box, like: Tensor) -> Tensor:
    return like.new_tensor([box.as_tuple()])


# Population


def _evenly(share: float) -> float:
    return _FEWEST_ROUNDS - 0.5 + share * (_MOST_ROUNDS - _FEWEST_ROUNDS + 1)


def _evenly_in_the_logarithm(share: float) -> float:
    return float(_FEWEST_ROUNDS * (_MOST_ROUNDS / _FEWEST_ROUNDS) ** share)


_L1 = ImageWeights(l1=1.0)
_WAYS = ("fixed", "shrinking", "continuous")
_TINY = Recipe(
    canvas=GeneratorSettings(steps=20, coarse=_L1, border=_L1, body=_L1),
    insets={_FACE: GeneratorSettings(steps=20, coarse=_L1, border=_L1, face=_L1)},
    resolution=32,
    coarse_size=32,
    max_rounds=_MOST_ROUNDS,
)
_POPULATIONS = {"even": _evenly, "even in the logarithm": _evenly_in_the_logarithm}


def measure_population(name: str, slots: int, batches: int) -> dict[str, object]:
    """Items per minute of all three ways, over the same number of rounds."""
    scene = Scene(32, _TINY, channels=8)
    ways = {
        way: Way(scene.optimizer(slots), _items(scene, _POPULATIONS[name]), way) for way in _WAYS
    }
    fixed, continuous = ways["fixed"], ways["continuous"]
    for _ in range(_MOST_ROUNDS):  # else all items that it has would have begun together
        continuous.run_round()
    continuous.finished = continuous.rounds = 0
    clocks = {way: Clock() for way in _WAYS}
    while fixed.finished < slots * batches:
        for way, clock in clocks.items():
            clock.time(ways[way].run_round)
    rates = {way: 60 * ways[way].finished / clock.wall_s for way, clock in clocks.items()}
    row: dict[str, object] = {"population": name, "slots": slots}
    for way, clock in clocks.items():
        row[way] = {
            "finished": ways[way].finished,
            "items_per_minute": round(rates[way], 1),
            "ms_per_round": round(1e3 * clock.wall_s / fixed.rounds, 1),
        }
    for way in ("fixed", "shrinking"):
        row[f"continuous_by_{way}"] = round(rates["continuous"] / rates[way], 3)
    print(f"rounds spread {name}: {_per_minute(rates)} items per minute")
    return row


def _per_minute(rates: dict[str, float]) -> str:
    return ", ".join(
        f"{way} {rate:.1f} ({rates['continuous'] / rate:.2f}x)" for way, rate in rates.items()
    )


class Way:
    """A batch that is filled from a stream without end.

    continuous: at every round. fixed: when its slowest item has converged, and until then all are
    moved, as a loop over stacked tensors or a captured graph moves them. shrinking: then too, but
    those that have converged are moved no more.
    """

    def __init__(self, optimizer: SlotOptimizer, items: Iterator[Start], way: str) -> None:
        self._optimizer, self._items, self._way = optimizer, items, way
        self._rounds_left = 0
        self.finished = self.rounds = 0

    def run_round(self) -> None:
        """Admit, move, release."""
        if not self._rounds_left:
            entering = [next(self._items) for _ in range(self._optimizer.free)]
            slowest = max((start.recipe.min_rounds for start in entering), default=0)
            for start in entering:
                self._optimizer.admit(_for(start, slowest) if self._way == "fixed" else start)
            self._rounds_left = 0 if self._way == "continuous" else slowest
        self._optimizer.run_round()
        self.rounds += 1
        self._rounds_left = max(0, self._rounds_left - 1)
        if not self._rounds_left:
            self.finished += len(self._optimizer.release())


def _for(start: Start, rounds: int) -> Start:
    """The item, moved for so many rounds."""
    return dataclasses.replace(start, recipe=dataclasses.replace(start.recipe, min_rounds=rounds))


def _items(scene: Scene, draw: Callable[[float], float]) -> Iterator[Start]:
    """Items that need the number of rounds that is drawn for each; the same ones every time."""
    numbers = random.Random(0)
    starts = [scene.start(seed) for seed in range(8)]
    for i in itertools.count():
        # Any round is within this tolerance, so the item has converged after its fewest.
        enough = {"min_rounds": round(draw(numbers.random())), "tolerance": 1.0}
        recipe = for_item(scene.recipe, enough)
        yield dataclasses.replace(starts[i % len(starts)], key=str(i), recipe=recipe)


if __name__ == "__main__":
    main()
