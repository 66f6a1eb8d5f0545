"""The mailbox with a worker of plain code: what is lost, repeated or late does no harm."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest

from insetgan_batch.errors import CheckpointError
from insetgan_batch.records import Figures, Item, Lease, Order, Outcome, Report, Source, Status
from insetgan_batch.runtime.mailbox import Ending, Mailbox

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
        self.steps = 0

    @property
    def inside(self) -> list[str]:
        return list(self._leases)

    @property
    def in_batch(self) -> int:
        return len(self._leases)

    @property
    def free(self) -> int:
        return self._capacity - len(self._leases)

    @property
    def figures(self) -> Figures:
        return Figures(slots=self._capacity, busy=self.in_batch)

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
    return Lease(Item(f"i{number}", Source(), {}), f"1-{number}", "w", 1e9)


def started(capacity: int = 2, rounds: int = 2) -> tuple[Mailbox, FakeWorker]:
    mailbox = Mailbox()
    worker = FakeWorker(mailbox.post, capacity, rounds)
    mailbox.start(worker)
    return mailbox, worker


def order(
    *numbers: int, ack: int = 0, wait_s: float = WAIT_S, drain_s: float | None = None
) -> Order:
    return Order([lease(n) for n in numbers], ack, wait_s, drain_s)


def ended(report: Report) -> list[tuple[str, Status]]:
    return [(event.outcome.item_id, event.outcome.status) for event in report.events]


def exchange_until(mailbox: Mailbox, count: int, first: Order) -> Report:
    """Ask until so many events are told, without acknowledging any."""
    report = mailbox.exchange(first)
    ends_s = time.monotonic() + WAIT_S
    while len(report.events) < count:
        assert time.monotonic() < ends_s, f"{len(report.events)} of {count} events came"
        report = mailbox.exchange(order(wait_s=0.01))
    return report


def test_an_idle_worker_tells_its_free_places_at_once() -> None:
    mailbox, _ = started(capacity=3)
    report = mailbox.exchange(order(wait_s=1e6))  # or this would not end for days
    assert (report.free, report.events, report.inside) == (3, [], [])


def test_events_are_told_again_until_they_are_acknowledged() -> None:
    mailbox, _ = started()
    report = exchange_until(mailbox, 2, order(1, 2))
    assert sorted(ended(report)) == [("i1", Status.COMMITTED), ("i2", Status.COMMITTED)]
    assert [event.number for event in report.events] == [1, 2]
    again = mailbox.exchange(order(wait_s=0))
    assert again.events == report.events
    assert [e.number for e in mailbox.exchange(order(ack=1, wait_s=0)).events] == [2]
    assert mailbox.exchange(order(ack=2, wait_s=0)).events == []


def test_an_order_that_is_repeated_begins_nothing_twice() -> None:
    mailbox, worker = started()
    worker.gate.clear()
    first = mailbox.exchange(order(1, wait_s=0.1))
    assert first.inside == ["1-1"]
    mailbox.exchange(order(1, 2, wait_s=0))
    mailbox.exchange(order(1, 2, wait_s=0))
    worker.gate.set()
    report = exchange_until(mailbox, 2, order(1, 2, wait_s=0))
    assert sorted(ended(report)) == [("i1", Status.COMMITTED), ("i2", Status.COMMITTED)]
    mailbox.exchange(order(1, 2, wait_s=0.1))  # ended, not acknowledged: still known
    assert sorted(attempt for entered in worker.entered for attempt in entered) == ["1-1", "1-2"]


def test_what_the_batch_has_no_place_for_waits_in_the_box() -> None:
    mailbox, worker = started(capacity=1)
    report = exchange_until(mailbox, 3, order(1, 2, 3))
    assert [item_id for item_id, _ in ended(report)] == ["i1", "i2", "i3"]
    assert all(len(entered) <= 1 for entered in worker.entered)


def test_a_place_that_gets_free_is_filled_at_the_same_boundary() -> None:
    """The worker waits for the driver's answer, so no round goes by with an empty place."""
    mailbox, worker = started(capacity=2, rounds=3)
    mailbox.exchange(order(1, wait_s=0))
    given, acknowledged = 1, 0
    while given < 12:
        report = mailbox.exchange(order(ack=acknowledged))
        acknowledged = max([acknowledged, *(event.number for event in report.events)])
        fresh = range(given + 1, given + 1 + report.free)
        given += report.free
        mailbox.exchange(order(*fresh, ack=acknowledged, wait_s=0))
    assert len(worker.occupied) > 10
    assert set(worker.occupied[3:-3]) == {2}


def test_an_error_is_raised_by_every_call_once_all_events_are_acknowledged() -> None:
    mailbox, worker = started(rounds=1)
    exchange_until(mailbox, 1, order(1))
    worker.fails = CheckpointError("broken")
    mailbox.exchange(order(2, wait_s=0))
    for _ in range(20):
        assert [e.number for e in mailbox.exchange(order(wait_s=0)).events] == [1]
        time.sleep(0.01)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="broken"):
            mailbox.exchange(order(ack=1))


def test_a_drained_worker_ends_what_it_can_and_returns_the_rest() -> None:
    mailbox, worker = started(capacity=1, rounds=2)
    worker.gate.clear()
    mailbox.exchange(order(1, 2, wait_s=0.1))
    report = exchange_until(mailbox, 2, order(wait_s=0.1, drain_s=0.0))  # no time is left
    assert sorted(ended(report)) == [("i1", Status.RETURNED), ("i2", Status.RETURNED)]
    worker.gate.set()
    final = mailbox.exchange(order(ack=2))
    assert (final.is_drained, final.free, final.inside) == (True, 0, [])


def test_a_worker_with_time_left_ends_its_items_and_begins_no_others() -> None:
    mailbox, _ = started(capacity=1, rounds=2)
    mailbox.exchange(order(1, wait_s=0))
    report = mailbox.exchange(order(1, wait_s=0, drain_s=600))
    assert report.free == 0
    report = exchange_until(mailbox, 1, order(wait_s=0.1))
    assert ended(report) == [("i1", Status.COMMITTED)]
    ends_s = time.monotonic() + WAIT_S
    while not mailbox.exchange(order(ack=1, wait_s=0.05)).is_drained:
        assert time.monotonic() < ends_s


def test_what_has_not_begun_is_returned_and_stays_resumable() -> None:
    mailbox, worker = started(capacity=1)
    worker.gate.clear()
    waiting = dataclasses.replace(lease(2), is_resumed=True)
    mailbox.exchange(Order([lease(1), waiting], 0, 0.1, None))
    report = exchange_until(mailbox, 2, order(wait_s=0.1, drain_s=0.0))
    outcomes = {event.outcome.item_id: event.outcome for event in report.events}
    assert not outcomes["i1"].is_saved
    assert outcomes["i2"].is_saved
    assert outcomes["i2"].reason == "preempted"
    worker.gate.set()


def test_closing_returns_what_is_inside() -> None:
    mailbox, worker = started()
    worker.gate.clear()
    mailbox.exchange(order(1, wait_s=0.1))
    mailbox.close(WAIT_S)
    worker.gate.set()
    assert ended(mailbox.exchange(order(wait_s=0))) == [("i1", Status.RETURNED)]
    Mailbox().close(WAIT_S)  # one that never started
