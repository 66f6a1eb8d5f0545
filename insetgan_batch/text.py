"""Text of others on its way to a message, a terminal or a log."""

from __future__ import annotations

import re

# C0 and C1 controls, what changes the direction of writing, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """The text on one line, with every control character written as an escape.

    What a file or a store says may hold sequences that move a terminal's cursor or set its title.
    """
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], str(text))


def one_line(said: object, most: int = 300) -> str:
    """What a library, a store or a file says: its words on one printable line, cut to `most`
    characters.
    """
    return _cut(printable(" ".join(str(said).split())), most)


def quoted(value: object, most: int = 100) -> str:
    """A value as Python writes it, cut to `most` characters: a cell may hold a book."""
    return repr(_cut(value, most)) if isinstance(value, str) else _cut(repr(value), most)


def last_part(uri: str) -> str:
    """What a URI ends with: the name of a file; all of a text without a slash."""
    return uri.rstrip("/").rpartition("/")[2]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
