"""What a run may lose: `clean` removes what no commit can name any more, `retry` the quarantine of
items that shall be tried again.

An attempt has lost once another one's commit stands: a commit never changes. Where there is none,
one may still come, from a driver or from a worker that everybody takes for dead; so what it would
name goes only when it is old. Where the commit is damaged, nobody knows what it named: all stays.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from insetgan_batch.data.commits import FOLDERS, RunStore
from insetgan_batch.data.damage import or_damage
from insetgan_batch.data.storage import PROBES, Entry, clock_s
from insetgan_batch.errors import DamagedError, StorageError

OLD_S = 3 * 24 * 3600.0
"""From this age on nobody is taken to be on the way to a commit."""

_REQUESTS = 16  # in flight
_log = logging.getLogger(__name__)
_Attempts = Mapping[str, list[Entry]]  # the files of each attempt of an item


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaned:
    """How many of what were removed. leftovers: what killed processes had half done."""

    attempts: int
    files: int
    checkpoints: int
    leftovers: int


def clean(store: RunStore, older_than_s: float = OLD_S) -> Cleaned:
    """Remove attempts that were beaten, what old and dead processes left, and states of items that
    are done. older_than_s: by the store's own clock.

    Any number of times, also beside a run; a folder of keys in memory at a time.
    """
    before_s = clock_s(store.storage) - older_than_s
    with ThreadPoolExecutor(_REQUESTS) as pool:
        folders = pool.map(lambda folder: _clean_folder(store, folder, before_s), FOLDERS)
        removed = [attempt for attempts in folders for attempt in attempts]
        done = [i for i in store.checkpoints() & store.committed() if _is_sound(store, i)]
        list(pool.map(store.clear_checkpoint, done))
    leftovers = _remove_probes(store, before_s) + _remove_unfinished(store, before_s)
    return Cleaned(len(removed), sum(removed), len(done), leftovers)


def _clean_folder(store: RunStore, folder: str, before_s: float) -> list[int]:
    """Remove what may go of the items in a folder; the files of each attempt that went.

    Files are listed before commits are looked at: what is listed can only have lost since.
    """
    found = _attempts_in(store, folder)
    committed = store.listed_commits(folder) if found else set()
    going = [
        attempts[attempt]
        for item_id, attempts in found.items()
        for attempt in (
            _beaten(store, item_id, attempts)
            if item_id in committed
            else _abandoned(attempts, before_s)
        )
    ]
    for entries in going:
        for entry in entries:
            store.storage.delete(entry.key)
    return [len(entries) for entries in going]


def _attempts_in(store: RunStore, folder: str) -> dict[str, dict[str, list[Entry]]]:
    """Item id → attempt → its files; anything else below `items` is not ours to remove."""
    found: dict[str, dict[str, list[Entry]]] = {}
    for entry in store.storage.scan(f"items/{folder}"):
        parts = entry.key.split("/")
        if len(parts) == 5 and _is_attempt(parts[3]):
            found.setdefault(parts[2], {}).setdefault(parts[3], []).append(entry)
    return found


def _beaten(store: RunStore, item_id: str, attempts: _Attempts) -> list[str]:
    """The attempts beside the one that the item's commit names; none where it is damaged."""
    if len(attempts) == 1:
        return []  # nearly every item: no need to ask
    commit = or_damage(lambda: store.read_commit(item_id))
    if isinstance(commit, DamagedError):
        return []
    return [attempt for attempt in attempts if attempt != commit["attempt"]]


def _abandoned(attempts: _Attempts, before_s: float) -> Iterator[str]:
    """Attempts without a commit whose last file is old."""
    for attempt, entries in attempts.items():
        if max(entry.written_at_s for entry in entries) < before_s:
            yield attempt


def _is_sound(store: RunStore, item_id: str) -> bool:
    return not isinstance(or_damage(lambda: store.read_commit(item_id)), DamagedError)


def _remove_probes(store: RunStore, before_s: float) -> int:
    old = [entry.key for entry in store.storage.scan(PROBES) if entry.written_at_s < before_s]
    for key in old:
        store.storage.delete(key)
    return len(old)


def _remove_unfinished(store: RunStore, before_s: float) -> int:
    try:
        return store.storage.remove_unfinished(before_s)
    except StorageError as err:  # a right of its own in S3, and not every store has the call
        _log.warning("uploads that were never completed stay: %s", err)
        return 0


def _is_attempt(name: str) -> bool:
    """Whether it is a name like `<epoch>-<n>`."""
    epoch, _, number = name.partition("-")
    return epoch.isdecimal() and number.isdecimal()


def retry(store: RunStore, reason: str | None = None) -> int:
    """Let items in quarantine be tried again, all or those of a reason; returns how many.

    An item that has crashed its worker stays a suspect, and is tried alone. One whose record is
    damaged has no reason: it is tried again with all, or by `damage.mend`.
    """
    ids = store.quarantined()
    again = ids if reason is None else set(_of_reason(store, ids, reason))
    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(store.clear_quarantine, again))
    return len(again)


def _of_reason(store: RunStore, item_ids: Iterable[str], reason: str) -> Iterator[str]:
    for item_id, record in store.quarantine_records(sorted(item_ids)):
        if not isinstance(record, DamagedError) and record["reason"] == reason:
            yield item_id
