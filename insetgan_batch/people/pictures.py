"""The training pictures: people rendered once, kept in shards, read into memory.

A shard is one `.npz` of 200 consecutive seeds. For each view (`body`, `face`, `shoes`) it holds the
pictures uint8 `[n H W 3]`; `<view>_parts` uint8 `[n H W]`, the `labels.BodyPart` of each pixel; and
`<view>_boxes` `[n 4]`, the box of the face or of the pair of shoes in pixels. A shard that exists
is complete: it is written under another name first.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from insetgan_batch.errors import ConfigError
from insetgan_batch.people.person import Person, seeds_to_z
from insetgan_batch.people.renderer import PeopleRenderer, View

Sizes = Mapping[View, tuple[int, int]]  # (height, width) of each view's pictures, pixels

SHARD = 200
# Far away from the seeds that people type, so that whatever they ask for was never trained on.
TRAIN_SEED = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Pictures:
    """All pictures of one view. z `[n z]`; rgb uint8 `[n H W 3]`; parts uint8 `[n H W]`;
    part_boxes `[n 4]` px.
    """

    z: np.ndarray
    rgb: np.ndarray
    parts: np.ndarray
    part_boxes: np.ndarray


def render_all(directory: Path, count: int, sizes: Sizes, workers: int) -> None:
    """Render `count` people from `TRAIN_SEED` on in each view, with a progress bar; existing shards
    stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    firsts = range(TRAIN_SEED, TRAIN_SEED + count, SHARD)
    todo = [first for first in firsts if not _shard_path(directory, first).exists()]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_renderer
    ) as pool:
        futures = [pool.submit(_render_shard, directory, first, sizes) for first in todo]
        done = concurrent.futures.as_completed(futures)
        for future in track(done, f"rendering {len(todo)} x {SHARD} people", total=len(todo)):
            future.result()


def load(directory: Path, view: str) -> Pictures:
    """Every picture of a view in the directory, in the order of seeds."""
    shards = [np.load(path) for path in shard_paths(directory)]
    return Pictures(
        z=seeds_to_z(seed for shard in shards for seed in shard["seeds"]),
        rgb=np.concatenate([shard[view] for shard in shards]),
        parts=np.concatenate([shard[f"{view}_parts"] for shard in shards]),
        part_boxes=np.concatenate([shard[f"{view}_boxes"] for shard in shards]),
    )


def shard_paths(directory: Path) -> list[Path]:
    """The shards of a directory in the order of seeds; raises `ConfigError` where there is none."""
    paths = sorted(directory.glob("shard-*.npz"))
    if not paths:
        raise ConfigError(f"{directory}: no shard-*.npz; render the people first")
    return paths


_renderer: PeopleRenderer | None = None


def _start_renderer() -> None:
    global _renderer
    torch.set_num_threads(1)
    os.nice(10)
    _renderer = PeopleRenderer()


def _render_shard(directory: Path, first: int, sizes: Sizes) -> None:
    assert _renderer is not None
    seeds = np.arange(first, first + SHARD)
    people = [Person.from_z(z) for z in seeds_to_z(seeds)]
    arrays: dict[str, np.ndarray] = {"seeds": seeds}
    for view, size in sizes.items():
        arrays[view] = np.empty((SHARD, *size, 3), np.uint8)
        arrays[f"{view}_parts"] = np.empty((SHARD, *size), np.uint8)
        arrays[f"{view}_boxes"] = np.empty((SHARD, 4), np.float32)
    for i, person in enumerate(people):
        for view, size in sizes.items():
            picture = _renderer.render(person, size, view=view)
            arrays[view][i] = picture.rgb
            arrays[f"{view}_parts"][i] = picture.parts
            boxes = picture.shoe_boxes if view == "shoes" else np.array([picture.face_box])
            arrays[f"{view}_boxes"][i] = [*boxes[:, :2].min(0), *boxes[:, 2:].max(0)]
    path = _shard_path(directory, first)
    temporary = path.with_name(f"part-{path.name}")
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.replace(path)


def _shard_path(directory: Path, first: int) -> Path:
    return directory / f"shard-{first:08d}.npz"
