"""What a run may lose: `clean` removes what no commit names, `retry` the quarantine of items that
shall be tried again.

A losing attempt is one of an item that another attempt has committed, or of an item without a
commit whose driver has been replaced. The newest driver's attempts stay: they may be on their way
to a commit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from insetgan_batch.data.commits import FOLDERS, RunStore

_REQUESTS = 16  # in flight


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaned:
    """How many of what were removed."""

    attempts: int
    files: int
    checkpoints: int


def clean(store: RunStore) -> Cleaned:
    """Remove losing attempts and the saved states of items that are done.

    Any number of times, also beside a run; a folder of keys in memory at a time.
    """
    committed, latest = store.committed(), store.latest_epoch()
    used = store.checkpoints() & committed
    with ThreadPoolExecutor(_REQUESTS) as pool:
        losers = [
            found
            for folders in pool.map(lambda f: _losers(store, f, committed, latest), FOLDERS)
            for found in folders
        ]
        keys = [key for _, key in losers]
        list(pool.map(store.storage.delete, keys))
        list(pool.map(store.clear_checkpoint, used))
    return Cleaned(len({attempt for attempt, _ in losers}), len(keys), len(used))


def _losers(
    store: RunStore, folder: str, committed: set[str], latest: int
) -> list[tuple[tuple[str, str], str]]:
    """((item id, attempt), key) of every file in a folder that no commit names."""
    found: dict[str, dict[str, list[str]]] = {}
    for item_id, attempt, key in _files(store, folder):
        found.setdefault(item_id, {}).setdefault(attempt, []).append(key)
    return [
        ((item_id, attempt), key)
        for item_id, attempts in found.items()
        for attempt in _losing(store, item_id, attempts.keys(), item_id in committed, latest)
        for key in attempts[attempt]
    ]


def _files(store: RunStore, folder: str) -> Iterator[tuple[str, str, str]]:
    """(item id, attempt, key); anything else below `items` is not ours to remove."""
    for key in store.storage.list(f"items/{folder}"):
        parts = key.split("/")
        if len(parts) == 5 and _epoch(parts[3]) is not None:
            yield parts[2], parts[3], key


def _losing(
    store: RunStore, item_id: str, attempts: Iterable[str], is_done: bool, latest: int
) -> list[str]:
    if is_done:
        winner = store.read_commit(item_id).get("attempt")
        return [attempt for attempt in attempts if attempt != winner]
    return [attempt for attempt in attempts if (_epoch(attempt) or latest) < latest]


def _epoch(attempt: str) -> int | None:
    """The epoch in an attempt's name `<epoch>-<n>`."""
    epoch, _, number = attempt.partition("-")
    return int(epoch) if epoch.isdecimal() and number.isdecimal() else None


def retry(store: RunStore, reason: str | None = None) -> int:
    """Let items in quarantine be tried again, all or those of a reason; returns how many.

    An item that has crashed its worker stays a suspect, and is tried alone.
    """
    again = [
        item_id
        for item_id, record in store.quarantined().items()
        if reason is None or record.get("reason") == reason
    ]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(store.clear_quarantine, again))
    return len(again)
