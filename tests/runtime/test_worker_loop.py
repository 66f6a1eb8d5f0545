"""The loop with a worker of plain code: what is lost, repeated or late does no harm."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest

from insetgan_batch.errors import CheckpointError
from insetgan_batch.methods.insetgan.sources import Source, new_item
from insetgan_batch.records import (
    HeartbeatReply,
    HeartbeatRequest,
    Lease,
    Outcome,
    Status,
    WorkerStats,
)
from insetgan_batch.runtime.worker_loop import Ending, WorkerLoop

if TYPE_CHECKING:
    from insetgan_batch.runtime.worker import Worker

WAIT_S = 250.0  # for what comes at once, unless it never comes


class FakeWorker:
    """Items end after so many rounds of a hundredth of a second; `gate` holds rounds back."""

    def __init__(self, post: Callable[[Ending], None], capacity: int = 2, rounds: int = 2) -> None:
        self._post, self._capacity, self._rounds = post, capacity, rounds
        self._left: dict[str, int] = {}
        self._leases: dict[str, Lease] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.entered: list[list[str]] = []  # by round
        self.occupied: list[int] = []
        self.fails: Exception | None = None
        self.steps = self.ahead = 0
        self.slow: set[str] = set()  # whose files are not there yet
        self.uploading = 0  # places that wait for the store
        self._expected: set[str] = set()

    @property
    def inside(self) -> list[str]:
        return list(self._leases)

    @property
    def in_batch(self) -> int:
        return len(self._leases)

    @property
    def free(self) -> int:
        return max(0, self._capacity - len(self._leases) - self.uploading)

    @property
    def stats(self) -> WorkerStats:
        return WorkerStats(slots=self._capacity, busy=self.in_batch)

    def expect(self, lease: Lease) -> None:
        self._expected.add(lease.attempt)

    def is_ready(self, lease: Lease) -> bool:
        assert lease.attempt in self._expected
        return lease.attempt not in self.slow

    def serve(self, leases: list[Lease]) -> None:
        assert len(leases) <= self.free
        self.entered.append([lease.attempt for lease in leases])
        for lease in leases:
            self._leases[lease.attempt] = lease
            self._left[lease.attempt] = self._rounds
        self.occupied.append(len(self._leases))
        self.gate.wait(WAIT_S)
        time.sleep(0.01)
        if self.fails is not None:
            raise self.fails
        for attempt in self.inside:
            self.steps += 1
            self._left[attempt] -= 1
            if self._left[attempt] == 0:
                self._end(attempt, Status.COMMITTED)

    def hand_back(self) -> None:
        for attempt in self.inside:
            self._end(attempt, Status.RETURNED)

    def _end(self, attempt: str, status: Status) -> None:
        lease = self._leases.pop(attempt)
        self._post(Outcome(lease.item.item_id, attempt, status))


def lease(number: int) -> Lease:
    return Lease(new_item(f"i{number}", Source(), {}), f"1-{number}", "w", 1e9)


def started(capacity: int = 2, rounds: int = 2) -> tuple[WorkerLoop, FakeWorker]:
    loop = WorkerLoop()
    worker = FakeWorker(loop.post, capacity, rounds)
    loop.start(cast("Worker", worker))
    return loop, worker


def request(
    *numbers: int, ack: int = 0, wait_s: float = WAIT_S, drain_s: float | None = None
) -> HeartbeatRequest:
    return HeartbeatRequest([lease(n) for n in numbers], ack, wait_s, drain_s)


def ended(reply: HeartbeatReply) -> list[tuple[str, Status]]:
    return [(event.outcome.item_id, event.outcome.status) for event in reply.events]


def heartbeat_until(loop: WorkerLoop, count: int, first: HeartbeatRequest) -> HeartbeatReply:
    """Ask until so many events are told, without acknowledging any."""
    reply = loop.heartbeat(first)
    ends_s = time.monotonic() + WAIT_S
    while len(reply.events) < count:
        assert time.monotonic() < ends_s, f"{len(reply.events)} of {count} events came"
        reply = loop.heartbeat(request(wait_s=0.01))
    return reply


def test_an_idle_worker_tells_its_free_places_at_once() -> None:
    loop, _ = started(capacity=3)
    reply = loop.heartbeat(request(wait_s=1e6))  # or this would not end for days
    assert (reply.free, reply.events, reply.inside) == (3, [], [])


def test_events_are_told_again_until_they_are_acknowledged() -> None:
    loop, _ = started()
    reply = heartbeat_until(loop, 2, request(1, 2))
    assert sorted(ended(reply)) == [("i1", Status.COMMITTED), ("i2", Status.COMMITTED)]
    assert [event.number for event in reply.events] == [1, 2]
    again = loop.heartbeat(request(wait_s=0))
    assert again.events == reply.events
    assert [e.number for e in loop.heartbeat(request(ack=1, wait_s=0)).events] == [2]
    assert loop.heartbeat(request(ack=2, wait_s=0)).events == []


def test_an_order_that_is_repeated_begins_nothing_twice() -> None:
    loop, worker = started()
    worker.gate.clear()
    first = loop.heartbeat(request(1, wait_s=0.1))
    assert first.inside == ["1-1"]
    loop.heartbeat(request(1, 2, wait_s=0))
    loop.heartbeat(request(1, 2, wait_s=0))
    worker.gate.set()
    reply = heartbeat_until(loop, 2, request(1, 2, wait_s=0))
    assert sorted(ended(reply)) == [("i1", Status.COMMITTED), ("i2", Status.COMMITTED)]
    loop.heartbeat(request(1, 2, wait_s=0.1))  # ended, not acknowledged: still known
    assert sorted(attempt for entered in worker.entered for attempt in entered) == ["1-1", "1-2"]


def test_what_the_batch_has_no_place_for_waits_in_the_box() -> None:
    loop, worker = started(capacity=1)
    reply = heartbeat_until(loop, 3, request(1, 2, 3))
    assert [item_id for item_id, _ in ended(reply)] == ["i1", "i2", "i3"]
    assert all(len(entered) <= 1 for entered in worker.entered)


def test_a_place_that_gets_free_is_filled_at_the_same_boundary() -> None:
    """The worker waits for the driver's answer, so no round goes by with an empty place."""
    loop, worker = started(capacity=2, rounds=3)
    loop.heartbeat(request(1, wait_s=0))
    given, acknowledged = 1, 0
    while given < 12:
        reply = loop.heartbeat(request(ack=acknowledged))
        acknowledged = max([acknowledged, *(event.number for event in reply.events)])
        fresh = range(given + 1, given + 1 + reply.free)
        given += reply.free
        loop.heartbeat(request(*fresh, ack=acknowledged, wait_s=0))
    assert len(worker.occupied) > 10
    assert set(worker.occupied[3:-3]) == {2}


def test_those_inside_do_not_wait_for_the_files_of_others() -> None:
    loop, worker = started(capacity=2, rounds=3)
    worker.slow = {"1-2"}
    reply = heartbeat_until(loop, 1, request(1, 2))
    assert ended(reply) == [("i1", Status.COMMITTED)]
    assert worker.entered[0] == ["1-1"]
    # Alone there is time to wait for them: it enters though it is not ready.
    reply = heartbeat_until(loop, 2, request(1, 2))
    assert {item_id for item_id, _ in ended(reply)} == {"i1", "i2"}


def test_a_worker_that_works_ahead_asks_for_more_than_its_slots() -> None:
    loop, worker = started(capacity=2)
    worker.ahead = 3
    assert loop.heartbeat(request(wait_s=0)).free == 5
    worker.gate.clear()
    assert loop.heartbeat(request(*range(1, 6), wait_s=0)).free == 0
    worker.gate.set()
    reply = heartbeat_until(loop, 5, request(*range(1, 6)))
    assert len(ended(reply)) == 5
    assert all(len(entered) <= 2 for entered in worker.entered)


def test_a_worker_all_of_whose_places_wait_for_the_store_stands_still() -> None:
    """It would serve nothing, again and again, as fast as it can."""
    loop, worker = started(rounds=1)
    worker.uploading = 2
    loop.heartbeat(request(1, wait_s=0))
    loop.heartbeat(request(wait_s=0.2))  # time to serve
    assert worker.entered == []
    worker.uploading = 1
    loop.post(Outcome("i0", "1-0", Status.COMMITTED))  # one is through
    reply = heartbeat_until(loop, 2, request(wait_s=0.1))
    assert ended(reply) == [("i0", Status.COMMITTED), ("i1", Status.COMMITTED)]
    assert worker.entered == [["1-1"]]


def test_an_error_is_raised_by_every_call_once_all_events_are_acknowledged() -> None:
    loop, worker = started(rounds=1)
    heartbeat_until(loop, 1, request(1))
    worker.fails = CheckpointError("broken")
    loop.heartbeat(request(2, wait_s=0))
    for _ in range(20):
        assert [e.number for e in loop.heartbeat(request(wait_s=0)).events] == [1]
        time.sleep(0.01)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="broken"):
            loop.heartbeat(request(ack=1))


def test_a_drained_worker_ends_what_it_can_and_returns_the_rest() -> None:
    loop, worker = started(capacity=1, rounds=2)
    worker.gate.clear()
    loop.heartbeat(request(1, 2, wait_s=0.1))
    reply = heartbeat_until(loop, 2, request(wait_s=0.1, drain_s=0.0))  # no time is left
    assert sorted(ended(reply)) == [("i1", Status.RETURNED), ("i2", Status.RETURNED)]
    worker.gate.set()
    final = loop.heartbeat(request(ack=2))
    assert (final.is_drained, final.free, final.inside) == (True, 0, [])


def test_a_worker_with_time_left_ends_its_items_and_begins_no_others() -> None:
    loop, _ = started(capacity=1, rounds=2)
    loop.heartbeat(request(1, wait_s=0))
    reply = loop.heartbeat(request(1, wait_s=0, drain_s=600))
    assert reply.free == 0
    reply = heartbeat_until(loop, 1, request(wait_s=0.1))
    assert ended(reply) == [("i1", Status.COMMITTED)]
    ends_s = time.monotonic() + WAIT_S
    while not loop.heartbeat(request(ack=1, wait_s=0.05)).is_drained:
        assert time.monotonic() < ends_s


def test_what_has_not_begun_is_returned_and_stays_resumable() -> None:
    loop, worker = started(capacity=1)
    worker.gate.clear()
    waiting = dataclasses.replace(lease(2), is_resumed=True)
    loop.heartbeat(HeartbeatRequest([lease(1), waiting], 0, 0.1, None))
    reply = heartbeat_until(loop, 2, request(wait_s=0.1, drain_s=0.0))
    outcomes = {event.outcome.item_id: event.outcome for event in reply.events}
    assert not outcomes["i1"].is_saved
    assert outcomes["i2"].is_saved
    assert outcomes["i2"].reason == "preempted"
    worker.gate.set()


def test_closing_returns_what_is_inside() -> None:
    loop, worker = started()
    worker.gate.clear()
    loop.heartbeat(request(1, wait_s=0.1))
    loop.close(WAIT_S)
    worker.gate.set()
    assert ended(loop.heartbeat(request(wait_s=0))) == [("i1", Status.RETURNED)]
    WorkerLoop().close(WAIT_S)  # one that never started
