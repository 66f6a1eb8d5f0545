"""What of a run is done, failed, damaged and left: from storage alone, on any machine."""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from collections.abc import Iterator

from insetgan_batch.data import damage, prefetch
from insetgan_batch.data.commits import RunStore, draw
from insetgan_batch.errors import DamagedError

MOST_READ = 20_000
"""Of a larger run so many commits are looked at, always the same; `verify` reads all."""

_READERS = 16
_AHEAD = 512
_POLLS_FOR_A_RATE = 13
_POLL_EVERY_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """Counts of the manifest's items. committed: without those that are damaged; damaged: by item
    id a line that says why, as far as records are read; left: items that have not ended.
    """

    run_id: str
    items: int
    committed: int
    quarantined: int
    damaged: dict[str, str]
    left: int


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How fast items end. seconds_left: None while none does."""

    items_per_minute: float
    seconds_left: int | None


class Watcher:
    """Looks at a run again and again; what has been read once is not read again."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._read: dict[str, str | None] = {}  # what is wrong with a commit, if anything
        self._seen = collections.deque[tuple[float, int]](maxlen=_POLLS_FOR_A_RATE)

    def poll(self) -> Status:
        """Where the run stands. Raises `NotFoundError` if there is none, and `StorageError`."""
        store = self._store
        run = store.read_run()
        items = int(run["configuration"]["manifest"]["items"])
        done = store.committed()
        failed = store.quarantined() - done
        damaged = self._damaged_commits(done) | self._damaged_records(failed)
        status = Status(
            run_id=run["run_id"],
            items=items,
            committed=len(done - damaged.keys()),
            quarantined=len(failed - damaged.keys()),
            damaged=damaged,
            # A run that did not write down its ids may hold commits of no row.
            left=max(0, items - len(done) - len(failed)),
        )
        self._seen.append((time.monotonic(), status.left))
        return status

    def watch(self) -> Iterator[Status]:
        """Where the run stands, every few seconds until nothing is left."""
        while True:
            status = self.poll()
            yield status
            if not status.left:
                return
            time.sleep(_POLL_EVERY_S)

    @property
    def pace(self) -> Pace:
        """From what was left at the last looks: the rate, and when it will be over."""
        (then_s, left_then), (now_s, left) = self._seen[0], self._seen[-1]
        ended = left_then - left
        if ended <= 0:
            return Pace(0.0, None)
        per_s = ended / (now_s - then_s)
        return Pace(round(60 * per_s, 1), round(left / per_s))

    def _damaged_commits(self, done: set[str]) -> dict[str, str]:
        fresh = sorted(set(draw(done, MOST_READ)) - self._read.keys())
        calls = (functools.partial(_wrong, self._store, item_id) for item_id in fresh)
        self._read |= dict(zip(fresh, prefetch.in_order(calls, _READERS, _AHEAD), strict=True))
        return {i: why for i, why in self._read.items() if why is not None and i in done}

    def _damaged_records(self, failed: set[str]) -> dict[str, str]:
        records = self._store.quarantine_records(draw(failed, MOST_READ))
        return {i: str(record) for i, record in records if isinstance(record, DamagedError)}


def _wrong(store: RunStore, item_id: str) -> str | None:
    try:
        damage.read_sound(store, item_id)
    except DamagedError as err:
        return str(err)
    return None
