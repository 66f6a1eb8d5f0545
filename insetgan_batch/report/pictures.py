"""Pictures embedded in the page: whole ones, and the region enlarged before and after."""

from __future__ import annotations

import base64
import cmath
import dataclasses
import io
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from insetgan_batch.boxes import Box

Pixels = NDArray[np.uint8]

_MAX_HEIGHT_PX = 512
_ZOOM_MARGIN = 12 / 256  # around the region, of the canvas' height
_ZOOM_WIDTH_PX = 304
_MAX_ZOOM = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """An embedded image, and the size in pixels at which it is shown as it is."""

    uri: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True, slots=True)
class Zoom:
    """A region before and after, shown `width` pixels wide. marks: SVG paths at its corners."""

    inset: str
    width: int
    before: Picture
    after: Picture
    marks_before: str
    marks_after: str


def embed(pixels: Pixels, *, is_lossless: bool) -> Picture:
    """Pixels `[H W 3]` as a data URI, reduced to the largest height that the page shows."""
    image = Image.fromarray(pixels)
    if image.height > _MAX_HEIGHT_PX:
        width = round(image.width * _MAX_HEIGHT_PX / image.height)
        image = image.resize((width, _MAX_HEIGHT_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if is_lossless:
        image.save(buffer, "WEBP", lossless=True)
    else:
        # Full chroma: a seam may be one of colour.
        image.save(buffer, "JPEG", quality=90, subsampling=0)
    kind = "webp" if is_lossless else "jpeg"
    return embedded(buffer.getvalue(), kind, image.width, image.height)


def embedded(data: bytes, kind: str, width: int, height: int) -> Picture:
    """An image file as a data URI; kind: as in `image/webp`."""
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Picture(uri, width, height)


def zoom(
    inset: str, before: Pixels, after: Pixels, found: dict[str, Any], *, is_lossless: bool
) -> Zoom:
    """The same crop of both pictures `[H W 3]`: wherever the region was, and a margin around it.

    found: the record's `region_before` and `region`, boxes in pixels of the canvas.
    """
    regions = [Box.of(found["region_before"]), Box.of(found["region"])]
    frame = Box(
        math.floor(min(box.x0 for box in regions)),
        math.floor(min(box.y0 for box in regions)),
        math.ceil(max(box.x1 for box in regions)),
        math.ceil(max(box.y1 for box in regions)),
    )
    margin = round(_ZOOM_MARGIN * after.shape[0])
    frame = frame.shrink(-margin).clip(after.shape[0], after.shape[1])
    rows, columns = slice(int(frame.y0), int(frame.y1)), slice(int(frame.x0), int(frame.x1))
    crops = [embed(pixels[rows, columns], is_lossless=is_lossless) for pixels in (before, after)]
    reduction = crops[0].width / frame.width
    marks = [_corner_marks(box, frame, margin, reduction) for box in regions]
    width = min(_MAX_ZOOM * int(frame.width), _ZOOM_WIDTH_PX)
    return Zoom(inset, width, crops[0], crops[1], marks[0], marks[1])


def _corner_marks(region: Box, frame: Box, margin: float, reduction: float) -> str:
    """Short strokes outside the four corners: they show the edge, turned as it is, and leave it
    free.
    """
    centre = complex(*region.centre) - complex(frame.x0, frame.y0)
    turn = cmath.rect(1, region.angle)
    strokes = []
    for x, y in itertools.product((-1, 1), repeat=2):
        corner = complex(x * region.width, y * region.height) / 2
        for outwards in (complex(x, 0), complex(0, y)):
            ends = (corner + margin * share * outwards for share in (0.2, 0.6))
            start, end = (reduction * (centre + turn * point) for point in ends)
            strokes.append(f"M{start.real:.1f} {start.imag:.1f}L{end.real:.1f} {end.imag:.1f}")
    return "".join(strokes)
