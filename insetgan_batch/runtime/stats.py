"""What a worker does with its time, its slots and the store: the totals that travel with reports.

Every moment of a worker is in one phase: LOAD until its generators are there, WAIT while it has
nothing to do, ENTER while items are admitted, a generator's name while that one moves, LEAVE for
the rest of a round. A moment is counted when its phase ends, so totals never go back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import TypeVar

from insetgan_batch.errors import StorageError
from insetgan_batch.recipe import Recipe
from insetgan_batch.records import WorkerStats

_T = TypeVar("_T")

LOAD, WAIT, ENTER, LEAVE = "load", "wait", "enter", "leave"


def phases(recipe: Recipe) -> list[str]:
    """Every name that a worker's time is counted under."""
    return [LOAD, WAIT, ENTER, LEAVE, *recipe.players]


class StatsRecorder:
    """Thread-safe: uploads end in other threads than rounds, and reports are made in a third.

    slots: how many are known only when the generators are there; the worker sets it then.
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots, self._clock = slots, clock
        self._lock = threading.Lock()
        self._since_s = clock()
        self._seconds: dict[str, float] = defaultdict(float)
        self._busy = 0
        self._busy_slot_s = self._idle_slot_s = 0.0
        self._upload_bytes, self._upload_s = 0, 0.0
        self._errors: Counter[str] = Counter()
        self._rests = False

    def spent(self, phase: str, busy: int) -> None:
        """The time since the last call went into this phase, with so many items in the batch."""
        with self._lock:
            self._spend(phase, busy)
            self._busy = busy

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Outside of it the worker waits."""
        with self._lock:
            if self._rests:
                self._spend(WAIT, 0)
            self._rests = False
        try:
            yield
        finally:
            with self._lock:
                self._rests = True

    def uploaded(self, size_bytes: int, seconds: float) -> None:
        """The files and the commit of an item are in storage."""
        with self._lock:
            self._upload_bytes += size_bytes
            self._upload_s += seconds

    def watched(self, call: Callable[[], _T]) -> _T:
        """What `call` returns; counts what the store cannot do."""
        try:
            return call()
        except StorageError as err:
            with self._lock:
                self._errors[err.kind] += 1
            raise

    def stats(
        self, in_batch: int, *, gpu_memory_peak_bytes: int | None, gpu_utilisation: float | None
    ) -> WorkerStats:
        """Totals as of now; in_batch: items inside."""
        with self._lock:
            if self._rests:
                self._spend(WAIT, 0)
            return WorkerStats(
                slots=self.slots,
                busy=0 if self._rests and not in_batch else self._busy,
                seconds=dict(self._seconds),
                busy_slot_s=self._busy_slot_s,
                idle_slot_s=self._idle_slot_s,
                upload_bytes=self._upload_bytes,
                upload_s=self._upload_s,
                storage_errors=dict(self._errors),
                gpu_memory_peak_bytes=gpu_memory_peak_bytes,
                gpu_utilisation=gpu_utilisation,
            )

    def _spend(self, phase: str, busy: int) -> None:
        now_s = self._clock()
        seconds, self._since_s = now_s - self._since_s, now_s
        self._seconds[phase] += seconds
        if phase != LOAD:
            self._busy_slot_s += busy * seconds
            self._idle_slot_s += (self.slots - busy) * seconds
