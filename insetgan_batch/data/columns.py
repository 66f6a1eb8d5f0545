"""The schema of a manifest: its version, which columns there are, and which type each has."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping

import pyarrow as pa

from insetgan_batch.errors import ManifestError
from insetgan_batch.method import Kind, Schema
from insetgan_batch.text import one_line, printable

META = "meta_"
VERSION = 1
VERSION_KEY = b"insetgan_batch.manifest"
TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float": pa.float64(),
    "list of floats": pa.list_(pa.float64()),
}

# What a column of another type has to be cast to, in the words of those who write manifests.
_CASTS = {
    "string": "VARCHAR in SQL, .astype(str) in pandas",
    "int64": "BIGINT in SQL, .astype('Int64') in pandas",
    "float": "DOUBLE in SQL, .astype(float) in pandas",
    "list of floats": "DOUBLE[] in SQL, a list of 4 numbers a row in pandas",
}
# How Parquet holds the values of each kind of column.
_KINDS: Mapping[Kind, str] = {
    "seed": "int64",
    "picture": "string",
    "file": "string",
    "fraction": "float",
    "box": "list of floats",
}
_PANDAS = b"pandas"
_PANDAS_INDEX = re.compile(r"__index_level_[0-9]+__")


def known(schema: Schema) -> dict[str, str]:
    """Column → how Parquet holds its values (a key of `TYPES`), without those of `meta_`."""
    own = {name: _KINDS[c.kind] for name, c in schema.columns.items() if not c.refused}
    return {"item_id": "string", **own, "seed": "int64", "overrides": "string"}


def check(uri: str, schema: pa.Schema, rows: Schema) -> list[str]:
    """The columns that are read, in their order: all but what pandas calls its index.

    Raises `ManifestError` for a column that is unknown, of another type, or there twice.
    """
    expected = known(rows)
    refused = {name: c.refused for name, c in rows.columns.items() if c.refused}
    index = _pandas_index(schema)
    kept = []
    for field in schema:
        name = one_line(printable(field.name))
        is_ours = field.name in expected or field.name.startswith(META)
        if field.name in index and not is_ours:
            continue
        kept.append(field.name)
        if schema.names.count(field.name) > 1:
            raise ManifestError(f"{uri}: more than one column {name}; keep one")
        if field.name.startswith(META) and field.name != META:
            continue
        if field.name in refused:
            raise ManifestError(f"{uri}: column {name} {refused[field.name]}")
        if field.name not in expected:
            raise ManifestError(f"{uri}: {_unknown(name, expected)}")
        if not _fits(field.type, expected[field.name]):
            kind, found = expected[field.name], field.type
            if pa.types.is_dictionary(found):
                found = found.value_type
            raise ManifestError(
                f"{uri}: column {name} is {one_line(found)}, expected {kind}; cast it to"
                f" {_CASTS[kind]}"
            )
    return kept


def check_version(uri: str, schema: pa.Schema) -> None:
    """Raise `ManifestError` for a version of the schema that is not known here."""
    text = (schema.metadata or {}).get(VERSION_KEY, b"1").decode(errors="replace")
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise ManifestError(
            f"{uri}: schema version {text[:20]!r} in the metadata; expected {VERSION}"
        )
    if int(text) > VERSION:
        raise ManifestError(
            f"{uri}: written for version {text} of the schema, known here is {VERSION}; upgrade"
            " insetgan-batch, or write the manifest again"
        )


def _unknown(name: str, expected: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name.lower(), expected, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown column '{name}'{hint}; known are {', '.join(expected)} and {META}*"


def _pandas_index(schema: pa.Schema) -> set[str]:
    """Columns that are a frame's index: of a filtered or shuffled one pandas writes it along."""
    try:
        said = json.loads((schema.metadata or {}).get(_PANDAS, b"{}"))
        named = {name for name in said["index_columns"] if isinstance(name, str)}
    except (ValueError, LookupError, TypeError):
        named = set()
    # Others who copy such a file keep the column and lose what pandas said of it.
    return named | {name for name in schema.names if _PANDAS_INDEX.fullmatch(name)}


def _fits(found: pa.DataType, kind: str) -> bool:
    """Whether values of a type can be of a kind; whether each one is, `rows` says."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_null(found):  # what writers make of a column without any value
        return True
    if kind == "string":  # some write text as bytes
        return any(is_text(found) for is_text in _TEXTS)
    if kind == "list of floats":
        return any(is_list(found) for is_list in _LISTS) and _is_number(found.value_type)
    return _is_number(found)


def _is_number(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    return any(is_number(found) for is_number in _NUMBERS)


_TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
_NUMBERS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_null,
)
