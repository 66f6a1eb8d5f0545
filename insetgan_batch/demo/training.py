"""What all trainings of the demo's networks share: a network with its optimiser, schedules, and the
loop over steps with its checkpoints.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from insetgan_batch.demo import training_state

_CHECKPOINT_INTERVAL_S = 120.0

Network = TypeVar("Network", bound=nn.Module)


@dataclasses.dataclass(slots=True)
class Training(Generic[Network]):
    """A network, its optimiser, and the number of optimiser steps that are done."""

    network: Network
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        training_state.save(
            path,
            networks={"network": self.network},
            optimizers={"optimizer": self.optimizer},
            counters={"step": self.step},
        )

    def resume(self, path: Path) -> None:
        """Go on from a file that `save` wrote; where there is none, from the beginning."""
        if path.exists():
            counters = training_state.load(
                path,
                networks={"network": self.network},
                optimizers={"optimizer": self.optimizer},
            )
            self.step = counters["step"]

    def update(self, loss: Tensor, learning_rate: float) -> float:
        """One optimiser step down a loss; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        return loss.item()


def run(
    training: Training[Network],
    path: Path,
    *,
    steps: int,
    train_step: Callable[[], float],
    write_samples: Callable[[], None] | None = None,
) -> None:
    """Resume from `path` and train to the end, with a progress bar; now and then, and in the end,
    save and write samples.

    steps: of the whole training. train_step: does one optimiser step and returns its loss.
    """
    training.resume(path)
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
            path.name.split(".")[0], total=steps, completed=training.step, loss=math.nan
        )
        while training.step < steps:
            progress.update(task, advance=1, loss=train_step())
            if time.monotonic() - saved_at > _CHECKPOINT_INTERVAL_S or training.step == steps:
                training.save(path)
                if write_samples:
                    write_samples()
                saved_at = time.monotonic()


class _HasSteps(Protocol):
    @property
    def steps(self) -> int: ...


Section = TypeVar("Section", bound=_HasSteps)


def find_step(sections: Sequence[Section], step: int) -> tuple[Section, int]:
    """The section of a schedule that a step falls into, and the number of the step within it.

    Raises `ValueError` for a step beyond the last section.
    """
    within = step
    for section in sections:
        if within < section.steps:
            return section, within
        within -= section.steps
    raise ValueError(f"step {step} is beyond the end of the schedule")


def cosine(learning_rate: float, step: int, decay_steps: int) -> float:
    """The step size that falls from `learning_rate` at step 0 along a cosine to 0."""
    return learning_rate * (1 + math.cos(math.pi * step / decay_steps)) / 2
