"""One row of a manifest: the checks that make it an item, and an item as a row again."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any

from insetgan_batch.data.columns import META
from insetgan_batch.data.keys import ITEM_ID
from insetgan_batch.data.seeds import MAX_SEED
from insetgan_batch.data.uris import beside, local_path
from insetgan_batch.errors import ManifestError, StorageError
from insetgan_batch.method import URIS, Column, Schema
from insetgan_batch.records import Item
from insetgan_batch.text import one_line, printable, quoted

_SHOWN = 100
_MOST_URI = 4_096  # characters; no file system and no store takes more
_MOST_CARRIED = 128 * 1024  # bytes of JSON: what a row carries is held for thousands at a time
# Line breaks and the like: a path may hold them, but no message and no log survives it.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row as Parquet holds it: column → value, or the error that reading the value raised.

    base: the directory or prefix that relative paths are understood in; None leaves them.
    """

    where: str
    values: Mapping[str, Any]
    base: str | None = None

    def item(self, schema: Schema) -> Item:
        """The item of the row. schema: the method's. Raises `ManifestError`."""
        for column, value in self.values.items():
            if isinstance(value, Exception):
                raise self.fails(column, f"cannot be read: {one_line(value, _SHOWN)}") from value
        item = Item(
            item_id="",
            inputs=self._inputs(schema),
            seed=self._seed("seed") or 0,
            overrides=self._overrides(),
            meta=self._meta(),
        )
        # The id is of what the row says, so that a manifest may move with its pictures.
        item_id = self._item_id(item, schema)
        return dataclasses.replace(item, item_id=item_id, inputs=self._placed(item.inputs, schema))

    @property
    def own_id(self) -> str | None:
        """The id that the row gives itself, if it is one."""
        try:
            item_id = self._text("item_id")
        except ManifestError:
            return None
        return item_id if item_id is not None and ITEM_ID.fullmatch(item_id) else None

    def fails(self, column: str, text: str) -> ManifestError:
        """The error of a value: file, row and column before it."""
        return ManifestError(f"{self.where}, column {one_line(printable(column), _SHOWN)}: {text}")

    def _inputs(self, schema: Schema) -> dict[str, Any]:
        """What the row gives for the method's columns."""
        inputs: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        for name, column in schema.columns.items():
            if column.refused or self.values.get(name) is None:
                continue
            if column.one_of:
                first = chosen.setdefault(column.one_of, name)
                if first != name:
                    raise self.fails(name, f"{first} is given too; leave all but one of them null")
            inputs[name] = self._value(name, column)
        return inputs

    def _value(self, name: str, column: Column) -> Any:
        match column.kind:
            case "seed":
                return self._seed(name)
            case "picture" | "file":
                return self._uri(name)
            case "fraction":
                return self._fraction(name, column.noun or "fraction")
            case "box":
                return self._box(name)

    def _placed(self, inputs: dict[str, Any], schema: Schema) -> dict[str, Any]:
        """With absolute URIs."""
        if self.base is None:
            return inputs
        return {
            name: beside(self.base, value) if schema.columns[name].kind in URIS else value
            for name, value in inputs.items()
        }

    def _text(self, column: str) -> str | None:
        """Text, which some programs write as bytes."""
        value = self.values.get(column)
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError as err:
                raise self.fails(column, f"{quoted(value)} is no text: expected UTF-8") from err
        if value is None or isinstance(value, str):
            return value
        raise self.fails(column, f"{quoted(value)} is no text; expected a string")

    def _seed(self, column: str) -> int | None:
        value = self.values.get(column)
        if value is None:
            return None
        # pandas makes floats of a column with a null, SQL decimals of a sum.
        whole = _whole(value)
        if whole is not None and 0 <= whole <= MAX_SEED:
            return whole
        expected = f"0 to {MAX_SEED}"
        if whole is None:
            expected = f"a whole number from {expected}: cast the column to BIGINT"
        raise self.fails(column, f"{_shown(value)} is no seed; expected {expected}")

    def _fraction(self, column: str, noun: str) -> float:
        value = self.values[column]
        if not (_is_number(value) and 0 <= value <= 1):  # NaN fails this too
            raise self.fails(column, f"{_shown(value)} is no {noun}; expected 0 to 1, or null")
        return float(value)

    def _box(self, column: str) -> list[float]:
        value = self.values[column]
        if len(value) == 4 and all(_is_number(v) and math.isfinite(v) for v in value):
            x0, y0, x1, y1 = (float(v) for v in value)
            if x0 < x1 and y0 < y1:
                return [x0, y0, x1, y1]
        raise self.fails(
            column, f"{quoted(list(value))} is no box; expected [x0, y0, x1, y1] in pixels"
        )

    def _uri(self, column: str) -> str:
        value = self._text(column)
        is_text = value is not None and not _CONTROL.search(value)
        if value is None or not is_text or not 0 < len(value) <= _MOST_URI:
            raise self.fails(
                column, f"{quoted(value)} is no URI; name a file, or leave the column null"
            )
        try:
            is_local = local_path(value) is not None
        except (StorageError, RuntimeError) as err:  # ~nobody/x.png: there is no such home
            raise self.fails(column, f"{quoted(value)}: {one_line(err)}") from err
        if not is_local and not re.fullmatch(r"[a-z0-9]+://[^/]+/(.*/)?[^/]+", value):
            raise self.fails(column, f"{quoted(value)} names no object; expected s3://bucket/key")
        return value

    def _overrides(self) -> dict[str, Any]:
        text = self._text("overrides")
        if text is None:
            return {}
        if len(text) > _MOST_CARRIED:
            raise self.fails(
                "overrides", f"{len(text)} characters of JSON, expected at most {_MOST_CARRIED}"
            )
        try:
            overrides = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
            json.dumps(overrides, ensure_ascii=False).encode()  # halves of surrogates: no text
        except (ValueError, RecursionError) as err:
            raise self.fails("overrides", f"not JSON: {one_line(err, _SHOWN)}") from err
        if not isinstance(overrides, dict):
            raise self.fails("overrides", f"expected a JSON object, found {text[:40]!r}")
        return overrides

    def _meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = {}
        size = 0
        for column, value in self.values.items():
            if column.startswith(META) and value is not None:
                try:
                    meta[column.removeprefix(META)] = _plain(value)
                except TypeError as err:
                    raise self.fails(column, f"{err}; expected what JSON can hold") from err
                size += len(json.dumps(meta[column.removeprefix(META)]))
                if size > _MOST_CARRIED:
                    raise self.fails(
                        column,
                        f"with it the meta of this row is {size} bytes of JSON, expected at most"
                        f" {_MOST_CARRIED}; keep it in a file, and carry the file's name",
                    )
        return meta

    def _item_id(self, item: Item, schema: Schema) -> str:
        item_id = self._text("item_id")
        if item_id is None:
            return _identity(schema.identity(item))
        if not ITEM_ID.fullmatch(item_id):
            raise self.fails("item_id", f"{quoted(item_id)} is no id; expected {ITEM_ID.pattern}")
        return item_id


def values_of(item: Item) -> dict[str, Any]:
    """An item as a row: column → value."""
    values: dict[str, Any] = {"item_id": item.item_id, **item.inputs, "seed": item.seed}
    if item.overrides:
        values["overrides"] = json.dumps(item.overrides, sort_keys=True)
    meta = {f"{META}{name}": value for name, value in item.meta.items() if value is not None}
    return values | meta


def _shown(number: object) -> str:
    """A number as people write it, or anything else as Python does."""
    return one_line(number, _SHOWN) if _is_number(number) else quoted(number)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)


def _whole(value: Any) -> int | None:
    """The integer that a number is, exactly; None if it is none."""
    if type(value) is int:
        return value
    if not _is_number(value) or not math.isfinite(value):
        return None
    whole = int(value)
    return whole if whole == value else None


def _identity(decides: Mapping[str, Any]) -> str:
    """The id of a row without one: of all that decides its result, so not of `meta`."""
    canonical = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def _plain(value: Any) -> Any:
    """The same in JSON's words: times as ISO 8601 text, bytes in base64.

    TypeError for what has no such form.
    """
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
        case decimal.Decimal() | uuid.UUID():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
    if hasattr(value, "tolist"):  # numpy's, of a tensor column
        return _plain(value.tolist())
    raise TypeError(f"found {type(value).__name__}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number
