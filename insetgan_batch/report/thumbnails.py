"""Thumbnails of a folder of items, one below the other in one picture: a browser asks once."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_HEIGHT_PX = 96  # twice what the table shows, for screens of fine pixels
_WIDTHS_PX = (32, 160)


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """The room that every thumbnail has, in pixels."""

    width: int
    height: int


def cell_for(width: int, height: int) -> Cell:
    """Room for pictures of this size, within what a table can hold."""
    fitting = round(_HEIGHT_PX * width / height)
    return Cell(min(max(fitting, _WIDTHS_PX[0]), _WIDTHS_PX[1]), _HEIGHT_PX)


def reduced(pixels: Pixels, cell: Cell) -> Image.Image:
    """The picture `[H W 3]` as large as the cell allows, its shape kept."""
    image = Image.fromarray(pixels)
    image.thumbnail((cell.width, cell.height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def sheet(images: Iterable[Image.Image], cell: Cell) -> bytes:
    """All of them as one JPEG, each in the middle of its cell, on grey."""
    found = list(images)
    whole = Image.new("RGB", (cell.width, cell.height * len(found)), (128, 128, 128))
    for place, image in enumerate(found):
        left, top = (cell.width - image.width) // 2, (cell.height - image.height) // 2
        whole.paste(image, (left, place * cell.height + top))
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
