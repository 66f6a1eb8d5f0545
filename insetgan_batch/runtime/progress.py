"""How far a run is, and when it will end: counts and rates for people."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

from insetgan_batch.records import Outcome, Status


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker, for people. slots: 0 while it loads; inside: attempts that have not ended."""

    worker_id: str
    slots: int
    inside: int
    ended: int
    steps_per_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    seconds_left: None before the first steps; give_or_take_s: two standard deviations of it, as far
    as the steps of items differ, and None before the second item is done; last: what ended since
    the last one; lines: the workers, at most a second old.
    """

    items: int
    committed: int
    quarantined: int
    inside: int
    workers_ready: int
    workers: int
    steps: int
    items_per_minute: float
    seconds_left: float | None
    give_or_take_s: float | None
    last: list[Outcome]
    lines: list[WorkerLine] = dataclasses.field(default_factory=list)

    @property
    def left(self) -> int:
        """Items that have not ended."""
        return self.items - self.committed - self.quarantined


class ProgressTracker:
    """Counts of one driver's turn."""

    def __init__(
        self,
        items: int,
        committed: int,
        quarantined: int,
        steps_at_most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """items: of the turn; committed, quarantined: of these, before it began. steps_at_most: of
        one item.
        """
        self.items, self.committed, self.quarantined = items, committed, quarantined
        self._steps_at_most = steps_at_most
        self._steps_of = dict[str, int]()  # by worker, since it loaded
        self._done = self._steps_of_done = self._squares_of_done = 0
        self._clock = clock
        self._started_at: float | None = None

    @property
    def left(self) -> int:
        """Items that have not ended."""
        return self.items - self.committed - self.quarantined

    def start_clock(self) -> None:
        """The first worker is ready: from here on time is spent on items."""
        if self._started_at is None:
            self._started_at = self._clock()

    def see_steps(self, worker_id: str, steps: int) -> None:
        """Steps of items that a worker has done since it loaded."""
        self._steps_of[worker_id] = steps

    def count_commit(self, outcome: Outcome | None) -> None:
        """An item is done; outcome: of this turn's worker."""
        self.committed += 1
        # A duplicate was done elsewhere: it says nothing of our pace.
        if outcome and outcome.status is Status.COMMITTED:
            self._done += 1
            self._steps_of_done += outcome.steps
            self._squares_of_done += outcome.steps**2

    def progress(
        self,
        *,
        workers: int,
        ready: int,
        inside: int,
        last: list[Outcome],
        lines: list[WorkerLine] | None = None,
    ) -> Progress:
        """Where the run stands."""
        elapsed_s = 0.0 if self._started_at is None else self._clock() - self._started_at
        steps = sum(self._steps_of.values())
        return Progress(
            items=self.items,
            committed=self.committed,
            quarantined=self.quarantined,
            inside=inside,
            workers_ready=ready,
            workers=workers,
            steps=steps,
            items_per_minute=60 * self._done / elapsed_s if elapsed_s else 0.0,
            seconds_left=self._seconds_left(elapsed_s, steps, inside),
            give_or_take_s=self._give_or_take_s(elapsed_s, steps),
            last=last,
            lines=lines or [],
        )

    def _seconds_left(self, elapsed_s: float, steps: int, inside: int) -> float | None:
        """From steps rather than items: the first items end late, the first steps come soon.

        Those that end first are the quick ones, so items inside count as slow until they end.
        """
        if not steps or not elapsed_s:
            return None
        known = self._done + inside
        mean = (self._steps_of_done + inside * self._steps_at_most) / known if known else 0.0
        to_do = mean * self.left - (steps - self._steps_of_done)
        return max(0.0, to_do) * elapsed_s / steps

    def _give_or_take_s(self, elapsed_s: float, steps: int) -> float | None:
        """Each item that is left differs from the mean, and the mean itself is of few items.

        With the variance v of the steps of n items that are done, the sum over m others has the
        variance m v + m^2 v / n around m times the mean.
        """
        n, m = self._done, self.left
        if n < 2 or not steps:
            return None
        mean = self._steps_of_done / n
        variance = max(0.0, self._squares_of_done - n * mean**2) / (n - 1)
        return 2 * math.sqrt(variance * (m + m**2 / n)) * elapsed_s / steps
