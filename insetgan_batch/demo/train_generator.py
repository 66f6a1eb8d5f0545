"""Teach a demo generator by regression: every z has its picture, and the generator learns to paint
it.

No adversary: the renderer's parameters are entries of z (see `people.Person.from_z`), so the
picture that a z should give is known. The resolution grows stage by stage; without growing nothing
usable comes out in this time. The loss is L1 at three scales, with more weight on the part that
matters. A batch depends on the step alone, so a resumed training goes on exactly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from insetgan_batch.demo.models import DemoModel, GrowthStage
from insetgan_batch.demo.training import Training, cosine, find_step, run
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import StyleGAN2
from insetgan_batch.people.person import seeds_to_z
from insetgan_batch.people.pictures import Pictures

_PART_MARGIN = 0.35  # of the box' height, on every side: hair and chin belong to a face
_SCALES = 3
_SAMPLE_SEEDS = range(12)


def start(model: DemoModel) -> Training[StyleGAN2]:
    """A fresh training; the initial weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2(model.architecture)
    return Training(generator, torch.optim.Adam(generator.parameters()))


def train(model: DemoModel, pictures: Pictures, directory: Path) -> Training[StyleGAN2]:
    """Train to the end of the last stage, with a progress bar, checkpoints and sample sheets in
    `directory`.
    """
    training = start(model)
    run(
        training,
        directory / f"{model.name}.training.pt",
        steps=model.steps,
        train_step=lambda: train_step(training, model, pictures),
        write_samples=lambda: write_samples(training, model, directory),
    )
    return training


def export(generator: StyleGAN2, path: Path, about: dict[str, object]) -> str:
    """Write the generator with its average latent; returns the file's sha256."""
    z = torch.from_numpy(
        np.random.RandomState(123).randn(10_000, generator.architecture.z_dim)
    ).float()
    with torch.no_grad():
        generator.mapping.w_avg.copy_(generator.mapping(z).mean(dim=0))
    return checkpoint.save(path, generator, about)


def write_samples(training: Training[StyleGAN2], model: DemoModel, directory: Path) -> None:
    """A sheet of what the generator paints for the first seeds, none of them trained on."""
    stage, _, _ = step_settings(model, training.step - 1)
    z = torch.from_numpy(seeds_to_z(_SAMPLE_SEEDS)).float()
    with torch.no_grad():
        images = _paint(training.network, z, stage.blocks)
    sheet = torch.cat(list(images), dim=2).permute(1, 2, 0)
    pixels = (sheet.clamp(-1, 1) + 1).mul(127.5).round().byte().numpy()
    Image.fromarray(pixels).save(directory / f"{model.name}-{training.step:06d}.png")


def step_settings(model: DemoModel, step: int) -> tuple[GrowthStage, float, float]:
    """Growth stage, step size and weight of the part in a step."""
    schedule, within = find_step(model.schedules, step)
    stage, _ = find_step(schedule.stages, within)
    learning_rate = cosine(schedule.learning_rate, within, schedule.decay_steps)
    return stage, learning_rate, schedule.part_weight


def train_step(training: Training[StyleGAN2], model: DemoModel, pictures: Pictures) -> float:
    """One optimiser step; returns the loss."""
    stage, learning_rate, times = step_settings(model, training.step)
    rng = np.random.default_rng([training.step, stage.batch])
    chosen = np.sort(rng.choice(len(pictures.z), stage.batch, replace=False))
    z = torch.from_numpy(pictures.z[chosen]).float()
    height, width = model.architecture.resolutions[stage.blocks - 1]
    rgb = torch.from_numpy(pictures.rgb[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1
    factor = rgb.shape[2] // height
    weight = part_weight(pictures.part_boxes[chosen] / factor, height, width, times)
    image = _paint(training.network, z, stage.blocks)
    loss = _multiscale_l1(image, F.avg_pool2d(rgb, factor), weight)
    return training.update(loss, learning_rate)


def _paint(generator: StyleGAN2, z: Tensor, blocks: int) -> Tensor:
    w = generator.mapping(z)
    ws = w[:, None].expand(-1, 2 * blocks, -1)
    image: Tensor = generator.synthesis(ws, blocks)
    return image


def part_weight(part_boxes: np.ndarray, height: int, width: int, times: float) -> Tensor:
    """1 everywhere, `times` as much on the part, with mean 1 over the picture; `[n 1 h w]`."""
    boxes = torch.from_numpy(part_boxes).float()
    margin = _PART_MARGIN * (boxes[:, 3] - boxes[:, 1])
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    in_x = (x > (boxes[:, 0] - margin)[:, None]) & (x < (boxes[:, 2] + margin)[:, None])
    in_y = (y > (boxes[:, 1] - margin)[:, None]) & (y < (boxes[:, 3] + margin)[:, None])
    part = (in_y[:, :, None] & in_x[:, None, :]).float()[:, None]
    weight = 1 + (times - 1) * part
    return weight / weight.mean(dim=(1, 2, 3), keepdim=True)


def _multiscale_l1(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum of the weighted mean absolute errors at full, half and quarter size."""
    loss = image.new_zeros(())
    for scale in range(_SCALES):
        size = 1 << scale
        error = F.avg_pool2d(image - target, size).abs()
        loss = loss + (error * F.avg_pool2d(weight, size)).mean()
    return loss
