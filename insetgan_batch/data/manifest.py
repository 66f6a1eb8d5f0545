"""The manifest: a Parquet table, one row per item, and the one place that checks what users write.

Columns: `item_id`; those of the method; `seed`; `overrides` (a JSON object); anything under
`meta_`. All are optional and null means not given. The file's key-value metadata may name the
schema's version (`insetgan_batch.manifest`). Instead of a file a text may name seeds:
`seeds:NAME=0-999 OTHER=0-99` (see `seeds`).
It may be a folder of such files (`parts`); a relative path in a row is relative to the directory
of its manifest. Errors name file, row (from 0, of that file) and column. What is wrong with one row
is that row's affair, a `BadRow`; what is wrong with a file is raised.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from insetgan_batch.data import cells, columns, parts, pictures, seeds
from insetgan_batch.data.parts import Part
from insetgan_batch.data.rows import Row, values_of
from insetgan_batch.data.storage import disk_error, local_path, locate
from insetgan_batch.errors import (
    BadInputError,
    ManifestError,
    NotFoundError,
    StorageError,
)
from insetgan_batch.method import Schema
from insetgan_batch.records import Item
from insetgan_batch.text import one_line

_ROW_GROUP = 5_000
_BAD_SHOWN = 10
_MANY_BAD, _NEARLY_ALL = 32, 0.9
_SAMPLE = 8  # items whose images are opened before a run

# What a damaged file makes the readers raise: their own errors, and plain ones from far below.
_BROKEN_PARQUET = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError)


@dataclasses.dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no item. item_id: its own, if it has one that no earlier row has, else
    `row-<number>`. row: its number, over all files. error: one line with file, row and column.
    """

    item_id: str
    row: int
    error: ManifestError


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """What a manifest is, without its values: the sha256 of the file, of the names and sha256 of
    all files in a folder, or of what names its seeds; and how many rows it has. seeds: what names
    them, where there is no file.
    """

    sha256: str
    rows: int
    seeds: str = ""


def describe(uri: str, schema: Schema) -> Described:
    """Check the schemas and hash the files; no values are read. schema: the method's.

    Raises `ManifestError`, and `StorageError` when the store fails.
    """
    if uri.startswith(seeds.SCHEME):
        rows = seeds.parse_rows(uri, schema)
        text = str(rows)
        return Described(hashlib.sha256(text.encode()).hexdigest(), len(rows), text)
    files = parts.of(uri).files
    found = [_described(part, schema) for part in files]
    count = sum(one.rows for one in found)
    if not count:
        raise ManifestError(f"{uri}: no rows; expected one per item")
    if not files[0].name:
        return found[0]
    listed = "".join(f"{o.sha256}  {p.name}\n" for o, p in zip(found, files, strict=True))
    return Described(hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest(), count)


def read(uri: str, schema: Schema) -> Iterator[Item | BadRow]:
    """The rows of the manifest at `uri`, in its order. schema: the method's.

    Rows are read and checked as they are asked for. Raises `ManifestError`: this call for what is
    wrong with the schema of the first file, the iterator for that of the others, and for damage.
    Raises `StorageError` when the store fails.
    """
    if uri.startswith(seeds.SCHEME):
        return iter(seeds.parse_rows(uri, schema))
    found = parts.of(uri)
    first = _Rows(found.files[0], schema)
    if first.count == 0 and len(found.files) == 1:
        raise ManifestError(f"{uri}: no rows; expected one per item")
    others = (_Rows(part, schema) for part in found.files[1:])
    return _items(itertools.chain([first], others), found.base, schema)


def write(uri: str, items: Iterable[Item], schema: Schema) -> int:
    """Write a manifest that `read` gives back; returns the number of rows.

    `meta` becomes columns, so one name holds one type, and None is the same as not given. Raises
    `ManifestError`, before anything is written, for what `read` would refuse.
    """
    tables: list[pa.Table] = []
    rows: list[dict[str, Any]] = []
    used = _UsedIds()
    count = 0
    for item in items:
        row = Row(f"{uri}: row {count}", values_of(item))
        _take_id(row, row.item(schema), used)
        rows.append(dict(row.values))
        count += 1
        if len(rows) == _ROW_GROUP:
            tables.append(_table(uri, rows, schema))
            rows = []
    tables.append(_table(uri, rows, schema))
    _put(uri, tables, schema)
    return count


def check_sample(items: Sequence[Item], schema: Schema, storage_of: Callable[[str], bytes]) -> None:
    """Open pictures that the first items name; raises `ManifestError` if none of them can be read.

    One bad picture is its row's failure; when all are bad, so is the way to them. storage_of: URI →
    bytes (`inputs.read`).
    """
    failures = []
    for item in items[:_SAMPLE]:
        for name, value in item.inputs.items():
            if schema.columns[name].kind == "picture":
                where = f"item {item.item_id}, column {name}: {value}"
                try:
                    _check_image(where, value, storage_of)
                except ManifestError as err:
                    failures.append(err)
                else:
                    return
    if failures:
        raise failures[0]


class BadRows:
    """Counts rows that are no items, and keeps the first of them. shown: what is wrong with those.

    So many, and so large a share of all, are no bad rows but a wrong manifest.
    """

    def __init__(self) -> None:
        self.rows = self.bad = 0
        self.shown: list[str] = []

    def see(self, row: Item | BadRow) -> None:
        """The next row."""
        self.rows += 1
        if isinstance(row, BadRow):
            self.bad += 1
            if len(self.shown) < _BAD_SHOWN:
                self.shown.append(str(row.error))

    def check(self) -> None:
        """Raise `ManifestError` where nearly all of them are bad."""
        if self.bad == self.rows or self.bad >= max(_MANY_BAD, _NEARLY_ALL * self.rows):
            first = "; ".join(self.shown[:3])
            raise ManifestError(
                f"{self.bad} of {self.rows} rows are wrong, so the manifest is: {first}; mend it"
                " and give the same command"
            )


class _UsedIds:
    """The ids so far."""

    def __init__(self) -> None:
        # 16 bytes each: a million ids of 128 characters would be a burden for the driver.
        self._digests: set[bytes] = set()

    def take(self, item_id: str) -> bool:
        """Whether it was free; now it is not."""
        digest = hashlib.sha256(item_id.encode()).digest()[:16]
        if digest in self._digests:
            return False
        self._digests.add(digest)
        return True


class _Rows:
    """The rows of one file, as Parquet holds them."""

    def __init__(self, part: Part, schema: Schema) -> None:
        """Raises `ManifestError` for a file, or a schema, that is not the manifest's."""
        self.uri, self._part = part.uri, part
        with _on_disk(part.uri) as path:
            self._file = _opened(part.uri, path)
        self._columns, self.count = _check_file(part, self._file, schema)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        done = 0
        with self._file as file:
            try:
                for values in cells.rows(file, self._columns):
                    yield {**self._part.columns, **values}
                    done += 1
                if done != self.count:
                    raise ValueError(f"{done} rows where the footer counts {self.count}")
            except _BROKEN_PARQUET as err:
                raise ManifestError(
                    f"{self.uri}: damaged somewhere after row {done}: {one_line(err)}; write the"
                    " file again"
                ) from err


def _items(files: Iterable[_Rows], base: str, schema: Schema) -> Iterator[Item | BadRow]:
    used = _UsedIds()
    total = itertools.count()
    for file in files:
        for number, values in enumerate(file):
            yield _item(Row(f"{file.uri}: row {number}", values, base), next(total), schema, used)


def _item(row: Row, number: int, schema: Schema, used: _UsedIds) -> Item | BadRow:
    try:
        item = row.item(schema)
        _take_id(row, item, used)
    except ManifestError as err:
        own = [row.own_id] if row.own_id else []
        name = f"row-{number:09d}"
        others = (f"{name}-{n}" for n in itertools.count(2))
        item_id = next(i for i in itertools.chain(own, [name], others) if used.take(i))
        # A new error: the old one would keep its frames, and so the rows around it, in memory.
        return BadRow(item_id, number, ManifestError(str(err)))
    return item


def _take_id(row: Row, item: Item, used: _UsedIds) -> None:
    if not used.take(item.item_id):
        raise row.fails(
            "item_id",
            f"{item.item_id} stands for an earlier row too; give each its own item_id or seed",
        )


@contextlib.contextmanager
def _on_disk(uri: str) -> Iterator[Path]:
    """The manifest as a file of this machine, to open: one from a store loses its name at the end,
    and its bytes when it is closed.
    """
    path = local_path(uri)
    if path is not None:
        yield path
        return
    storage, key = locate(uri)
    directory = tempfile.gettempdir()
    try:
        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            storage.read_into(key, file)
            file.flush()
            yield Path(file.name)
    except NotFoundError as err:
        raise ManifestError(f"{uri}: there is no such manifest; check the path") from err
    except OSError as err:
        raise disk_error(f"{uri}: {directory} (TMPDIR)", "write", err) from err


def _opened(uri: str, path: Path) -> pq.ParquetFile:
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is a directory or a device")
        return cells.opened(path)
    except FileNotFoundError as err:
        raise ManifestError(f"{uri}: there is no such manifest; check the path") from err
    except _BROKEN_PARQUET as err:
        hint = cells.conversion(uri, path)
        raise ManifestError(
            f"{uri}: not a Parquet file that can be read: {hint or one_line(err)}; expected a"
            " manifest"
        ) from err


def _described(part: Part, schema: Schema) -> Described:
    with _on_disk(part.uri) as path:
        with _opened(part.uri, path) as file:
            _, count = _check_file(part, file, schema)
        return Described(_sha256(part.uri, path), count)


def _sha256(uri: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise ManifestError(f"{uri}: cannot be read: {err.strerror}; check the file") from err


def _check_file(part: Part, file: pq.ParquetFile, schema: Schema) -> tuple[list[str], int]:
    """Which columns are read, and how many rows there are; raises `ManifestError` for a schema that
    is not the manifest's.
    """
    uri = part.uri
    try:
        found, rows = file.schema_arrow, int(file.metadata.num_rows)
    except _BROKEN_PARQUET as err:
        raise ManifestError(f"{uri}: the schema cannot be read: {one_line(err)}") from err
    columns.check_version(uri, found)
    read = columns.check(uri, found, schema)
    folders = {n: pa.scalar(v).type for n, v in part.columns.items() if n not in read}
    columns.check(uri, pa.schema(list(folders.items())), schema)
    if heavy := cells.heavy_column(file):
        raise ManifestError(
            f"{uri}: column {heavy[0]}: {heavy[1]} bytes a row; expected what a row can carry: keep"
            " it in files, and carry their names"
        )
    if rows < 0:
        raise ManifestError(f"{uri}: {rows} rows in its footer; write the file again")
    return read, rows


def _table(uri: str, rows: Sequence[dict[str, Any]], schema: Schema) -> pa.Table:
    known = {name: columns.TYPES[kind] for name, kind in columns.known(schema).items()}
    names = dict.fromkeys([*known, *(name for row in rows for name in row)])
    arrays = {}
    for name in names:
        try:
            arrays[name] = pa.array([row.get(name) for row in rows], known.get(name))
        except _BROKEN_PARQUET as err:
            raise ManifestError(f"{uri}: column {name}: {one_line(err)}; use one type") from err
    return pa.table(arrays)


def _put(uri: str, tables: Sequence[pa.Table], schema: Schema) -> None:
    sink = pa.BufferOutputStream()
    try:
        # Tables, not one open file: a column of meta may begin with nulls and get its type later.
        table = pa.concat_tables(tables, promote_options="permissive")
        table = table.replace_schema_metadata({columns.VERSION_KEY: str(columns.VERSION).encode()})
        pq.write_table(table, sink, row_group_size=_ROW_GROUP, compression="zstd")
    except _BROKEN_PARQUET as err:
        raise ManifestError(f"{uri}: these items do not fit in columns: {one_line(err)}") from err
    columns.check(uri, table.schema, schema)
    if not table.num_rows:
        raise ManifestError(f"{uri}: no items to write; expected at least one")
    storage, key = locate(uri)
    storage.put(key, sink.getvalue().to_pybytes())


def _check_image(where: str, uri: str, storage_of: Callable[[str], bytes]) -> None:
    try:
        data = storage_of(uri)
    except (StorageError, BadInputError) as err:
        raise ManifestError(f"{where} cannot be read: {err}") from err
    try:
        pictures.read(data, where)
    except BadInputError as err:
        raise ManifestError(str(err)) from err
