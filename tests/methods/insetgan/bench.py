"""Optimizers and items on tiny untrained generators, and plain code in place of the networks that
look at pictures.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan.recipe import GeneratorSettings, ImageWeights, Recipe
from insetgan_batch.methods.insetgan.recipe_variants import for_item
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Finished, Start
from insetgan_batch.methods.insetgan.terms import Term
from insetgan_batch.nets.detector import Detector, FixedBox
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual

T = TypeVar("T")
CANVAS_BOX, FACE_BOX = Box(8, 8, 20, 24), Box(8, 6, 22, 27)
STEPS = {"canvas": 3, "face": 4}
PAIR = ImageWeights(l1=1.0, lpips=0.1)
RECIPE = Recipe(
    canvas=GeneratorSettings(
        steps=3,
        learning_rate=0.03,
        coarse=PAIR,
        border=PAIR,
        seam=1.0,
        body=PAIR,
        latent=0.01,
        delta=0.1,
    ),
    insets={
        "face": GeneratorSettings(
            steps=4,
            learning_rate=0.02,
            coarse=PAIR,
            border=PAIR,
            seam=1.0,
            face=PAIR,
            latent=0.01,
            delta=0.1,
        )
    },
    resolution=32,
    coarse_size=32,
    min_rounds=3,
    max_rounds=3,
    border_ramp_rounds=2.0,
    region_slack=0.0,
)


def changed(recipe: Recipe = RECIPE, **overrides: Any) -> Recipe:
    """The recipe of a row with these overrides."""
    return for_item(recipe, overrides)


def terms_of(texts: Iterable[str]) -> set[Term]:
    """The terms that are called so."""
    return {Term.parse(text) for text in texts}


def by_text(found: Mapping[Term, T]) -> dict[str, T]:
    """The same by what the terms are called."""
    return {str(term): value for term, value in found.items()}


class Scripted:
    """Answers what it was told to, call by call (one list per call, one answer per image)."""

    def __init__(self, *answers: list[Box | None]) -> None:
        self._answers = list(answers)
        self.images: list[Tensor] = []

    def find(self, images: Tensor) -> list[Box | None]:
        self.images.append(images)
        return self._answers.pop(0)


class Follower:
    """Sees a part of the size of `home` near it, where the picture is bright: each image by itself,
    and the box moves by fractions of a pixel with the last bit of its bytes.
    """

    def __init__(self, home: Box) -> None:
        self._home = home

    def find(self, images: Tensor) -> list[Box | None]:
        brightness = images.double().mean(dim=3)
        height, width = brightness.shape[1:]
        y = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None]
        x = torch.linspace(-1, 1, width, dtype=torch.float64)
        total = brightness.sum(dim=(1, 2)) + 1e-9
        home, boxes = self._home, []
        for picture, sum_ in zip(brightness, total, strict=True):
            dx = 4 * float((picture * x).sum() / sum_)
            dy = 4 * float((picture * y).sum() / sum_)
            boxes.append(Box(home.x0 + dx, home.y0 + dy, home.x1 + dx, home.y1 + dy))
        return list(boxes)


class Ellipse:
    """A segmenter: 1 in an ellipse about the middle of every image, soft over some 4 pixels.

    Its radius is 0.3 images horizontally, and a quarter more vertically.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype

    def mask(self, images: Tensor) -> Tensor:
        height, width = images.shape[1:3]
        y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None] / height - 0.5
        x = (torch.arange(width, dtype=torch.float64) + 0.5) / width - 0.5
        distance = ((x / 0.3) ** 2 + (y / 0.375) ** 2).sqrt()
        inside = ((1 - distance) * 0.3 * width / 4 + 0.5).clamp(0, 1)
        return inside.to(self._dtype).expand(len(images), 1, -1, -1)


@dataclasses.dataclass
class Bench:
    """Makes optimizers and starts of a canvas and the insets that the recipe names."""

    generators: dict[str, Generator]
    perceptual: Perceptual

    def optimizer(
        self,
        recipe: Recipe = RECIPE,
        capacity: int = 4,
        detectors: Mapping[str, Detector] | None = None,
        **more: Any,
    ) -> SlotOptimizer:
        """detectors: `canvas` finds all parts on the canvas, others the part in their inset."""
        fixed: dict[str, Detector] = {"canvas": FixedBox(CANVAS_BOX)}
        fixed |= dict.fromkeys(recipe.insets, FixedBox(FACE_BOX))
        using = fixed | dict(detectors or {})
        return SlotOptimizer(
            canvas=self.generators["canvas"],
            insets={name: self.generators[name] for name in recipe.insets},
            detectors={name: using[name] for name in recipe.insets},
            canvas_detectors=dict.fromkeys(recipe.insets, using["canvas"]),
            perceptual=self.perceptual,
            recipe=recipe,
            capacity=capacity,
            **more,
        )

    def start(self, key: str, seed: int, recipe: Recipe = RECIPE, **fields: Any) -> Start:
        """Canvas of a seed, insets of the next ones; each is held to its own picture."""
        latents, references = {}, {}
        for s, name in enumerate(recipe.generators, seed):
            generator = self.generators[name]
            latents[name] = generator.latents_of(self.w(name, s, recipe.psi))
            references[name] = self.paint(name, latents[name])
        return dataclasses.replace(Start(key, recipe, latents, references), **fields)

    def w(self, name: str, seed: int, psi: float) -> Tensor:
        """The same numbers in every type: w `[c]`, about the generator's average."""
        w_avg = self.generators[name].w_avg
        noise = torch.randn(len(w_avg), generator=torch.Generator().manual_seed(seed))
        return w_avg + psi * noise.to(w_avg.dtype)

    def paint(self, name: str, latents: Tensor) -> Tensor:
        with torch.no_grad():
            generator = self.generators[name]
            return generator.synthesise(generator.ws_of(latents)[None])[0]

    def finish(self, *starts: Start, recipe: Recipe = RECIPE, **more: Any) -> dict[str, Finished]:
        """Run these items together until all have left."""
        optimizer = self.optimizer(recipe, capacity=len(starts), **more)
        for start in starts:
            optimizer.admit(start)
        return run_until_empty(optimizer)


def run_until_empty(optimizer: SlotOptimizer) -> dict[str, Finished]:
    finished: dict[str, Finished] = {}
    for _ in range(20):
        optimizer.run_round()
        finished |= {f.key: f for f in optimizer.release()}
        if not optimizer.keys:
            return finished
    raise AssertionError("items were still inside after 20 rounds")


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """As another machine gets it: read as data, never as code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def furthest(a: Finished, b: Finished) -> float:
    """The largest difference between the latents of two results."""
    return max(
        float((a.best.latents[name] - b.best.latents[name]).abs().max()) for name in a.best.latents
    )


def movement(finished: Finished) -> float:
    """The furthest that a latent has gone."""
    start, best = finished.start.latents, finished.best.latents
    return max(float((start[name] - best[name]).abs().max()) for name in start)
