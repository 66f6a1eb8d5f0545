"""The rows of a Parquet file as Python's values, some at a time, whatever the file is like."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_BUFFER_BYTES = 64 * 1024  # of each column; without it a whole row group is read at once
_BATCH = 1_000  # rows in memory while reading, or as many as take so many bytes
_BATCH_BYTES = 32 * 1024 * 1024
_DICTIONARY_BYTES = 4 * 1024 * 1024  # of a column in a row group
_HEAVY_BYTES = 128 * 1024 * 1024  # of a column in a row group
_HEAVY_ROW_BYTES = 512 * 1024
_UNREADABLE = (ValueError, OverflowError, pa.ArrowException)
_TO_PARQUET = "import pyarrow.{module}, pyarrow.parquet as p; p.write_table({call}, '{name}')"
# Tables that are taken for a manifest by mistake: ending → what it is, and what reads it.
_OTHER_TABLES = {
    ".csv": ("CSV", "csv", "pyarrow.csv.read_csv('{0}')"),
    ".json": ("JSON", "json", "pyarrow.json.read_json('{0}')"),
    ".jsonl": ("JSON", "json", "pyarrow.json.read_json('{0}')"),
    ".ndjson": ("JSON", "json", "pyarrow.json.read_json('{0}')"),
    ".feather": ("Feather", "feather", "pyarrow.feather.read_table('{0}')"),
    ".arrow": ("Arrow", "feather", "pyarrow.feather.read_table('{0}')"),
    ".orc": ("ORC", "orc", "pyarrow.orc.read_table('{0}')"),
}


def opened(path: Path) -> pq.ParquetFile:
    """The file, to be read a batch at a time; raises what pyarrow and the disk raise."""
    options = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False}
    source = pa.OSFile(os.fsencode(path))  # as bytes: its name need not be UTF-8
    file = pq.ParquetFile(source, **options)
    names = _shared_texts(file)
    return pq.ParquetFile(source, read_dictionary=names, **options) if names else file


def heavy_column(file: pq.ParquetFile) -> tuple[str, int] | None:
    """A column that cannot be read a part at a time, and its bytes a row: of so long values that
    some hundred of them stand in one page. None where there is none.
    """
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            size = int(column.total_uncompressed_size)
            row_bytes = size // max(1, group.num_rows)
            if size > _HEAVY_BYTES and row_bytes > _HEAVY_ROW_BYTES:
                return str(column.path_in_schema), row_bytes
    return None


def rows(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Each row as column → value, or the error that reading the value raised (text that is not
    UTF-8); raises what pyarrow raises of a damaged file.
    """
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        row_bytes = max(1, group.total_byte_size / max(1, group.num_rows))
        size = int(min(_BATCH, max(1, _BATCH_BYTES / row_bytes)))
        for batch in file.iter_batches(size, row_groups=[number]):
            values = [_values(batch.column(name)) for name in columns]
            for row in zip(*values, strict=True) if columns else [()] * batch.num_rows:
                yield dict(zip(columns, row, strict=True))


def conversion(uri: str, path: Path) -> str | None:
    """What a table of another format is, and the command that makes Parquet of it; else None."""
    ending = Path(uri).suffix.lower()
    if ending not in _OTHER_TABLES:
        return None
    kind, module, call = _OTHER_TABLES[ending]
    name = path.name
    code = _TO_PARQUET.format(
        module=module, call=call.format(name), name=Path(name).with_suffix(".parquet")
    )
    return f'it is {kind}: convert it by python -c "{code}"'


def _shared_texts(file: pq.ParquetFile) -> list[str]:
    """Columns of text that the file holds in so few bytes that they may be read as dictionaries:
    a long text that all rows share is then in memory once.
    """
    sizes: dict[str, int] = {}
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            size = max(sizes.get(column.path_in_schema, 0), column.total_uncompressed_size)
            sizes[column.path_in_schema] = size
    return [
        field.name
        for field in file.schema_arrow
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if sizes.get(field.name, 0) <= _DICTIONARY_BYTES
    ]


def _values(column: pa.Array) -> list[Any]:
    """The values of a column; of a dictionary each one once."""
    if pa.types.is_dictionary(column.type):
        entries, indices = _values(column.dictionary), column.indices.to_pylist()
        if any(i is not None and not 0 <= i < len(entries) for i in indices):
            raise ValueError("an index of a dictionary that it has not")
        return [None if i is None else entries[i] for i in indices]
    try:
        values: list[Any] = column.to_pylist()
    except _UNREADABLE:
        return [_cell(scalar) for scalar in column]
    return values


def _cell(scalar: pa.Scalar) -> Any:
    """A value that may be none of Python's: times to the nanosecond, or far away, become text."""
    try:
        return scalar.as_py()
    except _UNREADABLE as err:
        kind = scalar.type
        if pa.types.is_struct(kind):
            return {field.name: _cell(scalar[i]) for i, field in enumerate(kind)}
        if pa.types.is_nested(kind):  # lists, and maps as lists of pairs
            return [_cell(entry) for entry in scalar.values]
        return _time_text(scalar) if pa.types.is_temporal(kind) else err


def _time_text(scalar: pa.Scalar) -> str:
    """A time that Python has no word for: as ISO 8601, else as the number that it is."""
    number = f"{scalar.value} {getattr(scalar.type, 'unit', 'days')}"
    if pa.types.is_duration(scalar.type):
        return number
    try:
        text = str(scalar.cast(pa.string()).as_py())
    except pa.ArrowException:  # a time zone that nobody knows
        return number
    return number if text.startswith("<") else text.replace(" ", "T", 1)
