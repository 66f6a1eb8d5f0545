"""Teach a demo generator by regression: every z has its picture, and the generator learns to paint
it.

No adversary: the renderer's parameters are entries of z (see `people.Person.from_z`), so the
picture that a z should give is known. The resolution grows stage by stage; without growing nothing
usable comes out in this time. The loss is L1 at three scales, with more weight on the part that
matters. Everything that a resumed training needs is in one file, and a batch depends on (seed of
the training, step) alone, so a resumed training goes on exactly.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from insetgan_batch.demo.models import Course, DemoModel, Stage
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import StyleGAN2
from insetgan_batch.people.person import seeds_to_z
from insetgan_batch.people.pictures import Pictures

_PART_MARGIN = 0.35  # of the box' height, on every side: hair and chin belong to a face
_SCALES = 3
_CHECKPOINT_INTERVAL_S = 180.0
_SAMPLE_SEEDS = range(12)


@dataclasses.dataclass(slots=True)
class Training:
    """The state of a training: what a checkpoint holds. step: optimiser steps done."""

    model: DemoModel
    generator: StyleGAN2
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, model: DemoModel) -> Training:
        """A fresh training; the initial weights are always the same."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            generator = StyleGAN2(model.architecture)
        return cls(model, generator, torch.optim.Adam(generator.parameters()))

    @classmethod
    def resume(cls, model: DemoModel, path: Path) -> Training:
        """Go on from a checkpoint, or start where there is none."""
        training = cls.start(model)
        if path.exists():
            state = torch.load(path, weights_only=True)
            training.generator.load_state_dict(state["generator"])
            training.optimizer.load_state_dict(state["optimizer"])
            training.step = state["step"]
        return training

    def save(self, path: Path) -> None:
        """Write the checkpoint; an interrupted write leaves the earlier one."""
        temporary = path.with_suffix(".part")
        state = {
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, temporary)
        temporary.replace(path)


def train(model: DemoModel, pictures: Pictures, directory: Path) -> Training:
    """Train to the end of the last stage, with a progress bar, checkpoints and sample sheets in
    `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state_path = directory / f"{model.name}.training.pt"
    training = Training.resume(model, state_path)
    saved_at = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(
            model.name, total=model.steps, completed=training.step, loss=math.nan
        )
        for plan in plans_left(model, training.step):
            stage = plan.stage
            height = model.architecture.resolutions[stage.blocks - 1][0]
            loss = train_step(training, plan, pictures)
            progress.update(
                task,
                advance=1,
                loss=loss,
                description=f"{model.name} {height} px, batch {stage.batch}",
            )
            if time.monotonic() - saved_at > _CHECKPOINT_INTERVAL_S or training.step == model.steps:
                training.save(state_path)
                write_samples(
                    training, stage.blocks, directory / f"{model.name}-{training.step:06d}.png"
                )
                saved_at = time.monotonic()
    return training


def export(training: Training, path: Path, about: dict[str, object]) -> str:
    """Write the generator with its average latent; returns the file's sha256."""
    generator = training.generator
    z = torch.from_numpy(
        np.random.RandomState(123).randn(10_000, generator.architecture.z_dim)
    ).float()
    with torch.no_grad():
        generator.mapping.w_avg.copy_(generator.mapping(z).mean(dim=0))
    return checkpoint.save(path, generator, about)


def write_samples(training: Training, blocks: int, path: Path) -> None:
    """A sheet of what the generator paints for the first seeds, none of them trained on."""
    z = torch.from_numpy(seeds_to_z(_SAMPLE_SEEDS)).float()
    with torch.no_grad():
        images = _paint(training.generator, z, blocks)
    sheet = torch.cat(list(images), dim=2).permute(1, 2, 0)
    pixels = (sheet.clamp(-1, 1) + 1).mul(127.5).round().byte().numpy()
    Image.fromarray(pixels).save(path)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What one step is done under."""

    stage: Stage
    learning_rate: float
    part_weight: float


def plans_left(model: DemoModel, done: int) -> Iterator[Plan]:
    """The plan of every step that is still to be done."""
    plans = (plan for course in model.courses for plan in _plans(course))
    return itertools.islice(plans, done, None)


def _plans(course: Course) -> Iterator[Plan]:
    stages = itertools.chain.from_iterable([stage] * stage.steps for stage in course.stages)
    for step, stage in enumerate(stages):
        fall = (1 + math.cos(math.pi * step / course.decay_steps)) / 2
        yield Plan(stage, course.learning_rate * fall, course.part_weight)


def train_step(training: Training, plan: Plan, pictures: Pictures) -> float:
    """One optimiser step; returns the loss."""
    z, target, weight = _batch(training, plan, pictures)
    for group in training.optimizer.param_groups:
        group["lr"] = plan.learning_rate
    loss = _multiscale_l1(_paint(training.generator, z, plan.stage.blocks), target, weight)
    training.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    training.step += 1
    return loss.item()


def _paint(generator: StyleGAN2, z: Tensor, blocks: int) -> Tensor:
    w = generator.mapping(z)
    ws = w[:, None].expand(-1, 2 * blocks, -1)
    image: Tensor = generator.synthesis(ws, blocks)
    return image


def _batch(training: Training, plan: Plan, pictures: Pictures) -> tuple[Tensor, Tensor, Tensor]:
    """z, pictures `[n 3 h w]` in -1..1 at the stage's size, and the weight of each pixel `[n 1 h
    w]`.
    """
    stage = plan.stage
    rng = np.random.default_rng([training.step, stage.batch])
    chosen = np.sort(rng.choice(len(pictures.z), stage.batch, replace=False))
    rgb = torch.from_numpy(pictures.rgb[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1
    height, width = training.model.architecture.resolutions[stage.blocks - 1]
    factor = rgb.shape[2] // height
    target = F.avg_pool2d(rgb, factor)
    weight = part_weight(pictures.part_boxes[chosen] / factor, height, width, plan.part_weight)
    return torch.from_numpy(pictures.z[chosen]).float(), target, weight


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
