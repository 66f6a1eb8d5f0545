"""A worker's thread and its mail: leases come in, numbered events go out.

`heartbeat` is all that a driver calls. Any call may be lost, repeated or late, and nothing is lost
with it: a request names all leases that the worker should have, and an event is told again until it
is acknowledged. The call waits for news, so a driver hears of an ending at once and asks seldom.

A machine that will be taken away is drained: nothing new is begun, what does not end in time is
saved as it was at the last boundary of a round, and goes back.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from insetgan_batch.records import (
    Event,
    HeartbeatReply,
    HeartbeatRequest,
    Lease,
    Outcome,
    Status,
)
from insetgan_batch.runtime.failures import PREEMPTED

if TYPE_CHECKING:
    from insetgan_batch.runtime.worker import Worker

Ending = Outcome | BaseException
"""What a worker tells: how an attempt ended, or what is wrong with the whole worker."""

# So long before a machine goes its items are saved: their uploads take a moment.
_HAND_BACK_S = 8.0
# When slots got free, the next round waits so long for what shall fill them.
_REFILL_S = 0.5


class WorkerLoop:
    """Thread-safe; one thread of its own does the work."""

    def __init__(self) -> None:
        """Without a worker yet: `start` gives it one, made with this loop's `post`."""
        self._news = threading.Condition()
        self._worker: Worker | None = None
        self._inbox: deque[Lease] = deque()
        self._events: list[Event] = []
        self._told = 0  # events so far
        self._known: set[str] = set()  # attempts, until their ending is acknowledged
        self._error: BaseException | None = None
        self._drain_at_s: float | None = None
        self._is_drained = False
        self._orders = 0
        # The slots that the last reply has told, and how many requests there had been by then.
        self._told_free = self._told_at = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self, worker: Worker) -> None:
        """Begin to work."""
        self._worker = worker
        for target in (self._work, self._watch):
            self._threads.append(threading.Thread(target=target, daemon=True))
            self._threads[-1].start()

    def post(self, ending: Ending) -> None:
        """Keep an ending for the driver; an error is for all calls from now on."""
        with self._news:
            if isinstance(ending, Outcome):
                self._told += 1
                self._events.append(Event(self._told, ending))
            else:
                self._error = ending
            self._news.notify_all()

    def heartbeat(self, request: HeartbeatRequest) -> HeartbeatReply:
        """Take a request; the reply comes with the first news. Raises what stopped the worker."""
        with self._news:
            self._acknowledge(request.acknowledged)
            self._take(request)
            self._orders += 1
            self._news.notify_all()
            self._news.wait_for(self._has_news, timeout=request.wait_s)
            if self._error is not None and not self._events:
                raise self._error
            return self._reply()

    def close(self, within_s: float) -> None:
        """Hand back what is inside, finish the uploads, and end; later calls find nothing."""
        if self._worker is None:
            return
        with self._news:
            self._drain_at_s = time.monotonic()
            self._news.notify_all()
            self._news.wait_for(lambda: self._is_drained or self._error is not None, within_s)
            self._closed = True
            self._news.notify_all()

    # ---- mail ----------------------------------------------------------------------------------

    def _acknowledge(self, number: int) -> None:
        arrived = [event for event in self._events if event.number <= number]
        self._known -= {event.outcome.attempt for event in arrived}
        self._events = [event for event in self._events if event.number > number]

    def _take(self, request: HeartbeatRequest) -> None:
        for lease in request.leases:
            if lease.attempt not in self._known:
                self._known.add(lease.attempt)
                self._inbox.append(lease)
                self._told_free -= 1
                if self._worker is not None and not self._stops:
                    self._worker.expect(lease)
        if request.drain_within_s is not None:
            self._drain_at_s = time.monotonic() + request.drain_within_s - _HAND_BACK_S

    def _has_news(self) -> bool:
        is_over = self._error is not None or self._is_drained
        return bool(self._events) or is_over or self._free > self._told_free

    @property
    def _free(self) -> int:
        if self._worker is None or self._stops or self._drain_at_s is not None:
            return 0
        return max(0, self._worker.free + self._worker.ahead - len(self._inbox))

    def _reply(self) -> HeartbeatReply:
        assert self._worker is not None
        self._told_free, self._told_at = self._free, self._orders
        return HeartbeatReply(
            events=list(self._events),
            inside=[*(lease.attempt for lease in self._inbox), *self._worker.inside],
            free=self._told_free,
            steps=self._worker.steps,
            is_drained=self._is_drained,
            stats=self._worker.stats,
        )

    # ---- the thread that works -----------------------------------------------------------------

    def _work(self) -> None:
        """Rounds, for as long as there is something to do."""
        worker = self._worker
        assert worker is not None
        try:
            while (leases := self._next_leases(worker)) is not None:
                worker.serve(leases)
        except BaseException as err:  # noqa: BLE001 - whatever it is, the driver has to hear of it
            self.post(err)

    def _next_leases(self, worker: Worker) -> list[Lease] | None:
        """What enters with the next round; None when there is no next one."""
        with self._news:
            if worker.in_batch and self._free:
                self._news.notify_all()
                self._news.wait_for(self._is_refilled, _REFILL_S)
            # Whatever is inside, or could be: while all places wait for the store, none could.
            self._news.wait_for(
                lambda: (self._inbox and worker.free) or worker.in_batch or self._stops
            )
            if self._stops:
                return None
            # Nobody inside waits for files of others; where nobody is inside, there is time.
            ready = [lease for lease in self._inbox if worker.is_ready(lease)]
            leases = (ready or ([] if worker.in_batch else list(self._inbox)))[: worker.free]
            for lease in leases:
                self._inbox.remove(lease)
        return leases

    def _is_refilled(self) -> bool:
        """Whether the driver has been told of all free slots, and has answered."""
        is_answered = self._free <= self._told_free and self._orders > self._told_at
        return not self._free or is_answered or self._stops

    @property
    def _stops(self) -> bool:
        return self._closed or self._is_drained or self._error is not None

    # ---- the thread that watches the time ------------------------------------------------------

    def _watch(self) -> None:
        """When the machine is about to go, hand back what is still inside."""
        worker = self._worker
        assert worker is not None
        with self._news:
            while not self._is_time_to_leave(worker):
                left_s = None if self._drain_at_s is None else self._drain_at_s - time.monotonic()
                self._news.wait(None if left_s is None else min(left_s, 1.0))
            if self._error is not None:
                return  # an item may be to blame, so none is given back
            not_begun = list(self._inbox)
            self._inbox.clear()
        for lease in not_begun:
            self.post(_returned(lease))
        worker.hand_back()
        with self._news:
            self._is_drained = True
            self._news.notify_all()

    def _is_time_to_leave(self, worker: Worker) -> bool:
        if self._stops:
            return True
        if self._drain_at_s is None:
            return False
        is_empty = not self._inbox and not worker.inside
        return is_empty or time.monotonic() >= self._drain_at_s


def _returned(lease: Lease) -> Outcome:
    """Of a lease that has not begun, since the machine is taken away."""
    return Outcome(
        item_id=lease.item.item_id,
        attempt=lease.attempt,
        status=Status.RETURNED,
        reason=PREEMPTED,
        is_saved=lease.is_resumed,
    )
