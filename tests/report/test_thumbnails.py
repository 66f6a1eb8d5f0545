"""Thumbnails stand one below the other, in their item's place."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.report import thumbnails
from tests.report.runs import commit, data_of, losses, montage

GREY = (128, 128, 128)


def flat(height: int, width: int, level: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((height, width, 3), level, np.uint8)


def test_each_picture_stands_whole_in_the_middle_of_its_cell() -> None:
    cell = thumbnails.cell_for(256, 512)
    assert (cell.width, cell.height) == (48, 96)
    images = [
        thumbnails.reduced(flat(512, 256, 0), cell),
        thumbnails.reduced(flat(96, 96, 255), cell),
    ]
    with Image.open(io.BytesIO(thumbnails.sheet(images, cell))) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (2 * 96, 48, 3)
    assert pixels[:94].max() < 20
    assert np.abs(pixels[96:112].astype(int) - GREY).max() < 20
    assert pixels[124:164, 4:44].min() > 235


def test_a_strange_shape_gets_a_cell_that_a_table_can_hold() -> None:
    assert thumbnails.cell_for(1, 1000).width == 32
    assert thumbnails.cell_for(1000, 1).width == 160


def test_the_table_tells_where_each_thumbnail_is(store: RunStore) -> None:
    for n in range(40):
        commit(store, montage(1, n), losses(1, 1))
    made = data_of(store)
    items, height = made["items"], made["thumbnail"]["height"]
    assert items["folders"] == [int(hh(item_id), 16) for item_id in items["item_ids"]]
    for folder in set(items["folders"]):
        members = [p for f, p in zip(items["folders"], items["places"], strict=True) if f == folder]
        assert sorted(members) == list(range(len(members)))
        with Image.open(io.BytesIO(store.storage.get(f"report/folders/{folder:02x}.jpg"))) as sheet:
            assert sheet.height == len(members) * height
