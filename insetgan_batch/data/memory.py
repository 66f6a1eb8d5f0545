"""A store in the memory of this process, for tests: two stores of one name share what they hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

from insetgan_batch.data.keys import Entry, Writable, checked, checked_prefix
from insetgan_batch.errors import NotFoundError

_OBJECTS: dict[str, dict[str, tuple[bytes, float]]] = {}  # and when each was written
_LOCK = threading.Lock()


class MemoryStorage:
    """A dictionary. Its methods do what `Storage` says."""

    def __init__(self, name: str, prefix: str = "") -> None:
        self.uri = f"memory://{name}/{prefix}".rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._objects = _OBJECTS.setdefault(name, {})

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        try:
            return self._objects[self._prefix + checked(key)][0]
        except KeyError as err:
            raise NotFoundError(f"{self.uri}/{key}: there is no such object") from err

    def read_into(self, key: str, file: Writable) -> None:
        """See `Storage.read_into`."""
        file.write(self.get(key))

    def put(self, key: str, data: bytes) -> None:
        """See `Storage.put`."""
        with _LOCK:
            self._objects[self._prefix + checked(key)] = data, time.time()

    def put_from(self, key: str, file: BinaryIO) -> None:
        """See `Storage.put_from`."""
        self.put(key, file.read())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
        name = self._prefix + checked(key)
        with _LOCK:
            if name in self._objects:
                return False
            self._objects[name] = data, time.time()
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`."""
        return (entry.key for entry in self.scan(prefix))

    def scan(self, prefix: str) -> Iterator[Entry]:
        """See `Storage.scan`."""
        below = self._prefix + checked_prefix(prefix)
        with _LOCK:
            found = sorted(
                (name, len(data), written_at_s)
                for name, (data, written_at_s) in self._objects.items()
                if name.startswith(below)
            )
        for name, size, written_at_s in found:
            yield Entry(name.removeprefix(self._prefix), size, written_at_s)

    def remove_unfinished(self, before_s: float) -> int:
        """See `Storage.remove_unfinished`; nothing is ever half written here."""
        return 0

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return self._prefix + checked(key) in self._objects

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with _LOCK:
            self._objects.pop(self._prefix + checked(key), None)
