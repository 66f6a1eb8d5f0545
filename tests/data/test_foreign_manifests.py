"""Manifests as pandas, polars, DuckDB and Spark write them: numbers, lists, indices, meta."""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from insetgan_batch.data import manifest
from insetgan_batch.data.manifest import BadRow
from insetgan_batch.errors import ManifestError
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.records import Item

D = decimal.Decimal
BOX = (1.0, 2.0, 30.0, 40.0)


def items(tmp_path: Path, columns: dict[str, pa.Array]) -> list[Item]:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table(columns), path)
    rows = list(manifest.read(str(path), schema(["face"])))
    assert not [str(row.error) for row in rows if isinstance(row, BadRow)]
    return [row for row in rows if isinstance(row, Item)]


@pytest.mark.parametrize(
    "kind",
    [
        pa.float64(),
        pa.float32(),
        pa.uint64(),
        pa.int8(),
        pa.decimal128(38, 0),
        pa.decimal128(25, 3),
        pa.dictionary(pa.int8(), pa.int64()),
    ],
)
def test_a_seed_of_any_type_is_the_integer_that_it_is(tmp_path: Path, kind: pa.DataType) -> None:
    seeds = pa.array([7, None, 0], pa.int64())
    seeds = seeds.dictionary_encode() if pa.types.is_dictionary(kind) else seeds.cast(kind)
    ids = pa.array(["a", "b", "c"])
    found = items(tmp_path, {"item_id": ids, "canvas_seed": seeds})
    assert [item.inputs.get("canvas_seed") for item in found] == [7, None, 0]
    assert type(found[0].inputs["canvas_seed"]) is int


def test_the_id_of_a_row_does_not_depend_on_the_types_of_its_numbers(tmp_path: Path) -> None:
    plain = {
        "canvas_seed": pa.array([7]),
        "canvas_psi": pa.array([0.5]),
        "face_box": pa.array([list(BOX)]),
    }
    other = {
        "canvas_seed": pa.array([D(7)]),
        "canvas_psi": pa.array([D("0.5")]),
        "face_box": pa.array([[1, 2, 30, 40]], pa.large_list(pa.int32())),
    }
    assert items(tmp_path, plain) == items(tmp_path, other)


def test_a_seed_beyond_the_range_is_its_rows_mistake_in_any_type(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"seed": pa.array([2**64 - 1, 1], pa.uint64())}), path)
    bad, good = manifest.read(str(path), schema([]))
    assert isinstance(good, Item)
    assert isinstance(bad, BadRow)
    assert "row 0, column seed: 18446744073709551615 is no seed; expected 0 to" in str(bad.error)


@pytest.mark.parametrize(
    ("values", "psi"),
    [
        (pa.array([D("0.7")]), 0.7),
        (pa.array([1]), 1.0),
        (pa.array([0], pa.uint8()), 0.0),
        (pa.array([0.5], pa.float16()), 0.5),
    ],
)
def test_truncation_may_be_any_number(tmp_path: Path, values: pa.Array, psi: float) -> None:
    (item,) = items(tmp_path, {"canvas_psi": values})
    assert item.inputs["canvas_psi"] == psi
    assert type(item.inputs["canvas_psi"]) is float


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 4),
        pa.list_view(pa.float64()),
        pa.large_list_view(pa.int64()),
        pa.list_(pa.int8()),
        pa.large_list(pa.decimal128(5, 1)),
    ],
)
def test_a_box_may_be_any_list_of_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    boxes = pa.array([list(map(int, BOX)), None], kind)
    found = items(tmp_path, {"item_id": pa.array(["a", "b"]), "face_box": boxes})
    assert [item.inputs.get("face_box") for item in found] == [list(BOX), None]


def test_a_box_with_a_hole_is_its_rows_mistake(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"face_box": pa.array([[1, None, 3, 4], [1, 2, 3]])}), path)
    rows = list(manifest.read(str(path), schema(["face"])))
    assert all(isinstance(row, BadRow) for row in rows)


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(), pa.large_string()]
)
def test_text_may_be_of_any_type_that_holds_text(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {
        "item_id": pa.array(["ä".encode().hex(), "b"]).cast(kind),
        "face_image": pa.array(["/ä.png", None]).cast(kind),
        "overrides": pa.array(['{"psi": 0.5}', None]).cast(kind),
    }
    first, second = items(tmp_path, columns)
    assert first.inputs["face_image"] == "/ä.png"
    assert first.overrides == {"psi": 0.5}
    assert second.item_id == "b"


# pandas' index


@pytest.mark.parametrize("name", [None, "face", "number"])
def test_the_index_of_a_filtered_frame_is_passed_over(tmp_path: Path, name: str | None) -> None:
    frame = pd.DataFrame({"item_id": list("abcd"), "canvas_seed": range(4)})
    frame.index.name = name
    frame[frame.canvas_seed % 2 == 1].to_parquet(tmp_path / "m.parquet")
    rows = manifest.read(str(tmp_path / "m.parquet"), schema(["face"]))
    assert [row.item_id for row in rows] == ["b", "d"]


def test_an_index_that_is_one_of_our_columns_is_one(tmp_path: Path) -> None:
    frame = pd.DataFrame({"item_id": ["a"], "meta_n": [5], "canvas_seed": [1]})
    frame.set_index(["item_id", "meta_n"]).to_parquet(tmp_path / "m.parquet")
    (item,) = manifest.read(str(tmp_path / "m.parquet"), schema([]))
    assert isinstance(item, Item)
    assert (item.item_id, item.meta) == ("a", {"n": 5})


def test_an_index_that_was_copied_without_what_pandas_said_of_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"item_id": list("ab")}, index=[3, 5])
    table = pa.Table.from_pandas(frame).replace_schema_metadata({b"pandas": b"nonsense"})
    pq.write_table(table, tmp_path / "m.parquet")
    assert len(list(manifest.read(str(tmp_path / "m.parquet"), schema([])))) == 2
    pq.write_table(table.rename_columns(["item_id", "index"]), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="unknown column 'index'"):
        manifest.read(str(tmp_path / "m.parquet"), schema([]))


# meta


NANOSECONDS = pa.array([1_700_000_000_123_456_789]).cast(pa.timestamp("ns"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([b"\xff\x00"]), "/wA="),
        (pa.array([[b"\xff"]]), ["/w=="]),
        (pa.array([uuid.UUID(int=5)], pa.uuid()), "00000000-0000-0000-0000-000000000005"),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())), [["k", 1]]),
        (pa.array([{"a": [D("1.50")]}]), {"a": ["1.50"]}),
        (pa.array([datetime.time(1, 2)]), "01:02:00"),
        (pa.array([0.5], pa.float16()), 0.5),
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        (pa.array([0]).cast(pa.timestamp("us", "Europe/Berlin")), "1970-01-01T01:00:00+01:00"),
    ],
)
def test_meta_of_any_type_is_carried(tmp_path: Path, values: pa.Array, expected: Any) -> None:
    (item,) = items(tmp_path, {"meta_x": values})
    assert item.meta == {"x": expected}
    assert json.loads(json.dumps(item.meta)) == {"x": expected}


@pytest.mark.parametrize(
    "values",
    [
        NANOSECONDS,
        pa.array([[5]]).cast(pa.list_(pa.timestamp("ns"))),
        pa.array([5]).cast(pa.duration("ns")),
        pa.array([2**62]).cast(pa.timestamp("us")),
        pa.array([2**30], pa.int32()).cast(pa.date32()),
        pa.StructArray.from_arrays([pa.array([2**62]).cast(pa.timestamp("us"))], ["a"]),
        pa.array([float("nan")]),
    ],
)
def test_meta_that_python_has_no_word_for_spoils_no_row(tmp_path: Path, values: pa.Array) -> None:
    (item,) = items(tmp_path, {"meta_x": values})
    assert json.dumps(item.meta["x"])


def test_nanoseconds_are_kept(tmp_path: Path) -> None:
    (item,) = items(tmp_path, {"meta_at": NANOSECONDS})
    assert item.meta["at"] == "2023-11-14T22:13:20.123456789"


WITHOUT_PANDAS = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "pandas":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from insetgan_batch.data import manifest
from insetgan_batch.methods.insetgan.sources import schema
print([row.meta for row in manifest.read(sys.argv[1], schema([]))])
"""


def test_times_need_no_pandas(tmp_path: Path) -> None:
    """With it pyarrow reads nanoseconds, without it it does not."""
    far = pa.array([2**62]).cast(pa.timestamp("us"))
    columns = {
        "meta_at": NANOSECONDS,
        "meta_zone": NANOSECONDS.cast(pa.timestamp("ns", "Europe/Berlin")),
        "meta_nowhere": NANOSECONDS.cast(pa.timestamp("ns", "Mars/Olympus")),
        "meta_took": pa.array([5]).cast(pa.duration("ns")),
        "meta_far": far,
        "meta_in": pa.ListArray.from_arrays([0, 1], pa.StructArray.from_arrays([far], ["a"])),
    }
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    command = [sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path / "m.parquet")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert ast.literal_eval(said) == [
        {
            "at": "2023-11-14T22:13:20.123456789",
            "zone": "2023-11-14T23:13:20.123456789+0100",
            "nowhere": "1700000000123456789 ns",
            "took": "5 ns",
            "far": f"{2**62} us",
            "in": [{"a": f"{2**62} us"}],
        }
    ]


# Tables of other formats


@pytest.mark.parametrize("ending", [".csv", ".json", ".feather"])
def test_another_format_is_named_with_the_command_that_converts_it(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"m{ending}"
    frame = pd.DataFrame({"item_id": ["a", "b"]})
    if ending == ".csv":
        frame.to_csv(path, index=False)
    elif ending == ".json":
        frame.to_json(path, orient="records", lines=True)
    else:
        pyarrow.feather.write_feather(pa.Table.from_pandas(frame), path)
    with pytest.raises(ManifestError, match="convert it by python -c") as caught:
        manifest.read(str(path), schema([]))
    assert "\n" not in str(caught.value)
    command = str(caught.value).split('python -c "')[1].split('"')[0]
    monkeypatch.chdir(tmp_path)
    exec(command, {})  # what it says is what works
    assert len(list(manifest.read("m.parquet", schema([])))) == 2


# What long values cost


def test_one_long_text_of_all_rows_is_in_memory_once(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    ids = [f"i{n}" for n in range(2_000)]
    pq.write_table(pa.table({"item_id": ids, "meta_text": ["x" * 100_000] * 2_000}), path)
    before, most = pa.total_allocated_bytes(), 0
    texts = set()
    for row in manifest.read(str(path), schema([])):
        assert isinstance(row, Item)
        texts.add(id(row.meta["text"]))
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 20e6
    assert len(texts) <= 4  # once for each batch, and not for each row


def test_rows_that_are_books_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    columns = {
        "item_id": [f"i{n}" for n in range(150)],
        "meta_text": [f"{n} " * 300_000 for n in range(150)],
    }
    pq.write_table(pa.table(columns), path)
    del columns
    before = pa.total_allocated_bytes()
    with pytest.raises(ManifestError, match=r"column meta_text: \d+ bytes a row; expected what a"):
        manifest.describe(str(path), schema([]))
    assert pa.total_allocated_bytes() - before < 5e6
