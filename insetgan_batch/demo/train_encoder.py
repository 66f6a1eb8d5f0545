"""Teach the encoder of the demo's faces (`nets/encoder.py`): a picture → latents that paint it
again.

Half of a batch are pictures that the generator paints, whose latents are known exactly, half
rendered faces, which stand for photographs: moved, turned, tinted, blurred and noisy, as a detector
and a camera leave them. Of a rendered face w is known too, since its z is. So it learns w first,
which costs no step back through the generator; then what counts is the picture that is painted
again. The generator stands still. A batch depends on the step alone, so a resumed training goes on
exactly.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from insetgan_batch.demo.augment import blur, uniform
from insetgan_batch.demo.training import Training, cosine, find_step, run
from insetgan_batch.methods.insetgan import images as pixels
from insetgan_batch.nets.encoder import EncoderNetwork
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.people.pictures import Pictures

_LPIPS, _LATENT, _OFFSETS = 1.0, 0.2, 0.1  # weights, beside L1
_SCALES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class EncoderSchedule:
    """Steps whose size falls from `learning_rate` along a cosine to 0. half: of a batch; paints:
    whether the loss is of pictures, or of w alone.
    """

    steps: int
    learning_rate: float
    half: int
    paints: bool


SCHEDULES = (
    EncoderSchedule(1600, 1.5e-3, 12, paints=False),
    EncoderSchedule(1500, 1e-3, 6, paints=True),
)


def start(generator: Generator) -> Training[EncoderNetwork]:
    """A fresh training; the initial weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EncoderNetwork(generator.num_ws, len(generator.w_avg))
        # It starts at the average, and nearly without offsets.
        network.to_w.weight.data.mul_(0.1)
        network.to_offsets.weight.data.mul_(0.01)
    w = generator.seeds_to_w(range(2000), 1.0)
    network.w_avg.copy_(generator.w_avg)
    network.w_std.copy_(w.std(dim=0))
    return Training(network, torch.optim.Adam(network.parameters()))


def train(
    generator: Generator,
    pictures: Pictures,
    directory: Path,
    schedules: tuple[EncoderSchedule, ...] = SCHEDULES,
) -> Training[EncoderNetwork]:
    """Train to the end of the last schedule, with a progress bar, checkpoints and sample sheets in
    `directory`.
    """
    training = start(generator)
    perceptual = Perceptual(None)
    run(
        training,
        directory / "encoder.training.pt",
        steps=sum(schedule.steps for schedule in schedules),
        train_step=lambda: train_step(training, generator, perceptual, pictures, schedules),
        write_samples=lambda: write_samples(training, generator, pictures, directory),
    )
    return training


def train_step(
    training: Training[EncoderNetwork],
    generator: Generator,
    perceptual: Perceptual,
    pictures: Pictures,
    schedules: tuple[EncoderSchedule, ...] = SCHEDULES,
) -> float:
    """One optimiser step; returns the loss."""
    network = training.network
    schedule, within = find_step(schedules, training.step)
    target, w = _batch(training.step, generator, pictures, schedule.half)
    latents = network(target)
    loss = ((latents[:, 0] - w) / network.w_std).square().mean()
    if schedule.paints:
        offsets = (latents[:, 1:] / network.w_std).square().mean()
        loss = (
            _LATENT * loss
            + _OFFSETS * offsets
            + _picture_loss(latents, target, generator, perceptual)
        )
    return training.update(loss, cosine(schedule.learning_rate, within, schedule.steps))


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
    training: Training[EncoderNetwork], generator: Generator, pictures: Pictures, directory: Path
) -> None:
    """A sheet: rendered faces above, what the generator makes of their latents below."""
    faces = pixels.from_pixels(torch.from_numpy(pictures.rgb[-12:]))
    latents = training.network.encode(faces)
    with torch.no_grad():
        again = generator.synthesise(generator.ws_of(latents))
    rows = [torch.cat(list(row), dim=2) for row in (faces, again)]
    sheet = pixels.to_pixels(torch.cat(rows, dim=1)[None])[0]
    Image.fromarray(sheet.numpy()).save(directory / f"encoder-{training.step:06d}.png")


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
