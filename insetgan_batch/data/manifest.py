"""The manifest: a Parquet table, one row per item, and the one place that checks what users write.

Columns: `item_id`; for the canvas and each inset `<generator>_seed`, `_image`, `_latent`, `_psi`,
`_box` (no `canvas_box` where there are several insets: it would not say whose); `seed`;
`overrides` (a JSON object); anything under `meta_`. All are optional and null means not given. The
file's key-value metadata may name the schema's version (`insetgan_batch.manifest`).
Errors name file, row (from 0, over the whole file) and column.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import difflib
import hashlib
import io
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from insetgan_batch.data.commits import ITEM_ID
from insetgan_batch.data.storage import LocalStorage, locate
from insetgan_batch.errors import ManifestError, NotFoundError, StorageError, one_line
from insetgan_batch.records import Item, Source, SourceKind

_VERSION = 1
_VERSION_KEY = b"insetgan_batch.manifest"
_ROW_GROUP = 5_000
_BATCH = 1_000  # rows in memory while reading
_SAMPLE = 8  # items whose images are opened before a run
_MAX_SEED = 2**32 - 1  # what numpy's RandomState takes
_MAX_SEEDS = (
    10_000_000  # of one text like "0-99": more is a typing error, and would fill the memory
)
_KINDS: tuple[SourceKind, ...] = ("seed", "image", "latent")
_META = "meta_"
_TYPES = {"string": pa.string(), "int64": pa.int64(), "float": pa.float64()}
_TYPES["list of floats"] = pa.list_(pa.float64())

# What a damaged file makes the readers raise: their own errors, and plain ones from far below.
_BROKEN_PARQUET = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError)
BROKEN_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read(uri: str, insets: Sequence[str]) -> Iterator[Item]:
    """The items of the manifest at `uri`, in its order. insets: the names that the recipe knows.

    The schema is checked by this call, values as the rows are reached: both raise `ManifestError`.
    """
    file = _open(uri)
    _check_file(uri, file, insets)
    return _items(uri, file, insets)


def validate_schema(uri: str, insets: Sequence[str]) -> int:
    """Check what can be checked without reading rows; returns how many there are."""
    with _open(uri) as file:
        return _check_file(uri, file, insets)


def write(uri: str, items: Iterable[Item], insets: Sequence[str]) -> int:
    """Write a manifest that `read` gives back; returns the number of rows.

    `meta` becomes columns, so one name holds one type, and None is the same as not given. Raises
    `ManifestError`, before anything is written, for what `read` would refuse.
    """
    tables: list[pa.Table] = []
    rows: list[dict[str, Any]] = []
    seen: set[bytes] = set()
    count = 0
    for item in items:
        row = _Row(f"{uri}: row {count}", _values(item))
        _check_unique(row, row.item(insets).item_id, seen)
        rows.append(dict(row.values))
        count += 1
        if len(rows) == _ROW_GROUP:
            tables.append(_table(uri, rows, insets))
            rows = []
    tables.append(_table(uri, rows, insets))
    _put(uri, tables, insets)
    return count


def montage_items(canvas_seeds: Sequence[int], face_seeds: Sequence[int]) -> list[Item]:
    """Every face on every body, face by face."""
    return [
        Item(
            f"body{body}-face{face}", Source("seed", int(body)), {"face": Source("seed", int(face))}
        )
        for face in face_seeds
        for body in canvas_seeds
    ]


def parse_seeds(text: str) -> list[int]:
    """Seeds from a text like 0-15,20; ranges include both ends. Raises `ManifestError`."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,10})(?:\s*-\s*([0-9]{1,10}))?\s*", part)
        if not found:
            raise ManifestError(f"seeds {text!r}: {part!r} is no number or range; expected 0-15,20")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last > _MAX_SEED:
            raise ManifestError(f"seeds {text!r}: {part!r} must rise and end by {_MAX_SEED}")
        if len(seeds) + last - first >= _MAX_SEEDS:
            raise ManifestError(f"seeds {text!r}: more than {_MAX_SEEDS} of them; name fewer")
        for seed in range(first, last + 1):
            if seed in seeds:
                raise ManifestError(f"seeds {text!r}: {seed} is named twice; name it once")
            seeds[seed] = None
    return list(seeds)


def check_sample(items: Sequence[Item], storage_of: Callable[[str], bytes]) -> None:
    """Open images that the first items name; raises `ManifestError` if none of them can be read.

    One bad image is its row's failure; when all are bad, so is the way to them. storage_of: URI →
    bytes (`storage.read_uri`).
    """
    failures = []
    for item in items[:_SAMPLE]:
        for generator, source in {"canvas": item.canvas, **item.insets}.items():
            if source.kind == "image":
                where = f"item {item.item_id}, column {generator}_image: {source.value}"
                try:
                    _check_image(where, str(source.value), storage_of)
                except ManifestError as err:
                    failures.append(err)
                else:
                    return
    if failures:
        raise failures[0]


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """One row as Parquet holds it, and the checks that make it an item."""

    where: str
    values: Mapping[str, Any]

    def item(self, insets: Sequence[str]) -> Item:
        item = Item(
            item_id="",
            canvas=self._source("canvas"),
            insets={name: self._source(name) for name in insets},
            seed=self._seed("seed") or 0,
            overrides=self._overrides(),
            meta=self._meta(),
        )
        return dataclasses.replace(item, item_id=self._item_id(item))

    def fails(self, column: str, text: str) -> ManifestError:
        return ManifestError(f"{self.where}, column {column}: {text}")

    def _source(self, generator: str) -> Source:
        psi, box = self._psi(f"{generator}_psi"), self._box(f"{generator}_box")
        given = [kind for kind in _KINDS if self.values.get(f"{generator}_{kind}") is not None]
        if not given:
            return Source(psi=psi, box=box)
        if len(given) > 1:
            first, second = (f"{generator}_{kind}" for kind in given[:2])
            raise self.fails(second, f"{first} is given too; leave all but one of them null")
        column = f"{generator}_{given[0]}"
        value = self._seed(column) if given[0] == "seed" else self._text(column)
        return Source(given[0], value, psi, box)

    def _seed(self, column: str) -> int | None:
        value = self.values.get(column)
        if value is not None and not (isinstance(value, int) and 0 <= value <= _MAX_SEED):
            raise self.fails(column, f"{value!r} is no seed; expected 0 to {_MAX_SEED}")
        return value

    def _psi(self, column: str) -> float | None:
        value = self.values.get(column)
        if value is not None and not 0 <= value <= 1:  # NaN fails this too
            raise self.fails(column, f"{value} is no truncation; expected 0 to 1, or null")
        return value

    def _box(self, column: str) -> tuple[float, float, float, float] | None:
        value = self.values.get(column)
        if value is None:
            return None
        if len(value) == 4 and all(v is not None and math.isfinite(v) for v in value):
            x0, y0, x1, y1 = value
            if x0 < x1 and y0 < y1:
                return x0, y0, x1, y1
        raise self.fails(column, f"{list(value)} is no box; expected [x0, y0, x1, y1] in pixels")

    def _text(self, column: str) -> str:
        value = self.values[column]
        if not isinstance(value, str) or not value:
            raise self.fails(column, f"{value!r} is no URI; name a file, or leave it null")
        return value

    def _overrides(self) -> dict[str, Any]:
        text = self.values.get("overrides")
        if text is None:
            return {}
        try:
            overrides = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as err:
            raise self.fails("overrides", f"not JSON: {_one_line(err)}") from err
        if not isinstance(overrides, dict):
            raise self.fails("overrides", f"expected a JSON object, found {text[:40]!r}")
        return overrides

    def _meta(self) -> dict[str, Any]:
        meta = {}
        for column, value in self.values.items():
            if column.startswith(_META) and value is not None:
                try:
                    meta[column.removeprefix(_META)] = _plain(value)
                except TypeError as err:
                    raise self.fails(column, f"{err}; expected what JSON can hold") from err
        return meta

    def _item_id(self, item: Item) -> str:
        item_id = self.values.get("item_id")
        if item_id is None:
            return _identity(item)
        if not ITEM_ID.fullmatch(item_id):
            raise self.fails("item_id", f"{item_id!r} is no id; expected {ITEM_ID.pattern}")
        return str(item_id)


def _identity(item: Item) -> str:
    """The id of a row without one: of all that decides its result, so not of `meta`."""
    fields = dataclasses.asdict(item)
    resolved = {name: fields[name] for name in ("canvas", "insets", "seed", "overrides")}
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def _items(uri: str, file: pq.ParquetFile, insets: Sequence[str]) -> Iterator[Item]:
    seen: set[bytes] = set()
    with file:
        for number, values in enumerate(_rows(uri, file)):
            row = _Row(f"{uri}: row {number}", values)
            item = row.item(insets)
            _check_unique(row, item.item_id, seen)
            yield item


def _rows(uri: str, file: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    done = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()
            done += batch.num_rows
        if done != file.metadata.num_rows:
            raise ValueError(f"{done} rows where the footer counts {file.metadata.num_rows}")
    except _BROKEN_PARQUET as err:
        raise ManifestError(
            f"{uri}: damaged somewhere after row {done}: {_one_line(err)}; write the file again"
        ) from err


def _check_unique(row: _Row, item_id: str, seen: set[bytes]) -> None:
    # 16 bytes, not the id: a million ids of 128 characters would be a burden for the driver.
    digest = hashlib.sha256(item_id.encode()).digest()[:16]
    if digest in seen:
        raise row.fails(
            "item_id", f"{item_id} stands for an earlier row too; give each its own item_id or seed"
        )
    seen.add(digest)


def _open(uri: str) -> pq.ParquetFile:
    try:
        storage, key = locate(uri)
        if isinstance(storage, LocalStorage):
            return pq.ParquetFile(str(storage.root / key))
        return pq.ParquetFile(pa.BufferReader(storage.get(key)))
    except (NotFoundError, FileNotFoundError) as err:
        raise ManifestError(f"{uri}: there is no such manifest; check the path") from err
    except _BROKEN_PARQUET as err:
        raise ManifestError(
            f"{uri}: not a Parquet file that can be read: {_one_line(err)}; expected a manifest"
        ) from err


def _check_file(uri: str, file: pq.ParquetFile, insets: Sequence[str]) -> int:
    try:
        schema, rows = file.schema_arrow, int(file.metadata.num_rows)
    except _BROKEN_PARQUET as err:
        raise ManifestError(f"{uri}: the schema cannot be read: {_one_line(err)}") from err
    _check_version(uri, schema)
    _check_columns(uri, schema, insets)
    if rows == 0:
        raise ManifestError(f"{uri}: no rows; expected one per item")
    return rows


def _check_version(uri: str, schema: pa.Schema) -> None:
    text = (schema.metadata or {}).get(_VERSION_KEY, b"1").decode(errors="replace")
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise ManifestError(f"{uri}: schema version {text!r} in the metadata; expected {_VERSION}")
    if int(text) > _VERSION:
        raise ManifestError(
            f"{uri}: written for version {text} of the schema, known here is {_VERSION}; upgrade"
            " insetgan-batch, or write the manifest again"
        )


def _check_columns(uri: str, schema: pa.Schema, insets: Sequence[str]) -> None:
    known = _columns(insets)
    for field in schema:
        if schema.names.count(field.name) > 1:
            raise ManifestError(f"{uri}: more than one column {field.name}; keep one")
        if field.name.startswith(_META) and field.name != _META:
            continue
        if field.name == "canvas_box" and field.name not in known:
            raise ManifestError(
                f"{uri}: column canvas_box does not say which of the insets {', '.join(insets)} it"
                " is for; leave it out, and let `detector` find each of them"
            )
        if field.name not in known:
            close = difflib.get_close_matches(field.name, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ManifestError(
                f"{uri}: unknown column {field.name!r}{hint}; known are {', '.join(known)} and"
                f" {_META}*"
            )
        if not _fits(field.type, known[field.name]):
            raise ManifestError(
                f"{uri}: column {field.name} is {field.type}, expected {known[field.name]}"
            )


def _columns(insets: Sequence[str]) -> dict[str, str]:
    """Column → kind of value (a key of `_TYPES`)."""
    columns = {"item_id": "string"}
    for generator in ("canvas", *insets):
        columns[f"{generator}_seed"] = "int64"
        columns[f"{generator}_image"] = columns[f"{generator}_latent"] = "string"
        columns[f"{generator}_psi"], columns[f"{generator}_box"] = "float", "list of floats"
    if len(insets) > 1:  # it would not say whose box it is
        del columns["canvas_box"]
    return columns | {"seed": "int64", "overrides": "string"}


def _fits(found: pa.DataType, kind: str) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_null(found):  # what writers make of a column without any value
        return True
    if kind == "string":
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    if kind == "list of floats":
        is_list = pa.types.is_list(found) or pa.types.is_fixed_size_list(found)
        return bool(is_list and pa.types.is_floating(found.value_type))
    return bool(pa.types.is_integer(found) if kind == "int64" else pa.types.is_floating(found))


def _values(item: Item) -> dict[str, Any]:
    """An item as a row: column → value. ValueError for a source without its value: our own bug."""
    values: dict[str, Any] = {"item_id": item.item_id, "seed": item.seed}
    for generator, source in {"canvas": item.canvas, **item.insets}.items():
        if source.kind != "average":
            if source.value is None:
                raise ValueError(f"{item.item_id}: {generator}: kind {source.kind} without a value")
            values[f"{generator}_{source.kind}"] = source.value
        given = {f"{generator}_psi": source.psi, f"{generator}_box": source.box}
        values |= {column: value for column, value in given.items() if value is not None}
    if item.overrides:
        values["overrides"] = json.dumps(item.overrides, sort_keys=True)
    meta = {f"{_META}{name}": value for name, value in item.meta.items() if value is not None}
    return values | meta


def _table(uri: str, rows: Sequence[dict[str, Any]], insets: Sequence[str]) -> pa.Table:
    known = {name: _TYPES[kind] for name, kind in _columns(insets).items()}
    names = dict.fromkeys([*known, *(name for row in rows for name in row)])
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows], known.get(name))
        except _BROKEN_PARQUET as err:
            raise ManifestError(f"{uri}: column {name}: {_one_line(err)}; use one type") from err
    return pa.table(columns)


def _put(uri: str, tables: Sequence[pa.Table], insets: Sequence[str]) -> None:
    sink = pa.BufferOutputStream()
    try:
        # Tables, not one open file: a column of meta may begin with nulls and get its type later.
        table = pa.concat_tables(tables, promote_options="permissive")
        table = table.replace_schema_metadata({_VERSION_KEY: str(_VERSION).encode()})
        pq.write_table(table, sink, row_group_size=_ROW_GROUP, compression="zstd")
    except _BROKEN_PARQUET as err:
        raise ManifestError(f"{uri}: these items do not fit in columns: {_one_line(err)}") from err
    _check_columns(uri, table.schema, insets)
    if not table.num_rows:
        raise ManifestError(f"{uri}: no items to write; expected at least one")
    storage, key = locate(uri)
    storage.put(key, sink.getvalue().to_pybytes())


def _check_image(where: str, uri: str, storage_of: Callable[[str], bytes]) -> None:
    try:
        data = storage_of(uri)
    except NotFoundError as err:
        raise ManifestError(f"{where} is missing; check the path") from err
    except StorageError as err:
        raise ManifestError(f"{where} cannot be read: {err}") from err
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except BROKEN_IMAGE as err:
        raise ManifestError(f"{where} is not an image that can be read: {_one_line(err)}") from err


def _plain(value: Any) -> Any:
    """The same in JSON's words; times become ISO 8601 text. TypeError for what has no such form."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {str(name): _plain(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case decimal.Decimal():
            return str(value)
    raise TypeError(f"found {type(value).__name__}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _one_line(err: BaseException) -> str:
    """Cut: Arrow may quote a whole schema."""
    return one_line(err)[:300]
