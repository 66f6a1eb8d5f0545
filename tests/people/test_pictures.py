from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from insetgan_batch.errors import ConfigError
from insetgan_batch.people import pictures
from insetgan_batch.people.person import seeds_to_z


def write_shard(directory: Path, first: int) -> None:
    np.savez(
        directory / f"shard-{first:08d}.npz",
        allow_pickle=False,
        seeds=np.arange(first, first + 2),
        face=np.full((2, 4, 4, 3), first, np.uint8),
        face_parts=np.full((2, 4, 4), first, np.uint8),
        face_boxes=np.full((2, 4), first, np.float32),
    )


def test_pictures_are_read_in_the_order_of_their_seeds(tmp_path: Path) -> None:
    for first in (12, 10):
        write_shard(tmp_path, first)
    read = pictures.load(tmp_path, "face")
    assert (read.z == seeds_to_z(range(10, 14))).all()
    assert read.rgb.shape == (4, 4, 4, 3)
    for array in (read.rgb[:, 0, 0, 0], read.parts[:, 0, 0], read.part_boxes[:, 0]):
        assert array.tolist() == [10, 10, 12, 12]


def test_no_shards_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="render the people first"):
        pictures.load(tmp_path, "face")
