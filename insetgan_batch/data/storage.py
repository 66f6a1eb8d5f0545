"""Where bytes live: one small protocol over a local directory, S3 and memory.

Keys are relative to the root of a store, their parts joined by `/`. The truth of a run rests on
`put_if_absent`: of all writers of one key, in threads, processes and machines, at most one is told
True. False may also mean that an earlier try of the same call got through and only its answer was
lost, so data should name its writer. `conditional_writes_work` tries it out: not every store
that speaks S3 honours `If-None-Match`.

The stores are in `local`, `memory` and `s3`; what a program needs of them goes by this module.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from insetgan_batch.data import uris
from insetgan_batch.data.keys import Entry, Writable, checked
from insetgan_batch.data.local import LocalStorage, disk_error, scratch_file
from insetgan_batch.data.memory import MemoryStorage
from insetgan_batch.data.s3 import S3Storage, configure
from insetgan_batch.data.uris import local_path
from insetgan_batch.errors import DamagedError, NotFoundError, RefusedError, StorageError

__all__ = [
    "PATIENCE_S",
    "PROBES",
    "Entry",
    "LocalStorage",
    "MemoryStorage",
    "S3Storage",
    "SingleWriter",
    "Storage",
    "Writable",
    "clock_s",
    "conditional_writes_work",
    "configure",
    "disk_error",
    "local_path",
    "locate",
    "open_output",
    "open_storage",
    "patiently",
    "read_uri",
    "roots_of",
    "scratch_file",
    "within",
]

PATIENCE_S = 300.0
"""How long an outage of the store may last before what needs it is given up."""

PROBES = "probe"
"""Where objects lie that are written to try a store out, and removed again."""

_T = TypeVar("_T")
_RACERS = 8
_RACES = 10
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


class Storage(Protocol):
    """Named bytes. Every method raises `StorageError` when the store cannot do what is asked."""

    uri: str

    def get(self, key: str) -> bytes:
        """The whole object; `NotFoundError` if there is none."""

    def read_into(self, key: str, file: Writable) -> None:
        """Write the object to `file`, from its first byte to its last, a part in memory at a time.

        `NotFoundError` if there is none. When it fails half-way, `file` holds half of it; an
        `OSError` of `file` comes through as it is.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write or replace the object; a reader sees all of the old one or all of the new one."""

    def put_from(self, key: str, file: BinaryIO) -> None:
        """The same with what is left of `file`, some parts in memory at a time."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write the object unless there is one; True if this call created it."""

    def list(self, prefix: str) -> Iterator[str]:
        """Every key below `prefix` ("" for all; "a/b" means a/b/...), sorted, from the root."""

    def scan(self, prefix: str) -> Iterator[Entry]:
        """The same as `list`, each key with when it was written, by the store's own clock."""

    def remove_unfinished(self, before_s: float) -> int:
        """Remove what writers that died half-way have left behind, if it was begun before that.

        before_s: by the store's clock, seconds since 1970. Returns how many there were.
        """

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    def delete(self, key: str) -> None:
        """Remove the object; no error if there is none."""


def open_storage(uri: str) -> Storage:
    """The store at a path, `file:///absolute/directory`, `s3://bucket/prefix` or `memory://name`.

    Nothing is created or asked yet. Raises `StorageError` for any other scheme.
    """
    scheme, rest = uris.parse(uri)
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        return S3Storage(bucket, prefix.strip("/"))
    if scheme == "memory":
        name, _, prefix = rest.partition("/")
        return MemoryStorage(name, prefix.strip("/"))
    return LocalStorage(Path(rest))


def locate(uri: str) -> tuple[Storage, str]:
    """The store that holds one object, and its key there, for the URI of the object itself."""
    if path := local_path(uri):
        return LocalStorage(path.parent), checked(path.name)
    scheme, rest = uris.parse(uri)
    parent, _, name = rest.rpartition("/")
    if not parent or not name:
        raise StorageError(f"{scheme}://{rest} names no object: expected {scheme}://name/key")
    checked(rest.partition("/")[2])  # all of it: `a//b` is another object than `a/b`
    return open_storage(f"{scheme}://{parent}"), name


def read_uri(uri: str) -> bytes:
    """The bytes of the object at `uri`; `NotFoundError` if there is none."""
    storage, key = locate(uri)
    return storage.get(key)


class SingleWriter:
    """A store that knows no conditions, written by one driver: `put_if_absent` looks, then writes.

    What two writers do at the same moment is not noticed.
    """

    def __init__(self, storage: Storage) -> None:
        self.uri, self.exists, self.put = storage.uri, storage.exists, storage.put
        self.get, self.read_into = storage.get, storage.read_into
        self.put_from, self.delete = storage.put_from, storage.delete
        self.list, self.scan = storage.list, storage.scan
        self.remove_unfinished = storage.remove_unfinished

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
        if self.exists(key):
            return False
        self.put(key, data)
        return True


def open_output(uri: str, *, single_writer: bool) -> Storage:
    """The store that a run writes to; single_writer: as the configuration says."""
    storage = open_storage(uri)
    return SingleWriter(storage) if single_writer else storage


def roots_of(listed: Sequence[str], manifest: str) -> tuple[str, ...]:
    """The roots that the rows of a manifest may read from, understood in any directory.

    Those that are listed; where none is, what lies beside or below the manifest.
    """
    return tuple(uris.absolute(root) for root in listed) or (uris.parent(manifest),)


def within(uri: str, roots: Sequence[str]) -> str:
    """Where a URI that somebody else wrote leads, if that is within the roots: read that one.

    All symbolic links and every `..` are followed first. Raises `RefusedError` for what leads out,
    or nowhere.
    """
    real = uris.resolved(uri)
    if not any(uris.lies_within(real, uris.resolved(root)) for root in roots):
        raise RefusedError(
            f"{uri} is outside of what this run may read, {', '.join(roots)}: add its directory"
            " to input_roots, or move the file"
        )
    return real


def patiently(
    call: Callable[[], _T], patience_s: float, is_over: Callable[[], bool] = lambda: False
) -> _T:
    """What `call` returns, asked again through an outage: a `StorageError` counts as one.

    The pauses double up to 10 s and are drawn at random, so that a thousand actors do not come
    back at once. `NotFoundError`, `DamagedError` and `RefusedError` come through at once, any other
    `StorageError` once `patience_s` seconds are over or `is_over()`, which is asked about once a
    second.
    """
    ends_s = time.monotonic() + patience_s
    longest_s = _FIRST_PAUSE_S
    while True:
        try:
            return call()
        except (NotFoundError, DamagedError, RefusedError):
            raise
        except StorageError:
            now_s = time.monotonic()
            if now_s >= ends_s:
                raise
            resumes_s = min(now_s + longest_s * random.uniform(0.5, 1.0), ends_s)
            longest_s = min(2 * longest_s, _LONGEST_PAUSE_S)
            while (left_s := resumes_s - time.monotonic()) > 0:
                if is_over():
                    raise
                time.sleep(min(left_s, 1.0))


def clock_s(storage: Storage) -> float:
    """The time by the store's own clock, seconds since 1970: that of an object written now."""
    key = f"{PROBES}/{uuid.uuid4().hex}"
    storage.put(key, b"what time is it?")
    try:
        return max(found.written_at_s for found in storage.scan(PROBES) if found.key == key)
    finally:
        storage.delete(key)


def conditional_writes_work(storage: Storage) -> bool:
    """Race 8 threads for each of 10 fresh keys: True if each has one winner and its bytes.

    A race without a winner is run again: a flaky store did what it was asked, and failed to say so.
    Its keys are removed again. Raises `NoConditionalWritesError` for a store that says itself that
    it cannot, and `StorageError` for one that cannot be written at all.
    """
    keys: list[str] = []
    races = 0
    try:
        with ThreadPoolExecutor(_RACERS) as pool:
            while races < _RACES:
                keys.append(f"{PROBES}/{uuid.uuid4().hex}")
                winners = _winners(storage, keys[-1], pool)
                if winners is None or winners > 1:
                    return False
                if not winners and len(keys) > 2 * _RACES:
                    raise StorageError(f"{storage.uri}: nobody wins a race to write; try again")
                races += winners
            return True
    finally:
        # A key left behind does no harm, and what was found must not be lost to it.
        with contextlib.suppress(StorageError):
            for key in keys:
                storage.delete(key)


def _winners(storage: Storage, key: str, pool: ThreadPoolExecutor) -> int | None:
    """How many racers are told that they have written; None if the object is not the winner's."""
    start = threading.Barrier(_RACERS)

    def race(data: bytes) -> bool:
        start.wait()
        return storage.put_if_absent(key, data)

    entries = [f"{key} {n}".encode() for n in range(_RACERS)]
    won = list(pool.map(race, entries))
    stored, count = storage.get(key), won.count(True)
    is_right = stored in entries if not count else stored == entries[won.index(True)]
    return count if is_right or count > 1 else None
