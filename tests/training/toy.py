"""A task that takes milliseconds: pictures of 16x8 pixels, and networks of a few channels.

python -m tests.training.toy OUT STEPS [KILL_AT]      kill -9 of itself after so many steps
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from insetgan_batch.data.storage import open_storage
from insetgan_batch.nets.discriminator import DiscriminatorArchitecture
from insetgan_batch.nets.stylegan2 import Architecture
from insetgan_batch.training.loop import Schedule, Tick, train
from insetgan_batch.training.stylegan2 import Settings, StyleGAN2Task
from insetgan_batch.training.workers import Workers

PICTURES = 10
TICK_STEPS = 5


def pictures() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth ones, `[n 3 16 8]`."""
    y, x = np.mgrid[0:16, 0:8] / 8.0
    rows = [[np.sin(n + c + 2 * x + y) for c in range(3)] for n in range(PICTURES)]
    return ((np.array(rows) + 1) * 127.5).astype(np.uint8)


def read(wanted: Sequence[tuple[int, bool]]) -> Tensor:
    """Of the bytes in memory."""
    every = pictures()
    found = [every[n][..., ::-1] if is_flipped else every[n] for n, is_flipped in wanted]
    return torch.from_numpy(np.stack(found).copy())


def task(**settings: Any) -> StyleGAN2Task:
    """Small, and with everything that a training may have."""
    fields: dict[str, Any] = {
        "batch": 4,
        "part": 2,
        "gamma": 0.1,
        "ema_kimg": 0.05,
        "ada_kimg": 0.2,
        "augment": "body",
        "mirror": True,
    }
    return StyleGAN2Task(
        Settings(**fields | settings),
        Architecture((4, 2), (8, 8, 8), z_dim=6, w_dim=6, mapping_layers=2),
        DiscriminatorArchitecture((4, 2), (8, 8, 8), deviation_group=2),
        PICTURES,
        read,
        torch.device("cpu"),
    )


def schedule(made: StyleGAN2Task, steps: int) -> Schedule:
    """So many steps, a state every five."""
    return Schedule(steps * made.batch, TICK_STEPS * made.batch)


def main(out: str, steps: int, kill_at: int | None) -> None:
    """Train, alone; perhaps not to the end."""
    torch.set_num_threads(1)
    made = task()
    right = made.step

    def step(iteration: int, workers: Workers) -> dict[str, float]:
        if iteration == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return right(iteration, workers)

    made.step = step  # type: ignore[method-assign]

    def say(tick: Tick) -> None:
        print(tick.progress.iteration, flush=True)

    train(made, open_storage(out), schedule(made, steps), Workers(), about={}, on_tick=say)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
