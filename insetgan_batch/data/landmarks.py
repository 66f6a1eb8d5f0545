"""Landmarks that somebody else has found: a Parquet table of pictures and five points each.

Columns: `image` (the picture's name below the folder, as it is listed) and `landmarks` (ten
numbers: x and y of left eye, right eye, nose, left and right corner of the mouth, in pixels of the
upright picture, left and right as the viewer sees them). Several rows of one image are several
faces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from insetgan_batch.data.storage import read_uri
from insetgan_batch.errors import ManifestError
from insetgan_batch.text import one_line

Points = np.ndarray[Any, np.dtype[Any]]
_EXPECTED = "expected the columns image (text) and landmarks (a list of 10 numbers)"


def read(uri: str) -> dict[str, list[Points]]:
    """The faces `[5 2]` of each image, by its name; `ManifestError` names file, row and column."""
    data = read_uri(uri)
    try:
        table = pq.read_table(pa.BufferReader(data))
        rows = table.select(["image", "landmarks"]).to_pylist()
    except (pa.ArrowException, KeyError, OSError, ValueError) as err:
        raise ManifestError(f"{uri}: {one_line(err, 200)}; {_EXPECTED}") from err
    found: dict[str, list[Points]] = {}
    for number, row in enumerate(rows):
        found.setdefault(str(row["image"]), []).append(_points(uri, number, row["landmarks"]))
    return found


def _points(uri: str, number: int, values: object) -> Points:
    try:
        points = np.array(values, dtype=float).reshape(5, 2)
        if np.isfinite(points).all():
            return points
    except (TypeError, ValueError):
        pass
    raise ManifestError(
        f"{uri}: row {number}, column landmarks: found {str(values)[:80]}, expected 10 finite"
        " numbers: x and y of both eyes, the nose and both corners of the mouth"
    )
