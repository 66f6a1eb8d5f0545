"""Values of others, checked by pydantic; every mistake is a line: where, what was found, what was
expected.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

import pydantic
import pydantic_core

STRICT = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


def explain(err: pydantic.ValidationError, known: Collection[str] = ()) -> list[str]:
    """Each of its mistakes; known: names that an unknown key may have been meant to be."""
    return [_line(error, known) for error in err.errors(include_url=False)]


def field_names(kind: Any) -> set[str]:
    """Of a dataclass, and of those that its fields hold."""
    schema = pydantic.TypeAdapter(kind).json_schema()
    kinds = [schema, *schema.get("$defs", {}).values()]
    return {name for one in kinds for name in one.get("properties", {})}


def _line(error: pydantic_core.ErrorDetails, known: Iterable[str]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        close = difflib.get_close_matches(where.rsplit(".", 1)[-1].lower(), known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        return f"`{where}` is not a known key{hint}"
    if error["type"] == "missing":
        return f"`{where}` is missing"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    return f"`{where}` is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
