"""What of a run is damaged: told item by item, and moved out of the way.

An item is damaged when its commit cannot be one of this item, or when a file that the commit names
is missing or has other bytes. It is done again once its commit is voided, by the run's own command.
Waiting does not help, so nobody waits for what is damaged.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from insetgan_batch.data import prefetch
from insetgan_batch.data.commits import Kind, RunStore
from insetgan_batch.data.storage import Storage
from insetgan_batch.data.stored import Commit, DatasetFile, File
from insetgan_batch.errors import DamagedError, NotFoundError, RefusedError, StorageError

_THREADS = 16
_AHEAD = 64  # checks that are not told yet: all that is in memory of a million
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What has been read. differences: a line each; record: what to void if there are any."""

    files: int = 0
    bytes: int = 0
    differences: Sequence[str] = ()
    record: tuple[Kind, str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Mended:
    """What was voided: commits, whose items are to be done again, and records of other kinds."""

    commits: int
    others: int


def or_damage(call: Callable[[], _T]) -> _T | DamagedError:
    """What `call` returns, or what is damaged; an object that should be there and is not is."""
    try:
        return call()
    except DamagedError as err:
        return err
    except NotFoundError as err:
        return DamagedError(str(err))


def check(store: RunStore) -> Iterator[Checked]:
    """Read every record of a run, and hash every file that a commit names, several at a time.

    Raises `NotFoundError` if there is no run, `DamagedError` if its run.json is damaged, and
    `RefusedError` if the store lets nobody read.
    """
    store.read_run()
    yield from in_threads(_checks(store))


def in_threads(calls: Iterator[Callable[[], Checked]]) -> Iterator[Checked]:
    """What the calls find, in their order."""
    yield from prefetch.in_order(calls, _THREADS, _AHEAD)


def mend(store: RunStore, on_checked: Callable[[Checked], None] = lambda found: None) -> Mended:
    """Void whatever is damaged. Reads every file of the run. Raises as `check`."""
    commits = others = 0
    for checked in check(store):
        on_checked(checked)
        if checked.differences and checked.record is not None and store.void(*checked.record):
            commits += checked.record[0] == "commits"
            others += checked.record[0] != "commits"
    return Mended(commits, others)


def read_sound(store: RunStore, item_id: str) -> Commit:
    """The commit of an item whose files are all there, as far as a listing says it.

    Raises `DamagedError`. That a file has other bytes of the same number, only `check` finds.
    """
    try:
        commit = store.read_commit(item_id)
    except NotFoundError as err:
        raise DamagedError(str(err)) from err
    prefix = store.item_prefix(item_id, commit["attempt"])
    sizes = {entry.key: entry.bytes for entry in store.storage.scan(prefix)}
    for file in commit["files"].values():
        found, where = sizes.get(file["key"]), f"{store.storage.uri}/{file['key']}"
        if found is None:
            raise DamagedError(f"{where}: missing; its commit names it")
        if found != file["bytes"]:
            raise DamagedError(f"{where}: damaged: {found} bytes, the commit says {file['bytes']}")
    return commit


def check_file(storage: Storage, key: str, expected: File | DatasetFile) -> Checked:
    """Hash a file. expected: its `sha256` and `bytes`. Raises `RefusedError`."""
    found = _Digest()
    try:
        storage.read_into(key, found)
    except RefusedError:
        raise
    except NotFoundError:
        return Checked(1, 0, [f"{storage.uri}/{key}: missing; expected {expected['bytes']} bytes"])
    except StorageError as err:
        return Checked(1, found.bytes, [str(err)])
    sha256 = found.sha256.hexdigest()
    if (sha256, found.bytes) == (expected["sha256"], expected["bytes"]):
        return Checked(1, found.bytes)
    line = (
        f"{storage.uri}/{key}: sha256 is {sha256} ({found.bytes} bytes), expected"
        f" {expected['sha256']} ({expected['bytes']} bytes)"
    )
    return Checked(1, found.bytes, [line])


def _checks(store: RunStore) -> Iterator[Callable[[], Checked]]:
    for epoch in store.epochs():
        yield functools.partial(_check_record, store.read_epoch, epoch, "epochs")
    for item_id in sorted(store.quarantined()):
        yield functools.partial(_check_record, store.read_quarantined, item_id, "quarantine")
    for item_id in sorted(store.suspected()):
        yield functools.partial(_check_record, store.read_suspect, item_id, "suspects")
    for item_id in sorted(store.strangers()):
        yield functools.partial(_stranger, store, item_id)
    for item_id in sorted(store.committed()):
        yield functools.partial(_check_item, store, item_id)


def _check_record(read: Callable[[_T], object], name: _T, kind: Kind) -> Checked:
    try:
        read(name)
    except DamagedError as err:
        return Checked(differences=[str(err)], record=(kind, str(name)))
    except NotFoundError:
        pass  # it has been cleared since it was listed
    return Checked()


def _stranger(store: RunStore, item_id: str) -> Checked:
    line = (
        f"{store.storage.uri}: the commit of {item_id} is of no row of the manifest; it is passed"
        " over everywhere"
    )
    return Checked(differences=[line], record=("commits", item_id))


def _check_item(store: RunStore, item_id: str) -> Checked:
    own: tuple[Kind, str] = ("commits", item_id)
    commit = or_damage(lambda: store.read_commit(item_id))
    if isinstance(commit, DamagedError):
        return Checked(differences=[str(commit)], record=own)
    found = [check_file(store.storage, file["key"], file) for file in commit["files"].values()]
    return Checked(
        len(found),
        sum(checked.bytes for checked in found),
        [line for checked in found for line in checked.differences],
        own,
    )


class _Digest:
    """A file that keeps nothing."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self.sha256.update(data)
        self.bytes += len(data)
