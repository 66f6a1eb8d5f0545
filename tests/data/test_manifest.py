"""What users write, and what they are told when it is wrong."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import hashlib
import io
import itertools
import json
import pickle
import re
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from PIL import Image

from insetgan_batch.data import manifest
from insetgan_batch.data.keys import ITEM_ID
from insetgan_batch.data.manifest import BadRow
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.errors import ManifestError, NotFoundError, StorageError
from insetgan_batch.methods.insetgan.sources import Source, new_item, of, schema
from insetgan_batch.records import Item
from tests.records import montage_items

INSETS = ("face", "shoes")
QUICK = settings(max_examples=40, database=None)


def stored(table: pa.Table, **options: Any) -> str:
    """The URI of a Parquet file in memory."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return stored_bytes(sink.getvalue())


def stored_bytes(data: bytes) -> str:
    name = uuid.uuid4().hex
    MemoryStorage(name).put("in/m.parquet", data)
    return f"memory://{name}/in/m.parquet"


def read(table: pa.Table) -> list[Item]:
    return items_of(stored(table))


def items_of(uri: str, insets: Sequence[str] = INSETS) -> list[Item]:
    """All rows; none is a bad one."""
    rows = list(manifest.read(uri, schema(insets)))
    items = [row for row in rows if isinstance(row, Item)]
    assert len(items) == len(rows), rows
    return items


def bad_rows(uri: str) -> list[BadRow]:
    return [row for row in manifest.read(uri, schema(INSETS)) if isinstance(row, BadRow)]


def refused(table: pa.Table) -> str:
    """What the reader says about the table: one line that names the file."""
    uri = stored(table)
    with pytest.raises(ManifestError) as caught:
        list(manifest.read(uri, schema(INSETS)))
    return without_uri(uri, caught.value)


def bad_row(table: pa.Table) -> str:
    """What the reader says about the one bad row of a table: one line that names the file."""
    uri = stored(table)
    (bad,) = bad_rows(uri)
    return without_uri(uri, bad.error)


def without_uri(uri: str, error: ManifestError) -> str:
    message = str(error)
    assert message.startswith(f"{uri}: ")
    assert "\n" not in message
    return message.removeprefix(f"{uri}: ")


def complaint(uri: str) -> str:
    """What the reader says, "" if it takes the file."""
    try:
        return "; ".join(str(bad.error) for bad in bad_rows(uri))
    except ManifestError as err:
        return str(err)


# What is read


def test_every_column_finds_its_place_in_the_item() -> None:
    table = pa.table(
        {
            "item_id": ["a"],
            "canvas_seed": [7],
            "canvas_psi": [0.25],
            "face_image": ["s3://faces/7.png"],
            "shoes_latent": ["/in/7.safetensors"],
            "shoes_psi": [1.0],
            "seed": [3],
            "overrides": ['{"rounds": 2, "weights": {"border": 1.5}}'],
            "meta_name": ["Ada"],
            "meta_tags": [["x", "y"]],
        }
    )
    assert read(table) == [
        new_item(
            item_id="a",
            canvas=Source("seed", 7, 0.25),
            insets={
                "face": Source("image", "s3://faces/7.png"),
                "shoes": Source("latent", "/in/7.safetensors", 1.0),
            },
            seed=3,
            overrides={"rounds": 2, "weights": {"border": 1.5}},
            meta={"name": "Ada", "tags": ["x", "y"]},
        )
    ]


def test_null_and_a_missing_column_mean_not_given() -> None:
    average = {"face": Source(), "shoes": Source()}
    table = pa.table({"item_id": ["a"], "canvas_seed": pa.array([None]), "meta_name": [None]})
    assert read(table) == [new_item("a", Source(), average)]


def test_columns_of_pandas_and_friends_are_understood() -> None:
    table = pa.table(
        {
            "item_id": pa.array(["a", "b"]).dictionary_encode(),
            "canvas_seed": pa.array([1, None], pa.uint32()),
            "canvas_psi": pa.array([0.5, None], pa.float32()),
            "face_image": pa.array(["/x", None], pa.large_string()),
        }
    )
    items = read(table)
    assert [of(item.inputs, INSETS)["canvas"] for item in items] == [
        Source("seed", 1, 0.5),
        Source(),
    ]
    assert [of(item.inputs, INSETS)["face"] for item in items] == [Source("image", "/x"), Source()]


def test_meta_becomes_what_json_can_hold() -> None:
    table = pa.table(
        {
            "item_id": ["a"],
            "meta_day": [datetime.date(2026, 1, 2)],
            "meta_at": [datetime.datetime(2026, 1, 2, 3, 4)],
            "meta_took": [datetime.timedelta(seconds=90)],
            "meta_price": [decimal.Decimal("1.20")],
            "meta_box": [{"x": 1, "y": [True, None]}],
        }
    )
    assert json.loads(json.dumps(read(table)[0].meta)) == {
        "day": "2026-01-02",
        "at": "2026-01-02T03:04:00",
        "took": 90.0,
        "price": "1.20",
        "box": {"x": 1, "y": [True, None]},
    }


def test_rows_come_in_order_over_row_groups_and_batches() -> None:
    ids = [f"item{n}" for n in range(2_500)]
    uri = stored(pa.table({"item_id": ids}), row_group_size=700)
    assert [item.item_id for item in items_of(uri)] == ids
    assert manifest.describe(uri, schema(INSETS)).rows == 2_500


def test_local_paths_are_read_and_written(tmp_path: Path) -> None:
    items = montage_items([1, 2], [3])
    for uri in (f"{tmp_path}/a b.parquet", f"file://{tmp_path}/a%20c.parquet"):
        assert manifest.write(uri, items, schema(["face"])) == 2
        assert list(manifest.read(uri, schema(["face"]))) == items
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b.parquet", "a c.parquet"]


# Ids


def test_row_without_an_id_gets_one_from_what_decides_its_result() -> None:
    columns = {"canvas_seed": [1, 1, 1, 2], "seed": [0, 1, 2, None], "overrides": [None] * 4}
    ids = [item.item_id for item in read(pa.table({**columns, "meta_name": ["a", "b", "c", "d"]}))]
    assert len(set(ids)) == 4
    assert all(ITEM_ID.fullmatch(item_id) and len(item_id) == 20 for item_id in ids)
    assert ids == [item.item_id for item in read(pa.table(columns))]
    # Pinned: a resume finds what an earlier version has committed.
    assert ids[0] == "6ab632048a3ca8902dfe"


def test_same_row_twice_is_a_duplicate() -> None:
    message = bad_row(pa.table({"canvas_seed": [1, 2, 1], "meta_name": ["a", "b", "c"]}))
    assert message.startswith("row 2, column item_id: ")


def test_duplicate_id_is_found_far_away() -> None:
    ids = [f"item{n}" for n in range(1_500)]
    message = bad_row(pa.table({"item_id": [*ids, "item3"]}))
    assert message.startswith("row 1500, column item_id: item3 stands for an earlier row too")


# Bad rows


def test_a_bad_row_stops_nothing() -> None:
    table = pa.table(
        {
            "item_id": ["a", "b", "a", None, "a/b", "c"],
            "canvas_seed": [1, -1, 2, -3, 4, 5],
            "overrides": [None, None, None, None, None, "{"],
            "meta_n": [0, 1, 2, 3, 4, 5],
        }
    )
    uri = stored(table)
    rows = list(manifest.read(uri, schema(INSETS)))
    assert [row.item_id for row in rows] == [
        "a",
        "b",
        "row-000000002",
        "row-000000003",
        "row-000000004",
        "c",
    ]
    assert [row.row for row in rows if isinstance(row, BadRow)] == [1, 2, 3, 4, 5]
    said = {row.row: without_uri(uri, row.error) for row in rows if isinstance(row, BadRow)}
    assert said[1] == "row 1, column canvas_seed: -1 is no seed; expected 0 to 4294967295"
    assert said[2].startswith("row 2, column item_id: a stands for an earlier row too")
    assert said[5].startswith("row 5, column overrides: not JSON")
    assert next(manifest.read(uri, schema(INSETS))) == rows[0]


def test_bad_rows_are_called_the_same_each_time() -> None:
    uri = stored(pa.table({"canvas_seed": [-1, -1, 7, -1]}))
    first, second = (
        [(row.item_id, row.row, str(row.error)) for row in bad_rows(uri)] for _ in range(2)
    )
    assert first == second
    assert len({item_id for item_id, _, _ in first}) == 3


def test_the_id_of_a_bad_row_is_nobody_elses() -> None:
    ids = ["row-000000002", "row-000000002-2", "x/y", "row-000000002-3", "row-000000005", "x/y"]
    rows = list(manifest.read(stored(pa.table({"item_id": ids})), schema(INSETS)))
    assert [isinstance(row, BadRow) for row in rows] == [False, False, True, True, False, True]
    assert [row.item_id for row in rows] == [
        "row-000000002",
        "row-000000002-2",
        "row-000000002-3",
        "row-000000003",
        "row-000000005",
        "row-000000005-2",
    ]
    assert all(ITEM_ID.fullmatch(row.item_id) for row in rows)


def test_an_id_that_a_bad_row_has_used_is_not_given_again() -> None:
    table = pa.table({"item_id": ["a", "a"], "canvas_seed": [-1, 1]})
    bad = bad_rows(stored(table))
    assert [(row.item_id, row.row) for row in bad] == [("a", 0), ("row-000000001", 1)]


def test_a_bad_row_keeps_nothing_of_the_rows_around_it() -> None:
    (bad,) = bad_rows(stored(pa.table({"overrides": ["{"]})))
    assert bad.error.__traceback__ is None
    assert bad.error.__cause__ is None
    assert pickle.loads(pickle.dumps(bad)).item_id == bad.item_id


# What it costs


def test_a_large_row_group_is_not_read_at_once(tmp_path: Path) -> None:
    """One row group of 35 MB, from its first row on."""
    uri = str(tmp_path / "m.parquet")
    texts = [f"{n:07d}" * 50 for n in range(100_000)]
    table = pa.table({"meta_text": texts, "seed": range(100_000)})
    pq.write_table(table, uri, row_group_size=100_000, compression="none", use_dictionary=False)
    del texts, table
    assert Path(uri).stat().st_size > 35e6
    before, allocated = pa.total_allocated_bytes(), 0
    for row in itertools.islice(manifest.read(uri, schema(INSETS)), 20_000):
        assert isinstance(row, Item)
        allocated = max(allocated, pa.total_allocated_bytes() - before)
    assert allocated < 10e6


def test_what_describes_a_manifest_reads_no_values(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    pq.write_table(pa.table({"canvas_seed": [-1, 2, 3]}), uri)
    expected = hashlib.sha256(Path(uri).read_bytes()).hexdigest()
    assert manifest.describe(uri, schema(INSETS)) == manifest.Described(expected, 3)
    with pytest.raises(ManifestError, match="no such manifest"):
        manifest.describe(f"{uri}.none", schema(INSETS))


def test_a_manifest_in_a_store_is_described_as_its_copy_on_disk(tmp_path: Path) -> None:
    local = tmp_path / "m.parquet"
    local.write_bytes(VALID)
    in_store = stored_bytes(VALID)
    assert manifest.describe(in_store, schema(INSETS)) == manifest.describe(
        str(local), schema(INSETS)
    )
    assert items_of(in_store) == items_of(str(local))


def test_nothing_is_left_of_a_manifest_from_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = manifest.read(stored_bytes(VALID), schema(INSETS))
    assert list(tmp_path.iterdir()) == []
    assert len(list(rows)) == 50


# What is refused


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("item_id", ["a/b"], "row 1, column item_id: 'a/b' is no id"),
        ("item_id", [".a"], "row 1, column item_id: '.a' is no id"),
        ("item_id", [""], "row 1, column item_id: '' is no id"),
        ("item_id", ["x" * 129], "row 1, column item_id: "),
        ("canvas_seed", [-1], "row 1, column canvas_seed: -1 is no seed"),
        ("face_seed", [2**32], "row 1, column face_seed: 4294967296 is no seed"),
        ("seed", [-5], "row 1, column seed: -5 is no seed"),
        ("canvas_psi", [1.01], "row 1, column canvas_psi: 1.01 is no truncation"),
        ("canvas_psi", [-0.1], "row 1, column canvas_psi: -0.1 is no truncation"),
        ("face_psi", [float("nan")], "row 1, column face_psi: nan is no truncation"),
        ("face_image", [""], "row 1, column face_image: '' is no URI"),
        ("overrides", ["{"], "row 1, column overrides: not JSON: "),
        ("overrides", ["[1]"], "row 1, column overrides: expected a JSON object, found '[1]'"),
        ("overrides", ['{"a": NaN}'], "row 1, column overrides: not JSON: NaN"),
        ("overrides", ["[" * 100_000], "row 1, column overrides: not JSON: "),
        ("face_image", [b"\x89PNG"], "row 1, column face_image: b'\\x89PNG' is no text: expected"),
        ("face_seed", [0.5], "row 1, column face_seed: 0.5 is no seed; expected a whole number"),
        ("face_seed", [float("inf")], "row 1, column face_seed: inf is no seed; expected a whole"),
        ("seed", [decimal.Decimal("1.5")], "row 1, column seed: 1.5 is no seed; expected a whole"),
        ("canvas_psi", [decimal.Decimal("1.5")], "row 1, column canvas_psi: 1.5 is no truncation"),
    ],
)
def test_bad_value_is_named_by_row_and_column(column: str, values: list[Any], says: str) -> None:
    table = pa.table({column: pa.array([None, *values]), "meta_n": [0, 1]})
    assert bad_row(table).startswith(says)


def test_largest_and_smallest_values_are_taken() -> None:
    table = pa.table({"item_id": ["a", "x" * 128], "seed": [0, 2**32 - 1], "face_psi": [0.0, 1.0]})
    assert [item.seed for item in read(table)] == [0, 2**32 - 1]


def test_two_sources_of_one_generator_are_refused() -> None:
    table = pa.table(
        {"face_seed": [1, None], "face_image": [None, "a"], "face_latent": [None, "b"]}
    )
    assert bad_row(table).startswith("row 1, column face_latent: face_image is given too")


def test_unknown_column_is_refused_with_the_nearest_one() -> None:
    message = refused(pa.table({"canvas_seed": [1], "face_sed": [1]}))
    assert message.startswith(
        "unknown column 'face_sed' (did you mean face_seed?); known are item_id"
    )
    assert message.endswith("seed, overrides and meta_*")
    assert refused(pa.table({"zzz": [1]})).startswith("unknown column 'zzz'; known are")
    assert refused(pa.table({"hands_seed": [1]})).startswith("unknown column 'hands_seed'")
    assert refused(pa.table({"meta_": [1]})).startswith("unknown column 'meta_'")


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("item_id", [1], "column item_id is int64, expected string"),
        (
            "item_id",
            [datetime.datetime(2026, 1, 2)],
            r"column item_id is timestamp\[us\], expected",
        ),
        ("canvas_seed", ["1"], "column canvas_seed is string, expected int64; cast it to BIGINT"),
        ("canvas_seed", [{"seed": 1}], "column canvas_seed is struct<.*>, expected int64"),
        ("canvas_seed", [True], "column canvas_seed is bool, expected int64"),
        ("face_psi", ["0.7"], "column face_psi is string, expected float"),
        ("face_image", [{"bytes": b"png"}], "column face_image is struct<.*>, expected string"),
        ("face_box", [["0", "1"]], "column face_box is list<.*>, expected list of floats"),
        ("face_box", [[True, False]], "column face_box is list<.*bool>, expected list of floats"),
        ("overrides", [{"a": 1}], "column overrides is struct<a: int64>, expected string"),
    ],
)
def test_wrong_type_is_refused_before_the_first_row(
    column: str, values: list[Any], says: str
) -> None:
    uri = stored(pa.table({column: values}))
    with pytest.raises(ManifestError, match=f"{uri}: {says}"):
        manifest.describe(uri, schema(INSETS))
    with pytest.raises(ManifestError, match=f"{uri}: {says}"):
        manifest.read(uri, schema(INSETS))


def test_column_given_twice_is_refused() -> None:
    table = pa.table([[1], [2]], names=["canvas_seed", "canvas_seed"])
    assert refused(table).startswith("more than one column canvas_seed")


def test_schema_version_is_checked() -> None:
    table = pa.table({"canvas_seed": [1]})
    key = b"insetgan_batch.manifest"
    assert len(read(table.replace_schema_metadata({key: b"1"}))) == 1
    newer = refused(table.replace_schema_metadata({key: b"2"}))
    assert newer.startswith("written for version 2 of the schema, known here is 1; upgrade")
    for broken in (b"", b"0", b"one", b"\xff"):
        assert "schema version" in refused(table.replace_schema_metadata({key: broken}))


def test_empty_manifest_is_refused() -> None:
    assert refused(pa.table({"item_id": pa.array([], pa.string())})).startswith("no rows")
    with pytest.raises(ManifestError, match="no items"):
        manifest.write(f"memory://{uuid.uuid4().hex}/m", [], schema(INSETS))


def test_missing_manifest_is_refused(tmp_path: Path) -> None:
    for uri in (f"{tmp_path}/none.parquet", f"memory://{uuid.uuid4().hex}/none.parquet"):
        with pytest.raises(ManifestError, match=f"{uri}: there is no such manifest"):
            manifest.read(uri, schema(INSETS))
    with pytest.raises(ManifestError, match="no Parquet file in this directory"):
        manifest.read(str(tmp_path), schema(INSETS))


def test_text_that_is_not_utf8_is_its_rows_mistake() -> None:
    column = pa.array([b"ok", b"\xff\xfe"]).cast(pa.string(), safe=False)
    message = bad_row(pa.table({"face_image": column}))
    assert message.startswith("row 1, column face_image: cannot be read: 'utf-8' codec")


# Any file at all


FOREIGN_TYPES = st.sampled_from(
    [
        pa.null(),
        pa.bool_(),
        pa.int8(),
        pa.uint64(),
        pa.float16(),
        pa.decimal128(5, 2),
        pa.string(),
        pa.binary(),
        pa.date32(),
        pa.timestamp("ns"),
        pa.duration("s"),
        pa.list_(pa.int32()),
        pa.struct([("a", pa.int8())]),
        pa.map_(pa.string(), pa.binary()),
        pa.dictionary(pa.int8(), pa.int64()),
    ]
)
VALUES = {
    "bool": True,
    "float": 0.5,
    "binary": b"\xff",
    "list": [1],
    "map": [("k", b"v")],
    "struct": {"a": 1},
    "string": "x",
    "decimal128": decimal.Decimal("1.5"),
}


def _column(kind: pa.DataType) -> pa.Array:
    for name, value in VALUES.items():
        if str(kind).startswith(name):
            return pa.array([value, None], kind)
    return pa.array([1, None], pa.int64()).cast(pa.int32() if kind == pa.date32() else pa.int64())


@given(
    columns=st.dictionaries(
        st.sampled_from(["item_id", "canvas_seed", "face_psi", "overrides", "meta_x", "other", ""]),
        FOREIGN_TYPES,
        max_size=4,
    )
)
@QUICK
def test_foreign_parquet_is_read_or_refused(columns: dict[str, pa.DataType]) -> None:
    table = pa.table({name: pa.nulls(2, kind) for name, kind in columns.items()})
    for candidate in (table, pa.table({name: _column(kind) for name, kind in columns.items()})):
        assert "\n" not in complaint(stored(candidate))


def _valid() -> bytes:
    sink = io.BytesIO()
    table = pa.table({"item_id": [f"i{n}" for n in range(50)], "meta_n": list(range(50))})
    pq.write_table(table, sink, row_group_size=20)
    return sink.getvalue()


VALID = _valid()


def test_footer_that_counts_other_rows_is_refused() -> None:
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"meta_n": [0] * 4_321, "seed": range(4_321)}), sink, row_group_size=999
    )
    counted, more = b"\x16\xc2\x43", b"\x16\xc4\x43"  # the footer's 4,321, and one row more
    assert sink.getvalue().count(counted) == 1
    with pytest.raises(ManifestError, match="4321 rows where the footer counts 4322"):
        list(manifest.read(stored_bytes(sink.getvalue().replace(counted, more)), schema(INSETS)))


@given(length=st.integers(0, len(VALID) - 1))
@QUICK
def test_truncated_manifest_is_refused(length: int) -> None:
    with pytest.raises(ManifestError, match="not a Parquet file"):
        manifest.read(stored_bytes(VALID[:length]), schema(INSETS))


@given(data=st.binary(max_size=200))
@QUICK
def test_garbage_is_refused(data: bytes) -> None:
    for candidate in (data, b"PAR1" + data + b"PAR1"):
        with pytest.raises(ManifestError):
            manifest.read(stored_bytes(candidate), schema(INSETS))


@given(changes=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1))
@QUICK
def test_damaged_manifest_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(VALID)
    for position, byte in changes:
        data[position] = byte
    assert "\n" not in complaint(stored_bytes(bytes(data)))


# What is written


SEEDS = st.integers(0, 2**32 - 1)
PSI = st.none() | st.floats(0, 1)
TEXT = st.text(max_size=8)
# Of one object: no line breaks, no slashes.
NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/"),
    min_size=1,
    max_size=20,
)
URIS = st.builds("{}{}".format, st.sampled_from(["/in/", "file:///in/", "s3://b/"]), NAMES)
SOURCES = st.one_of(
    st.builds(Source, psi=PSI),
    st.builds(Source, st.just("seed"), SEEDS, PSI),
    st.builds(Source, st.sampled_from(["image", "latent"]), URIS, PSI),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
META = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXT,
        "count": st.integers(-(2**63), 2**63 - 1),
        "ratio": st.floats(allow_nan=False),
        "good": st.booleans(),
        "ünïcode col": st.lists(TEXT, max_size=3),
    },
)
ITEMS = st.builds(
    new_item,
    item_id=st.from_regex(ITEM_ID, fullmatch=True),
    canvas=SOURCES,
    insets=st.fixed_dictionaries({name: SOURCES for name in INSETS}),
    seed=SEEDS,
    overrides=st.dictionaries(TEXT, JSON, max_size=3),
    meta=META,
)


@given(items=st.lists(ITEMS, min_size=1, max_size=8, unique_by=lambda item: item.item_id))
@QUICK
def test_what_is_written_is_read_back(items: list[Item]) -> None:
    uri = f"memory://{uuid.uuid4().hex}/m.parquet"
    assert manifest.write(uri, iter(items), schema(INSETS)) == len(items)
    assert manifest.describe(uri, schema(INSETS)).rows == len(items)
    assert list(manifest.read(uri, schema(INSETS))) == items


def test_large_manifest_is_written_in_row_groups() -> None:
    name = uuid.uuid4().hex
    average = {"face": Source()}
    items = [
        new_item(f"i{n}", Source("seed", n), average, meta={"late": n} if n > 9_000 else {})
        for n in range(11_000)
    ]
    assert manifest.write(f"memory://{name}/m", iter(items), schema(["face"])) == 11_000
    file = pq.ParquetFile(pa.BufferReader(MemoryStorage(name).get("m")))
    assert [file.metadata.row_group(n).num_rows for n in range(3)] == [5_000, 5_000, 1_000]
    assert file.schema_arrow.metadata[b"insetgan_batch.manifest"] == b"1"
    assert list(manifest.read(f"memory://{name}/m", schema(["face"]))) == items


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([new_item("a/b", Source(), {})], "row 0, column item_id: 'a/b' is no id"),
        (
            [new_item("a", Source(), {}), new_item("a", Source(), {})],
            "row 1, column item_id: a stands for",
        ),
        ([new_item("a", Source("seed", -1), {})], "row 0, column canvas_seed: -1 is no seed"),
        ([new_item("a", Source("seed", "1"), {})], "row 0, column canvas_seed: '1' is no seed"),
        ([new_item("a", Source("image", ""), {})], "row 0, column canvas_image: '' is no URI"),
        ([new_item("a", Source(), {"hands": Source("seed", 1)})], "unknown column 'hands_seed'"),
        (
            [new_item("a", Source(), {}, overrides={"x": float("nan")})],
            "row 0, column overrides: not",
        ),
        (
            [
                new_item("a", Source(), {}, meta={"x": 1}),
                new_item("b", Source(), {}, meta={"x": "1"}),
            ],
            "column meta_x: ",
        ),
        ([new_item("a", Source(), {}, meta={"x": 2**70})], "column meta_x: "),
        ([new_item("a", Source(), {}, meta={"x": "\ud800"})], "column meta_x: "),
        ([new_item("a", Source(), {}, meta={"x": {}})], "these items do not fit in columns"),
    ],
)
def test_items_that_could_not_be_read_back_are_not_written(items: list[Item], says: str) -> None:
    name = uuid.uuid4().hex
    with pytest.raises(ManifestError) as caught:
        manifest.write(f"memory://{name}/m", items, schema(INSETS))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not MemoryStorage(name).exists("m")


# The montage


def test_montage_puts_every_face_on_every_body() -> None:
    items = montage_items([1, 2], [7, 8])
    assert [item.item_id for item in items] == [
        "body1-face7",
        "body2-face7",
        "body1-face8",
        "body2-face8",
    ]
    assert items[1].inputs == {"canvas_seed": 2, "face_seed": 7}


# The sample of images


def _png() -> bytes:
    sink = io.BytesIO()
    Image.frombytes("L", (16, 16), bytes(range(256))).convert("RGB").save(sink, format="PNG")
    return sink.getvalue()


PNG = _png()


def opened_by_the_check(items: list[Item], *, readable: str = "") -> list[str]:
    """Which images the check looks at; those with `readable` in their name are good ones."""
    opened = []

    def storage_of(uri: str) -> bytes:
        opened.append(uri)
        return PNG if readable in uri else b"no picture"

    manifest.check_sample(items, schema(["face"]), storage_of)
    return opened


def _check(data: bytes | None) -> None:
    def storage_of(uri: str) -> bytes:
        if data is None:
            raise NotFoundError(f"{uri}: there is no such object")
        return data

    item = new_item("a", Source("seed", 1), {"face": Source("image", "s3://faces/1.png")})
    manifest.check_sample([item], schema(["face"]), storage_of)


def test_good_sample_passes_and_only_images_are_opened() -> None:
    image, latent = Source("image", "s3://faces/1.png"), Source("latent", "x")
    assert opened_by_the_check([new_item("a", Source("seed", 1), {"face": image})]) == [image.value]
    assert opened_by_the_check([new_item("a", Source("seed", 1), {"face": latent})]) == []


def test_missing_image_is_named_by_item_and_column() -> None:
    with pytest.raises(
        ManifestError,
        match=r"item a, column face_image: s3://faces/1.png cannot be read: .*no such object",
    ):
        _check(None)


def test_one_bad_image_among_good_ones_is_left_to_its_row() -> None:
    items = [
        new_item(name, Source("image", f"s3://bodies/{name}.png"), {"face": Source("seed", 1)})
        for name in ("bad", "good")
    ]
    opened = opened_by_the_check(items, readable="good")
    assert opened == ["s3://bodies/bad.png", "s3://bodies/good.png"]


def test_unreadable_store_is_named_by_item_and_column() -> None:
    def storage_of(uri: str) -> bytes:
        raise StorageError(f"{uri}: denied")

    item = new_item("a", Source("image", "s3://b/x.png"), {})
    with pytest.raises(
        ManifestError, match=r"item a, column canvas_image: .* cannot be read: .*denied"
    ):
        manifest.check_sample([item], schema(["face"]), storage_of)


def test_image_in_a_late_item_is_left_to_its_row() -> None:
    items = [*montage_items(range(20), [1]), new_item("a", Source("image", "x"), {})]
    assert opened_by_the_check(items) == []


@given(length=st.integers(0, len(PNG) - 40))
@QUICK
def test_truncated_image_is_refused(length: int) -> None:
    with pytest.raises(ManifestError, match=r"column face_image: s3://faces/1.png: not an image"):
        _check(PNG[:length])


@given(data=st.binary(max_size=100) | st.binary(max_size=100).map(lambda tail: PNG[:40] + tail))
@QUICK
def test_garbage_is_no_image(data: bytes) -> None:
    with pytest.raises(ManifestError, match="not an image that can be read"):
        _check(data)


def test_source_without_its_value_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="canvas: kind image without"):
        new_item("a", Source("image"), {})


def test_boxes_come_back_as_they_were_written(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    item = new_item("a", Source("seed", 1, box=(1.0, 2.5, 3.0, 4.0)), {"face": Source("seed", 2)})
    manifest.write(uri, [item, new_item("b", Source())], schema(["face"]))
    found = [item.inputs.get("canvas_box") for item in items_of(uri, ["face"])]
    assert found == [[1.0, 2.5, 3.0, 4.0], None]


@pytest.mark.parametrize(
    "box", [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 4.0], [1.0, 2.0, float("nan"), 4.0]]
)
def test_a_box_that_is_none_is_named_by_row_and_column(tmp_path: Path, box: list[float]) -> None:
    uri = str(tmp_path / "m.parquet")
    pq.write_table(pa.table({"item_id": ["a"], "canvas_box": [box]}), uri)
    (bad,) = manifest.read(uri, schema(["face"]))
    assert isinstance(bad, BadRow)
    assert re.search(r"row 0, column canvas_box: .* is no box", str(bad.error))


def test_with_several_insets_a_box_on_the_canvas_would_not_say_whose(tmp_path: Path) -> None:
    uri, insets = str(tmp_path / "m.parquet"), ["face", "shoes"]
    box = (1.0, 2.0, 3.0, 4.0)
    item = new_item("a", Source("seed", 1), {name: Source("seed", 2, box=box) for name in insets})
    manifest.write(uri, [item], schema(insets))
    assert list(manifest.read(uri, schema(insets))) == [item]
    with_box = dataclasses.replace(item, inputs=item.inputs | {"canvas_box": list(box)})
    with pytest.raises(ManifestError, match=r"canvas_box does not say which of .* face, shoes it"):
        manifest.write(uri, [with_box], schema(insets))
    pq.write_table(pa.table({"canvas_box": [list(box)]}), uri)
    with pytest.raises(ManifestError, match="canvas_box does not say"):
        manifest.read(uri, schema(insets))
    assert items_of(uri, ["face"])[0].inputs["canvas_box"] == list(box)


def test_a_manifest_may_have_no_insets(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    items = [new_item(f"i{n}", Source("seed", n), {}) for n in range(3)]
    manifest.write(uri, items, schema([]))
    assert list(manifest.read(uri, schema([]))) == items
    manifest.write(uri, montage_items([1], [2]), schema(["face"]))
    with pytest.raises(ManifestError, match="unknown column 'face_seed'"):
        manifest.read(uri, schema([]))
