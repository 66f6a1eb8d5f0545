"""Teach the network of parts (`nets/parts.py`) on rendered people, whose parts are known.

It has to work on what generators paint, too, which is softer than any rendering, and moves while it
is optimised: so the pictures are moved, scaled, tinted, blurred and made noisy. A batch depends on
the step alone, and everything that a resumed training needs is in one file.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from insetgan_batch.demo.augment import blur, uniform
from insetgan_batch.nets import parts
from insetgan_batch.people.labels import BodyPart
from insetgan_batch.people.pictures import shard_paths

PEOPLE = 2000
_BATCH = 8  # of each view
_CHECKPOINT_INTERVAL_S = 120.0
HEIGHTS = {
    "body": parts.HEIGHT_OF_CANVAS,
    "face": parts.HEIGHT_OF_INSET,
    "shoes": parts.HEIGHT_OF_INSET,
}
CLASS_OF_PART = {
    BodyPart.BACKGROUND: "backdrop",
    BodyPart.SKIN: "skin",
    BodyPart.HAIR: "hair",
    BodyPart.TOP: "clothes",
    BodyPart.TROUSERS: "clothes",
    BodyPart.SHOES: "shoes",
    BodyPart.HANDS: "clothes",
    BodyPart.EYES: "skin",
    BodyPart.SKIRT: "clothes",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Examples:
    """Pictures of one view at the network's working height. rgb uint8 `[n 3 h w]`; shares uint8 `[n
    class h w]`, 255 where the whole pixel shows the class.
    """

    rgb: Tensor
    shares: Tensor


def load(directory: Path, people: int) -> dict[str, Examples]:
    """The first people of the shards that `pictures.render_all` wrote, by view; one shard is in
    memory at a time.
    """
    made: dict[str, list[Examples]] = {view: [] for view in HEIGHTS}
    count = 0
    for path in shard_paths(directory):
        shard = np.load(path)
        for view, examples in made.items():
            examples.append(to_examples(shard[view], shard[f"{view}_parts"], HEIGHTS[view]))
        count += len(shard["seeds"])
        if count >= people:
            break
    return {
        view: Examples(
            torch.cat([e.rgb for e in examples])[:people],
            torch.cat([e.shares for e in examples])[:people],
        )
        for view, examples in made.items()
    }


def to_examples(rgb: np.ndarray, labels: np.ndarray, height: int) -> Examples:
    """Pictures uint8 `[n H W 3]` with a `BodyPart` of each pixel `[n H W]`, shrunk to a height."""
    factor = rgb.shape[1] // height
    images = torch.from_numpy(rgb).permute(0, 3, 1, 2).float()
    shares = 255 * class_shares(labels)
    return Examples(
        F.avg_pool2d(images, factor).round().byte(), F.avg_pool2d(shares, factor).round().byte()
    )


def class_shares(labels: np.ndarray) -> Tensor:
    """1 for the class of a pixel's `BodyPart`, else 0: `[n class H W]` of `[n H W]`."""
    table = np.zeros(len(BodyPart), np.uint8)
    for part, name in CLASS_OF_PART.items():
        table[part] = parts.CLASSES.index(name)
    classes = torch.arange(len(parts.CLASSES))[:, None, None]
    return (torch.from_numpy(table[labels])[:, None] == classes).float()


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """Steps whose size falls from `learning_rate` along a cosine to 0. empty: pictures of nothing
    in each batch of a view.
    """

    steps: int
    learning_rate: float
    empty: int


# First people; then also that nothing is an answer.
COURSES = (Course(3000, 2e-3, empty=0), Course(250, 5e-4, empty=1))


@dataclasses.dataclass(slots=True)
class Training:
    """What a checkpoint holds. step: optimiser steps done."""

    network: parts.PartsNetwork
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def resume(cls, path: Path) -> Training:
        """Go on from a checkpoint, or start where there is none, always with the same weights."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = parts.PartsNetwork()
        training = cls(network, torch.optim.Adam(network.parameters()))
        if path.exists():
            state = torch.load(path, weights_only=True)
            network.load_state_dict(state["network"])
            training.optimizer.load_state_dict(state["optimizer"])
            training.step = state["step"]
        return training

    def save(self, path: Path) -> None:
        """Write the checkpoint; an interrupted write leaves the earlier one."""
        temporary = path.with_suffix(".part")
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, temporary)
        temporary.replace(path)


def train(
    examples: dict[str, Examples], directory: Path, courses: tuple[Course, ...] = COURSES
) -> Training:
    """Train to the end of the last course, with a progress bar and checkpoints in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "parts.training.pt"
    training = Training.resume(path)
    saved_at = time.monotonic()
    steps = sum(course.steps for course in courses)
    for _ in track(range(training.step, steps), "parts"):
        train_step(training, examples, courses)
        if time.monotonic() - saved_at > _CHECKPOINT_INTERVAL_S or training.step == steps:
            training.save(path)
            saved_at = time.monotonic()
    return training


def train_step(
    training: Training, examples: dict[str, Examples], courses: tuple[Course, ...]
) -> float:
    """One optimiser step on pictures of every view; returns the loss."""
    learning_rate, empty = _plan(training.step, courses)
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate
    random = torch.Generator().manual_seed(training.step)
    losses = []
    for some in examples.values():
        images, shares = augment(*batch_of(some, empty, random), random)
        losses.append(F.cross_entropy(training.network(images), shares))
    loss = torch.stack(losses).mean()
    training.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    training.step += 1
    return loss.item()


def _plan(step: int, courses: tuple[Course, ...]) -> tuple[float, int]:
    """Step size and number of empty pictures of a step."""
    for course in courses:
        if step < course.steps:
            fall = (1 + math.cos(math.pi * step / course.steps)) / 2
            return course.learning_rate * fall, course.empty
        step -= course.steps
    raise ValueError(f"step {step} is beyond the last course")


def batch_of(some: Examples, empty: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures and shares of a view, the first ones empty: any plain colour is a backdrop."""
    chosen = torch.randint(len(some.rgb), (_BATCH,), generator=random)
    rgb, shares = some.rgb[chosen], some.shares[chosen]
    rgb[:empty] = torch.randint(256, (empty, 3, 1, 1), generator=random).byte()
    shares[:empty] = 0
    shares[:empty, parts.CLASSES.index("backdrop")] = 255
    return rgb, shares


def augment(rgb: Tensor, shares: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images `[n 3 h w]` in -1..1, moved, scaled, tinted, blurred and noisy, and the shares `[n
    class h w]` in 0..1, moved and scaled as they are.
    """
    grid = _frames(len(rgb), (rgb.shape[2], rgb.shape[3]), random)
    images = F.grid_sample(
        rgb.float() / 127.5 - 1, grid, padding_mode="border", align_corners=False
    )
    moved = F.grid_sample(shares.float() / 255, grid, padding_mode="border", align_corners=False)
    n = len(rgb)
    contrast = uniform(random, 0.7, 1.3, n, 1) * uniform(random, 0.9, 1.1, n, 3)
    brightness = uniform(random, -0.2, 0.2, n, 1) + uniform(random, -0.08, 0.08, n, 3)
    images = blur(images * contrast + brightness, uniform(random, 0, 1.6, n, 1))
    noise = torch.randn(images.shape, generator=random)
    images = (images + noise * uniform(random, 0, 0.06, n, 1)).clamp(-1, 1)
    return images, moved


def _frames(n: int, size: tuple[int, int], random: torch.Generator) -> Tensor:
    """Where the pixels of moved and scaled pictures come from, as `grid_sample` takes it."""
    scale = torch.exp(uniform(random, -0.22, 0.22, n, 1)[..., 0, 0])
    mirror = torch.where(torch.rand(n, generator=random) < 0.5, -1.0, 1.0)[:, None]
    shift = uniform(random, -0.15, 0.15, n, 2)[..., 0, 0]
    zero = torch.zeros(n, 1)
    rows = [
        torch.cat([scale * mirror, zero, shift[:, :1]], dim=1),
        torch.cat([zero, scale, shift[:, 1:]], dim=1),
    ]
    return F.affine_grid(torch.stack(rows, dim=1), [n, 1, *size], align_corners=False)
