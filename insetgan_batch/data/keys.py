"""What all kinds of store share: which names a key may have, and what a file must be able to do."""

from __future__ import annotations

import dataclasses
import re
from typing import Protocol

from insetgan_batch.errors import RefusedError

ITEM_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}", re.ASCII)
"""What an item id (and an attempt) looks like: safe in a key and as a file name."""

TEMPORARY = ".insetgan-tmp-"
"""Never part of a key: the names of what a machine that died half-way leaves behind."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An object of a listing. written_at_s: by the store's clock, seconds since 1970."""

    key: str
    bytes: int
    written_at_s: float


class Writable(Protocol):
    """What `Storage.read_into` needs of a file."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


def checked(key: str) -> str:
    """The key; `RefusedError` for one that could leave the root of its store."""
    for part in key.split("/"):
        if part in ("", ".", "..") or "\0" in part or part.startswith(TEMPORARY):
            raise RefusedError(
                f"{key!r} is not a key: expected parts joined by '/', none empty, '.' or '..'"
            )
    return key


def checked_prefix(prefix: str) -> str:
    """What the keys below a prefix begin with: "" for all, else with a slash at its end."""
    return checked(prefix.removesuffix("/")) + "/" if prefix else ""
