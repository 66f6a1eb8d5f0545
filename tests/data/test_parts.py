"""Manifests that are folders, and what is relative to a manifest."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insetgan_batch.data import manifest
from insetgan_batch.data.manifest import BadRow
from insetgan_batch.data.storage import MemoryStorage, roots_of, within
from insetgan_batch.errors import ManifestError
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.records import Item


def put(folder: Path, name: str, columns: dict[str, Any]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def in_memory(folder: Path) -> str:
    """The same files in a store."""
    name = uuid.uuid4().hex
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            MemoryStorage(name).put(f"in/{path.relative_to(folder)}", path.read_bytes())
    return f"memory://{name}/in"


def ids(uri: str) -> list[str]:
    return [row.item_id for row in manifest.read(uri, schema(["face"]))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What Spark leaves: parts, one of them empty, and what is none."""
    folder = tmp_path / "parts"
    put(folder, "part-00001.snappy.parquet", {"item_id": ["c", "d"]})
    put(folder, "part-00000.snappy.parquet", {"item_id": ["a", "b"]})
    put(folder, "part-00002.snappy.parquet", {"item_id": pa.array([], pa.string())})
    (folder / "_SUCCESS").touch()
    (folder / "_metadata").write_bytes(b"x")
    (folder / ".part-00000.snappy.parquet.crc").write_bytes(b"x")
    (folder / "part-00000.crc").write_bytes(b"x")
    (folder / "x_$folder$").touch()
    return folder


def test_a_folder_is_one_manifest_by_the_names_of_its_files(folder: Path) -> None:
    for uri in (str(folder), f"{folder}/", folder.as_uri(), in_memory(folder)):
        assert ids(uri) == ["a", "b", "c", "d"]
        assert manifest.describe(uri, schema(["face"])).rows == 4


def test_a_folder_may_move_and_not_change(folder: Path) -> None:
    before = manifest.describe(str(folder), schema([]))
    assert manifest.describe(in_memory(folder), schema([])) == before
    moved = folder.rename(folder.with_name("moved"))
    assert manifest.describe(str(moved), schema([])) == before
    put(moved, "part-00001.snappy.parquet", {"item_id": ["c", "e"]})
    assert manifest.describe(str(moved), schema([])) != before


def test_errors_of_a_folder_name_the_file_and_its_row(folder: Path) -> None:
    put(folder, "part-00001.snappy.parquet", {"item_id": ["c", "a", None], "seed": [1, 2, -1]})
    rows = list(manifest.read(str(folder), schema([])))
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [(row.item_id, row.row) for row in bad] == [("row-000000003", 3), ("row-000000004", 4)]
    assert "part-00001.snappy.parquet: row 1, column item_id: a stands for" in str(bad[0].error)
    assert "part-00001.snappy.parquet: row 2, column seed: -1 is no seed" in str(bad[1].error)


@pytest.mark.parametrize("name", ["part-00003.parquet", "000000_0", "part-00003.csv"])
def test_a_folder_is_not_read_by_half(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"a,b\n1,2\n")
    with pytest.raises(ManifestError, match=f"{name}: not a Parquet file"):
        manifest.describe(str(folder), schema([]))


def test_a_part_of_another_schema_is_refused_before_the_first_row(folder: Path) -> None:
    put(folder, "part-00009.parquet", {"sed": [1]})
    with pytest.raises(ManifestError, match=r"part-00009.parquet: unknown column 'sed'"):
        manifest.describe(str(folder), schema([]))


def test_a_folder_that_is_still_written_is_refused(folder: Path) -> None:
    put(folder, "_temporary/0/task_1/part-00003.parquet", {"item_id": ["z"]})
    for uri in (str(folder), in_memory(folder)):
        with pytest.raises(ManifestError, match="of a job that writes there still"):
            manifest.describe(uri, schema([]))


def test_folders_of_partitions_give_columns(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    put(folder, "meta_part=1/seed=7/data_0.parquet", {"item_id": ["b"]})
    put(folder, "meta_part=0/seed=5/data_0.parquet", {"item_id": ["a"]})
    put(folder, "meta_part=__HIVE_DEFAULT_PARTITION__/seed=9/data_0.parquet", {"item_id": ["c"]})
    for uri in (str(folder), in_memory(folder)):
        rows = [row for row in manifest.read(uri, schema([])) if isinstance(row, Item)]
        assert [(row.item_id, row.seed, row.meta) for row in rows] == [
            ("a", 5, {"part": 0}),
            ("b", 7, {"part": 1}),
            ("c", 9, {}),
        ]


def test_a_partition_is_a_text_where_one_of_its_values_is(tmp_path: Path) -> None:
    put(tmp_path, "meta_day=2026-01-02/x.parquet", {"item_id": ["a"]})
    put(tmp_path, "meta_day=7/x.parquet", {"item_id": ["b"]})
    put(tmp_path, "meta_day=a%20b%2Fc/x.parquet", {"item_id": ["c"]})
    rows = [row for row in manifest.read(str(tmp_path), schema([])) if isinstance(row, Item)]
    assert [row.meta["day"] for row in rows] == ["2026-01-02", "7", "a b/c"]


def test_a_column_in_the_file_goes_before_its_folder(tmp_path: Path) -> None:
    put(tmp_path, "meta_part=1/x.parquet", {"item_id": ["a"], "meta_part": ["one"]})
    (row,) = manifest.read(str(tmp_path), schema([]))
    assert isinstance(row, Item)
    assert row.meta == {"part": "one"}


def test_a_partition_of_an_unknown_column_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "part=1/x.parquet", {"item_id": ["a"]})
    with pytest.raises(ManifestError, match="unknown column 'part'"):
        manifest.read(str(tmp_path), schema([]))


def test_a_folder_without_rows_or_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no Parquet file in this directory"):
        manifest.describe(str(tmp_path), schema([]))
    put(tmp_path, "x.parquet", {"item_id": pa.array([], pa.string())})
    put(tmp_path, "y.parquet", {"item_id": pa.array([], pa.string())})
    with pytest.raises(ManifestError, match="no rows"):
        manifest.describe(str(tmp_path), schema([]))


# Relative paths


def value(uri: str) -> object:
    (row,) = manifest.read(uri, schema([]))
    assert isinstance(row, Item)
    return row.inputs["canvas_image"]


def test_a_relative_path_is_relative_to_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "data" / "photos" / "a 50%.png"
    photo.parent.mkdir(parents=True)
    photo.touch()
    put(tmp_path, "data/m.parquet", {"canvas_image": ["photos/a 50%.png"]})
    for directory, uri in ((tmp_path, "data/m.parquet"), (tmp_path / "data", "m.parquet")):
        monkeypatch.chdir(directory)
        found = str(value(uri))
        assert within(found, roots_of([], uri)) == photo.as_uri()
        assert within(found, roots_of([str(photo.parent)], uri)) == photo.as_uri()
    store = in_memory(tmp_path / "data")
    assert value(f"{store}/m.parquet") == f"{store}/photos/a 50%.png"


def test_a_relative_path_in_a_folder_of_parts_is_relative_to_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    put(folder, "meta_n=1/x.parquet", {"canvas_image": ["photos/a.png"]})
    photo = folder / "photos" / "a.png"
    photo.parent.mkdir()
    photo.touch()
    for uri in (str(folder), f"{folder}/"):
        assert within(str(value(uri)), roots_of([], uri)) == photo.as_uri()
    store = in_memory(folder)
    for uri in (store, f"{store}/"):
        assert value(uri) == f"{store}/photos/a.png"
        assert within(str(value(uri)), roots_of([], uri)) == f"{store}/photos/a.png"


def test_the_id_of_a_row_stays_when_the_manifest_moves_with_its_pictures(tmp_path: Path) -> None:
    first = put(tmp_path, "a/m.parquet", {"canvas_image": ["x.png"]})
    second = put(tmp_path, "b/m.parquet", {"canvas_image": ["x.png"]})
    assert ids(str(first)) == ids(str(second))
    assert value(str(first)) != value(str(second))


def test_a_relative_path_leads_out_of_no_bucket() -> None:
    name = uuid.uuid4().hex
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"canvas_image": ["../../../x.png"]}), sink)
    MemoryStorage(name).put("in/m.parquet", sink.getvalue().to_pybytes())
    assert value(f"memory://{name}/in/m.parquet") == f"memory://{name}/x.png"
