"""What a validator says of a wrong value, as one line: where, what was found, what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pydantic_core


def explain(error: pydantic_core.ErrorDetails, known: Iterable[str] = ()) -> str:
    """One of pydantic's errors; known: names that an unknown key may have been meant to be."""
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
