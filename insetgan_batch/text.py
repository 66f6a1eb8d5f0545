"""Text of others on its way to a terminal or a log."""

from __future__ import annotations

import re

# C0 and C1 controls, what changes the direction of writing, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """The text on one line, with every control character written as an escape.

    What a file or a store says may hold sequences that move a terminal's cursor or set its title.
    """
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], str(text))


def shortened(text: object, most: int) -> str:
    """The same, cut to `most` characters."""
    line = printable(text)
    return line if len(line) <= most else f"{line[: most - 3]}..."
