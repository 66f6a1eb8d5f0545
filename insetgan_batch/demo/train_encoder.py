"""Teach the encoder of the demo's faces (`nets/encoder.py`): a picture → latents that paint it
again.

Half of a batch are pictures that the generator paints, whose latents are known exactly, half
rendered faces, which stand for photographs: moved, turned, tinted, blurred and noisy, as a detector
and a camera leave them. Of a rendered face w is known too, since its z is. So it learns w first,
which costs no step back through the generator; then what counts is the picture that is painted
again. The generator stands still. A batch depends on the step alone, and everything that a resumed
training needs is in one file.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from insetgan_batch.demo.augment import blur, uniform
from insetgan_batch.methods.insetgan import images as pixels
from insetgan_batch.nets.encoder import EncoderNetwork
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.people.pictures import Pictures

_CHECKPOINT_INTERVAL_S = 120.0
_LPIPS, _LATENT, _OFFSETS = 1.0, 0.2, 0.1  # weights, beside L1
_SCALES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """Steps whose size falls from `learning_rate` along a cosine to 0. half: of a batch; paints:
    whether the loss is of pictures, or of w alone.
    """

    steps: int
    learning_rate: float
    half: int
    paints: bool


COURSES = (Course(1600, 1.5e-3, 12, paints=False), Course(1500, 1e-3, 6, paints=True))


@dataclasses.dataclass(slots=True)
class Training:
    """What a checkpoint holds. step: optimiser steps done."""

    network: EncoderNetwork
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def resume(cls, generator: Generator, path: Path) -> Training:
        """Go on from a checkpoint, or start where there is none, always with the same weights."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = EncoderNetwork(generator.num_ws, len(generator.w_avg))
            # It starts at the average, and nearly without offsets.
            network.to_w.weight.data.mul_(0.1)
            network.to_offsets.weight.data.mul_(0.01)
        w = generator.seeds_to_w(range(2000), 1.0)
        network.w_avg.copy_(generator.w_avg)
        network.w_std.copy_(w.std(dim=0))
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
    generator: Generator,
    pictures: Pictures,
    directory: Path,
    courses: tuple[Course, ...] = COURSES,
) -> Training:
    """Train to the end of the last course, with a progress bar, checkpoints and sample sheets in
    `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "encoder.training.pt"
    training = Training.resume(generator, path)
    perceptual = Perceptual(None)
    steps = sum(course.steps for course in courses)
    saved_at = time.monotonic()
    columns = (
        TextColumn("encoder"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=steps, completed=training.step, loss=math.nan)
        while training.step < steps:
            loss = train_step(training, generator, perceptual, pictures, courses)
            progress.update(task, advance=1, loss=loss)
            if time.monotonic() - saved_at > _CHECKPOINT_INTERVAL_S or training.step == steps:
                training.save(path)
                write_samples(
                    training.network,
                    generator,
                    pictures,
                    directory / f"encoder-{training.step:06d}.png",
                )
                saved_at = time.monotonic()
    return training


def train_step(
    training: Training,
    generator: Generator,
    perceptual: Perceptual,
    pictures: Pictures,
    courses: tuple[Course, ...] = COURSES,
) -> float:
    """One optimiser step; returns the loss."""
    network = training.network
    course, learning_rate = _plan(training.step, courses)
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate
    target, w = _batch(training.step, generator, pictures, course.half)
    latents = network(target)
    loss = ((latents[:, 0] - w) / network.w_std).square().mean()
    if course.paints:
        offsets = (latents[:, 1:] / network.w_std).square().mean()
        loss = (
            _LATENT * loss
            + _OFFSETS * offsets
            + _picture_loss(latents, target, generator, perceptual)
        )
    training.optimizer.zero_grad()
    torch.autograd.backward(loss)
    training.optimizer.step()
    training.step += 1
    return float(loss.detach())


def _plan(step: int, courses: tuple[Course, ...]) -> tuple[Course, float]:
    """Course and step size of a step."""
    for course in courses:
        if step < course.steps:
            fall = (1 + math.cos(math.pi * step / course.steps)) / 2
            return course, course.learning_rate * fall
        step -= course.steps
    raise ValueError(f"step {step} is beyond the last course")


def _picture_loss(
    latents: Tensor, target: Tensor, generator: Generator, perceptual: Perceptual
) -> Tensor:
    """L1 and LPIPS of what the generator paints of latents `[n 1+l c]` to images `[n 3 h w]`."""
    again = generator.synthesise(generator.ws_of(latents))
    features = perceptual.features(torch.cat([again, target]))
    distance = perceptual.distance(
        [f[: len(again)] for f in features], [f[len(again) :] for f in features]
    )
    return _multiscale_l1(again, target) + _LPIPS * distance.mean()


def write_samples(
    network: EncoderNetwork, generator: Generator, pictures: Pictures, path: Path
) -> None:
    """A sheet: rendered faces above, what the generator makes of their latents below."""
    faces = pixels.from_pixels(torch.from_numpy(pictures.rgb[-12:]))
    latents = network.encode(faces)
    with torch.no_grad():
        again = generator.synthesise(generator.ws_of(latents))
    rows = [torch.cat(list(row), dim=2) for row in (faces, again)]
    sheet = pixels.to_pixels(torch.cat(rows, dim=1)[None])[0]
    Image.fromarray(sheet.numpy()).save(path)


def _batch(step: int, generator: Generator, pictures: Pictures, half: int) -> tuple[Tensor, Tensor]:
    """Images `[n 3 h w]` in -1..1 and the w `[n c]` that they are near."""
    random = torch.Generator().manual_seed(step)
    seeds = torch.randint(1 << 31, (half,), generator=random).tolist()
    psi = uniform(random, 0.5, 1.0, half, 1)[..., 0, 0]
    painted_w = generator.w_avg + psi * (generator.seeds_to_w(seeds, 1.0) - generator.w_avg)
    with torch.no_grad():
        painted = generator.synthesise(painted_w[:, None].expand(-1, generator.num_ws, -1))
    chosen = np.sort(np.random.default_rng(step).choice(len(pictures.z), half, replace=False))
    rendered = pixels.from_pixels(torch.from_numpy(pictures.rgb[chosen]))
    z = torch.from_numpy(pictures.z[chosen]).float()
    images = torch.cat([painted.clamp(-1, 1), _as_photographed(rendered, random)])
    return images, torch.cat([painted_w, generator.z_to_w(z)])


def _as_photographed(images: Tensor, random: torch.Generator) -> Tensor:
    """Images as a detector and a camera leave them: a little moved, turned, tinted, blurred and
    noisy.
    """
    n = len(images)
    angle = uniform(random, -0.06, 0.06, n, 1)[..., 0, 0]
    scale = torch.exp(uniform(random, -0.08, 0.08, n, 1)[..., 0, 0])
    shift = uniform(random, -0.06, 0.06, n, 2)[..., 0, 0]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [
        torch.cat([cos, -sin, shift[:, :1]], dim=1),
        torch.cat([sin, cos, shift[:, 1:]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast = uniform(random, 0.85, 1.15, n, 1) * uniform(random, 0.95, 1.05, n, 3)
    brightness = uniform(random, -0.1, 0.1, n, 1) + uniform(random, -0.04, 0.04, n, 3)
    moved = blur(moved * contrast + brightness, uniform(random, 0, 1.0, n, 1))
    noise = torch.randn(moved.shape, generator=random)
    return (moved + noise * uniform(random, 0, 0.04, n, 1)).clamp(-1, 1)


def _multiscale_l1(image: Tensor, target: Tensor) -> Tensor:
    """Sum of the mean absolute errors at full, half and quarter size."""
    loss = image.new_zeros(())
    for scale in range(_SCALES):
        loss = loss + F.avg_pool2d(image - target, 1 << scale).abs().mean()
    return loss
