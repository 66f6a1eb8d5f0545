"""A training from its first step to its last, or from where it stopped. It knows no Ray: one
process does it as well as many.

    ticks/<images>.json             means of the numbers of the steps since the tick before
    samples/<images>.png            a sheet of what is painted
    snapshots/<images>.safetensors  the network, for people
    checkpoints/                    see `state.py`
"""

from __future__ import annotations

import dataclasses
import io
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from insetgan_batch.data.storage import Storage
from insetgan_batch.training import state
from insetgan_batch.training.state import Progress
from insetgan_batch.training.task import Task
from insetgan_batch.training.workers import Workers


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """images: that are seen in all; tick: images between two ticks; ticks_kept: so many between two
    states, snapshots and sheets.
    """

    images: int
    tick: int
    ticks_kept: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Where a training stands. numbers: means since the tick before; seconds: of one step."""

    progress: Progress
    numbers: Mapping[str, float]
    seconds: float


def train(
    task: Task,
    storage: Storage,
    schedule: Schedule,
    workers: Workers,
    *,
    about: Mapping[str, Any],
    on_tick: Callable[[Tick], None] = lambda tick: None,
    is_over: Callable[[], bool] = lambda: False,
) -> Progress:
    """Resume, and train until all images are seen, or `is_over` says so: then its state is kept.

    about: what snapshots say of where they come from. All workers call it, with the same storage;
    the first one writes. Raises `CheckpointError`, `StorageError`.
    """
    progress = state.resume(storage, task)
    sums: dict[str, list[float]] = defaultdict(list)
    began_s, first = time.monotonic(), progress.iteration
    while progress.images < schedule.images:
        for name, number in task.step(progress.iteration, workers).items():
            sums[name].append(number)
        before, progress = progress, _after(progress, task)
        is_last = progress.images >= schedule.images
        is_stopped = is_over()
        number = progress.images // schedule.tick
        if number > before.images // schedule.tick or is_last or is_stopped:
            seconds = (time.monotonic() - began_s) / (progress.iteration - first)
            means = {name: sum(found) / len(found) for name, found in sums.items()}
            tick = Tick(progress, means, seconds)
            is_kept = is_last or is_stopped or not number % schedule.ticks_kept
            if workers.rank == 0:
                _write(storage, task, tick, about, is_kept=is_kept)
            on_tick(tick)
            sums.clear()
            began_s, first = time.monotonic(), progress.iteration
        if is_stopped:
            break
    return progress


def _after(progress: Progress, task: Task) -> Progress:
    return Progress(progress.iteration + 1, progress.images + task.batch)


def _write(
    storage: Storage, task: Task, tick: Tick, about: Mapping[str, Any], *, is_kept: bool
) -> None:
    """The state comes last: what it stands for is there."""
    name = f"{tick.progress.images:012d}"
    said = dataclasses.asdict(tick.progress) | {"numbers": dict(tick.numbers)}
    storage.put(f"ticks/{name}.json", json.dumps(said | {"seconds": tick.seconds}).encode())
    if is_kept:
        sheet = io.BytesIO()
        Image.fromarray(task.samples()).save(sheet, "PNG")
        storage.put(f"samples/{name}.png", sheet.getvalue())
        made = {**about, "images_seen": tick.progress.images}
        storage.put(f"snapshots/{name}.safetensors", task.snapshot(made))
        state.save(storage, task, tick.progress)
