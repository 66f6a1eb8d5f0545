"""Teach the network of parts (`nets/parts.py`) on rendered people, whose parts are known.

It has to work on what generators paint, too, which is softer than any rendering, and moves while it
is optimised: so the pictures are moved, scaled, tinted, blurred and made noisy. A batch depends on
the step alone, so a resumed training goes on exactly.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.demo.augment import blur, uniform
from insetgan_batch.demo.training import Training, cosine, find_step, run
from insetgan_batch.nets import parts
from insetgan_batch.people.labels import BodyPart
from insetgan_batch.people.pictures import shard_paths

PEOPLE = 2000
_BATCH = 8  # of each view
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
class PartsSchedule:
    """Steps whose size falls from `learning_rate` along a cosine to 0. empty: pictures of nothing
    in each batch of a view.
    """

    steps: int
    learning_rate: float
    empty: int


# First people; then also that nothing is an answer.
SCHEDULES = (PartsSchedule(3000, 2e-3, empty=0), PartsSchedule(250, 5e-4, empty=1))


def start() -> Training[parts.PartsNetwork]:
    """A fresh training; the initial weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = parts.PartsNetwork()
    return Training(network, torch.optim.Adam(network.parameters()))


def train(
    examples: dict[str, Examples],
    directory: Path,
    schedules: tuple[PartsSchedule, ...] = SCHEDULES,
) -> Training[parts.PartsNetwork]:
    """Train to the end of the last schedule, with a progress bar and checkpoints in `directory`."""
    training = start()
    run(
        training,
        directory / "parts.training.pt",
        steps=sum(schedule.steps for schedule in schedules),
        train_step=lambda: train_step(training, examples, schedules),
    )
    return training


def train_step(
    training: Training[parts.PartsNetwork],
    examples: dict[str, Examples],
    schedules: tuple[PartsSchedule, ...],
) -> float:
    """One optimiser step on pictures of every view; returns the loss."""
    schedule, within = find_step(schedules, training.step)
    random = torch.Generator().manual_seed(training.step)
    losses = []
    for some in examples.values():
        images, shares = augment(*batch_of(some, schedule.empty, random), random)
        losses.append(F.cross_entropy(training.network(images), shares))
    loss = torch.stack(losses).mean()
    return training.update(loss, cosine(schedule.learning_rate, within, schedule.steps))


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
    grid = _sampling_grids(len(rgb), (rgb.shape[2], rgb.shape[3]), random)
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


def _sampling_grids(n: int, size: tuple[int, int], random: torch.Generator) -> Tensor:
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
