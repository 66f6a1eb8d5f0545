"""Landmarks that somebody else has found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insetgan_batch.data import landmarks
from insetgan_batch.errors import ManifestError

FACE = [120.0, 100, 180, 100, 150, 140, 130, 170, 170, 170]


def table(path: Path, **columns: list[Any]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_each_row_is_a_face_of_its_image(tmp_path: Path) -> None:
    uri = table(tmp_path / "l.parquet", image=["a.jpg", "b/c.png", "a.jpg"], landmarks=[FACE] * 3)
    found = landmarks.read(uri)
    assert {name: len(faces) for name, faces in found.items()} == {"a.jpg": 2, "b/c.png": 1}
    assert (found["b/c.png"][0] == np.array(FACE).reshape(5, 2)).all()


@pytest.mark.parametrize("broken", [FACE[:8], [*FACE[:9], None], [*FACE[:9], float("nan")], None])
def test_a_row_without_ten_numbers_is_named(tmp_path: Path, broken: object) -> None:
    uri = table(tmp_path / "l.parquet", image=["a.jpg", "b.jpg"], landmarks=[FACE, broken])
    with pytest.raises(ManifestError, match=r"row 1, column landmarks: found .*expected 10 "):
        landmarks.read(uri)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    uri = table(tmp_path / "l.parquet", picture=["a.jpg"], landmarks=[FACE])
    with pytest.raises(ManifestError, match="expected the columns image"):
        landmarks.read(uri)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    path.write_text("image,landmarks")
    with pytest.raises(ManifestError, match="expected the columns image"):
        landmarks.read(str(path))
