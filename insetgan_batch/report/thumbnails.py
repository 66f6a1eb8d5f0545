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
class ThumbnailSize:
    """The room that every thumbnail has, in pixels."""

    width: int
    height: int


def cell_for(width: int, height: int) -> ThumbnailSize:
    """The box for pictures of this size, within what a table can hold."""
    fitting = round(_HEIGHT_PX * width / height)
    return ThumbnailSize(min(max(fitting, _WIDTHS_PX[0]), _WIDTHS_PX[1]), _HEIGHT_PX)


def reduced(pixels: Pixels, size: ThumbnailSize) -> Image.Image:
    """The picture `[H W 3]` as large as the size allows, its shape kept."""
    image = Image.fromarray(pixels)
    image.thumbnail((size.width, size.height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def sheet(images: Iterable[Image.Image], size: ThumbnailSize) -> bytes:
    """All of them as one JPEG, each in the middle of its box, on grey."""
    found = list(images)
    whole = Image.new("RGB", (size.width, size.height * len(found)), (128, 128, 128))
    for place, image in enumerate(found):
        left, top = (size.width - image.width) // 2, (size.height - image.height) // 2
        whole.paste(image, (left, place * size.height + top))
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
