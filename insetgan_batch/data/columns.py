"""The schema of a manifest: its version, which columns there are, and which type each has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from insetgan_batch.errors import ManifestError

META = "meta_"
VERSION = 1
VERSION_KEY = b"insetgan_batch.manifest"
TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float": pa.float64(),
    "list of floats": pa.list_(pa.float64()),
}


def known(insets: Sequence[str]) -> dict[str, str]:
    """Column → kind of value (a key of `TYPES`), without those of `meta_`."""
    columns = {"item_id": "string"}
    for generator in ("canvas", *insets):
        columns[f"{generator}_seed"] = "int64"
        columns[f"{generator}_image"] = columns[f"{generator}_latent"] = "string"
        columns[f"{generator}_psi"], columns[f"{generator}_box"] = "float", "list of floats"
    if len(insets) > 1:  # it would not say whose box it is
        del columns["canvas_box"]
    return columns | {"seed": "int64", "overrides": "string"}


def check(uri: str, schema: pa.Schema, insets: Sequence[str]) -> None:
    """Raise `ManifestError` for a column that is unknown, of another type, or there twice."""
    expected = known(insets)
    for field in schema:
        name = _plain(field.name)
        if schema.names.count(field.name) > 1:
            raise ManifestError(f"{uri}: more than one column {name}; keep one")
        if field.name.startswith(META) and field.name != META:
            continue
        if field.name == "canvas_box" and field.name not in expected:
            raise ManifestError(
                f"{uri}: column canvas_box does not say which of the insets {', '.join(insets)} it"
                " is for; leave it out, and let `detector` find each of them"
            )
        if field.name not in expected:
            raise ManifestError(f"{uri}: {_unknown(name, expected)}")
        if not _fits(field.type, expected[field.name]):
            found = _plain(str(field.type))
            raise ManifestError(f"{uri}: column {name} is {found}, expected {expected[field.name]}")


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


def _plain(text: str) -> str:
    """On one line, and cut: files of others may say anything."""
    return repr(text)[1:-1][:100]


def _unknown(name: str, expected: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name.lower(), expected, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown column '{name}'{hint}; known are {', '.join(expected)} and {META}*"


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
