"""Numbers, dates and reasons in the words that people use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

_REASONS = {
    "bad_input": "its input cannot be used",
    "too_long": "took longer than an item may",
    "item_error": "a library failed at it",
    "crashed_its_worker": "it crashed its worker",
    "retries_exhausted": "failed too often",
    "out_of_memory": "out of memory",
}


def number(value: float | None) -> str:
    """Three digits that count; a dash for what is missing."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def change(before: float | None, after: float | None) -> str:
    """By how much a number fell or rose; nothing where that cannot be said."""
    if not before or after is None:
        return ""
    return f"{'fell' if after < before else 'rose'} by {abs(after / before - 1):.0%}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that people would use."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def moment(stamp: str) -> str:
    """A time of ISO 8601 to the minute, for people; any other text as it is."""
    try:
        return f"{datetime.fromisoformat(stamp):%d %B %Y, %H:%M %Z}".strip()
    except ValueError:
        return stamp


def reason(code: str, reasons: Mapping[str, str]) -> str:
    """Why an item failed. reasons: the method's."""
    return reasons.get(code) or _REASONS.get(code) or code.replace("_", " ")
