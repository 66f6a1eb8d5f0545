"""A sheet of faces that were found: each in its photograph, and as it was cut out."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from insetgan_batch.data.landmarks import Points
from insetgan_batch.methods.insetgan.alignment import Square

_CELL_PX = 192
_COLUMNS = 4  # pairs
_AROUND = 1.6  # sides of the square that are shown of the photograph
_LINE, _POINT = (255, 196, 0), (0, 224, 255)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """The surroundings of a face with its landmarks and square drawn in, and the face cut out."""

    before: Image.Image
    after: Image.Image


def pair(picture: Image.Image, landmarks: Points, square: Square, face: Image.Image) -> Pair:
    """Both as large as a cell of the sheet. picture: RGB; landmarks `[5 2]` in its pixels."""
    reach = _AROUND * square.side / 2
    centre = np.array(square.centre)
    left, top, right, bottom = np.rint([*(centre - reach), *(centre + reach)]).astype(int).tolist()
    before = picture.crop((left, top, right, bottom)).resize((_CELL_PX, _CELL_PX))
    scale = _CELL_PX / (2 * reach)
    draw = ImageDraw.Draw(before)
    corners = [tuple(point) for point in ((square.corners - (left, top)) * scale).tolist()]
    draw.line([*corners, corners[0]], fill=_LINE, width=2)
    for x, y in ((landmarks - (left, top)) * scale).tolist():
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_POINT)
    return Pair(before, face.resize((_CELL_PX, _CELL_PX)))


def sheet(pairs: Sequence[Pair]) -> bytes:
    """All of them as a JPEG, row by row."""
    rows = -(-len(pairs) // _COLUMNS)
    columns = min(_COLUMNS, len(pairs))
    step = 2 * _CELL_PX + 8
    whole = Image.new("RGB", (columns * step - 8, rows * (_CELL_PX + 8) - 8), "white")
    for i, one in enumerate(pairs):
        x, y = i % _COLUMNS * step, i // _COLUMNS * (_CELL_PX + 8)
        whole.paste(one.before, (x, y))
        whole.paste(one.after, (x + _CELL_PX, y))
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
