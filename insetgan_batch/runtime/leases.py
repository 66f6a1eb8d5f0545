"""The ledger of leases: who works on what, and what becomes of an item when its try ends.

A pure state machine: events in, decisions out. It knows neither Ray nor storage and has no clock
(`now_s` is passed in), so property tests can drive it through any history. It holds nothing that
cannot be lost: the commits are the truth, and the next driver's ledger starts from them.

An item waits, is leased, or has ended (done or quarantined). A suspect is an item that was inside a
worker when that crashed or was killed; it is granted only alone. It is a poison item, and is
quarantined, when workers crash with it alone in them; by killed workers only when it was alone in
the last ones of the whole ledger, one after the other: where workers with other items are killed
too, it is the machine. Each kill costs an infra retry, so that this ends, too. A stale attempt may
still be inside a worker though its lease has ended (it expired, or another attempt was faster). It
counts as a co-resident: with one beside it, no suspect is blamed for a crash.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from insetgan_batch.records import Item, Lease, Outcome, Status
from insetgan_batch.runtime.failures import (
    CRASHED_ITS_WORKER,
    LEASE_EXPIRED,
    RETRIES_EXHAUSTED,
    WORKER_CRASHED,
    WORKER_KILLED,
    WORKER_LOST,
    Caps,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What an event means for one item.

    kind: "requeue": it waits for another try; "ignore": nothing changed. reason: a code of
    failures.REASONS, or what the outcome said. attempts: leases granted so far, 0 for an item that
    had ended before. suspect_crashes: crashes so far, earlier drivers' included, to be stored.
    """

    kind: Literal["done", "requeue", "quarantine", "ignore"]
    item_id: str
    reason: str = ""
    attempts: int = 0
    suspect_crashes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How many items are where; suspects are those waiting or leased that are only tried alone."""

    waiting: int
    leased: int
    done: int
    quarantined: int
    suspects: int


@dataclasses.dataclass(slots=True)
class _Work:
    """An item that is not finished, and what it has cost."""

    item: Item
    attempts: int = 0
    infra_retries: int = 0
    crashes_alone: int = 0
    is_saved: bool = False


class Ledger:
    """Hands out items as leases, and decides what each event means for them."""

    def __init__(
        self,
        epoch: int,
        caps: Caps,
        crashes: Mapping[str, int] = {},
        saved: Collection[str] = (),
    ) -> None:
        """epoch: of this driver. crashes: item id to crashes that earlier drivers saw; saved: ids
        of items whose state is in storage.
        """
        self._epoch = epoch
        self._saved = saved
        self._caps = caps
        self._attempt_numbers = itertools.count(1)
        self._open: dict[str, _Work] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._waiting_suspects: OrderedDict[str, None] = OrderedDict()
        self._leases: OrderedDict[str, Lease] = OrderedDict()  # those that expire first in front
        self._done: set[str] = set()
        self._quarantined: set[str] = set()
        # Kept after an item has ended: a stale attempt of it may still crash a worker.
        self._crashes = dict(crashes)
        # By worker: attempt to item id, for all that may be inside it; a live lease always is.
        self._inside: dict[str, dict[str, str]] = {}
        self._holders: dict[str, str] = {}  # attempt to worker, of all that are inside
        self._leased_suspects = 0
        # The suspect that was alone in the worker that was killed last, and how often in a row.
        self._killed_alone = "", 0
        # Run empty and then kept for the waiting suspects; one at a time, so that the others go on.
        self._kept_worker: str | None = None

    # Events

    def add(self, items: Iterable[Item]) -> None:
        """New work at the end of the queue. ValueError at a known id; the ones before it stay."""
        for item in items:
            item_id = item.item_id
            if item_id in self._open or item_id in self._done or item_id in self._quarantined:
                raise ValueError(f"item {item_id!r} is already in the ledger: add each item once")
            self._open[item_id] = _Work(item, is_saved=item_id in self._saved)
            self._place(item_id, at_front=False)

    def grant(self, worker_id: str, free_slots: int, now_s: float) -> list[Lease]:
        """At most `free_slots` new leases; none to a worker with a suspect, or run empty for one.

        An idle worker is given a waiting suspect first. When only busy workers ask, one of them is
        kept for the suspects, so a worker that will not ask again must be given to `lose_worker`.
        """
        chosen = self._choose(worker_id, free_slots)
        return [self._lease(item_id, worker_id, now_s) for item_id in chosen]

    def renew(self, worker_id: str, attempts: Iterable[str], now_s: float) -> None:
        """Prolong the leases among `attempts`: all that the worker names as alive, in one call.

        A lease that is not named just runs on, for its attempt may be on the way to the worker. A
        stale attempt that is not named has gone. One that is named gets its lease and its retry
        back if its item still waits, but a suspect only when nothing else is inside.
        """
        named = set(attempts)
        inside = self._inside.get(worker_id, {})
        for attempt, item_id in list(inside.items()):
            lease = self._live_lease(attempt, item_id)
            if attempt in named and lease is not None:
                if now_s + self._caps.lease_s > lease.expires_at_s:
                    expires_at_s = now_s + self._caps.lease_s
                    self._leases[item_id] = dataclasses.replace(lease, expires_at_s=expires_at_s)
                    self._leases.move_to_end(item_id)
            elif attempt in named and self._is_waiting(item_id):
                if len(inside) == 1 or not self._is_suspect(item_id):
                    self._revive(item_id, attempt, worker_id, now_s)
            elif lease is None and attempt not in named:
                self._leave(attempt, item_id)

    def finish(self, outcome: Outcome) -> Decision:
        """An attempt ended. Late, repeated and unknown outcomes are harmless.

        A commit counts whoever reports it, even after a quarantine: the object is there. A
        quarantine counts unless the item is leased to another attempt, a failure only if it ends a
        live lease. An item that is returned waits again, in front, and it has cost nothing.
        """
        item_id, attempt = outcome.item_id, outcome.attempt
        self._leave(attempt, item_id)
        lease = self._leases.get(item_id)
        if outcome.status in (Status.COMMITTED, Status.DUPLICATE):
            if item_id in self._open or item_id in self._quarantined:
                return self._end("done", item_id, outcome.reason)
        elif item_id in self._open and (lease is None or lease.attempt == attempt):
            if outcome.status is Status.QUARANTINED:
                return self._end("quarantine", item_id, outcome.reason)
            if outcome.status is Status.RETURNED:
                self._open[item_id].is_saved |= outcome.is_saved
                if lease is not None:
                    return self._requeue(item_id, outcome.reason, at_front=True)
            elif lease is not None:
                return self._retry(item_id, outcome.reason, at_front=False)
        return self._decide("ignore", item_id, outcome.reason)

    def lose_worker(self, worker_id: str, crashed: bool, *, killed: bool = False) -> list[Decision]:
        """The worker is gone; its leases return to the front of the queue, in their order.

        crashed: the items inside become suspects, and a suspect that was alone is a poison item;
        killed too: only when it has happened to it alone, again and again. Else (preempted,
        drained) the loss is free of charge. An item that is leased to another worker by now is
        judged there, not here.
        """
        inside = self._inside.pop(worker_id, {})
        for attempt in inside:
            del self._holders[attempt]
        if self._kept_worker == worker_id:
            self._kept_worker = None
        if killed:
            self._count_kill(list(inside.values()))
        decisions = []
        for attempt, item_id in reversed(inside.items()):
            is_live = self._live_lease(attempt, item_id) is not None
            if crashed and (is_live or self._is_waiting(item_id)):
                was_alone = len(inside) == 1 and self._is_suspect(item_id)
                decisions.append(self._blame(item_id, was_alone=was_alone, killed=killed))
            elif is_live:
                decisions.append(self._requeue(item_id, WORKER_LOST, at_front=True))
        return decisions

    def expire(self, now_s: float) -> list[Decision]:
        """Leases whose time is up return to the front of the queue, for an infra retry each."""
        # Those that were given or renewed last are at the end, and expire last.
        late = list(
            itertools.takewhile(lambda lease: lease.expires_at_s <= now_s, self._leases.values())
        )
        late_ids = [lease.item.item_id for lease in reversed(late)]
        return [self._retry(item_id, LEASE_EXPIRED, at_front=True) for item_id in late_ids]

    # Questions

    @property
    def counts(self) -> Counts:
        """How many items are where."""
        return Counts(
            waiting=len(self._waiting) + len(self._waiting_suspects),
            leased=len(self._leases),
            done=len(self._done),
            quarantined=len(self._quarantined),
            suspects=len(self._waiting_suspects) + self._leased_suspects,
        )

    @property
    def is_finished(self) -> bool:
        """Whether nothing waits and nothing is leased."""
        return not self._open

    def leases_of(self, worker_id: str) -> list[Lease]:
        """The live leases of a worker, oldest first."""
        inside = self._inside.get(worker_id, {})
        leases = (self._live_lease(attempt, item_id) for attempt, item_id in inside.items())
        return [lease for lease in leases if lease is not None]

    def attempts_inside(self, worker_id: str) -> list[str]:
        """Attempts that may occupy a slot of the worker: of its live leases, and stale ones."""
        return list(self._inside.get(worker_id, {}))

    # Granting

    def _choose(self, worker_id: str, free_slots: int) -> list[str]:
        inside = set(self._inside.get(worker_id, {}).values())
        if free_slots < 1 or any(map(self._is_suspect, inside)):
            return []
        if self._turns_to_suspects(worker_id):
            return [] if inside else [next(iter(self._waiting_suspects))]
        # An item with a stale attempt inside would be there twice.
        fresh = (item_id for item_id in self._waiting if item_id not in inside)
        return list(itertools.islice(fresh, free_slots))

    def _turns_to_suspects(self, worker_id: str) -> bool:
        """Whether a suspect comes next here. If no worker is kept for suspects yet, this one is."""
        if not self._waiting_suspects:
            return False
        if self._kept_worker is None:
            self._kept_worker = worker_id
        return self._kept_worker == worker_id or not self._inside.get(worker_id)

    def _lease(self, item_id: str, worker_id: str, now_s: float) -> Lease:
        self._open[item_id].attempts += 1
        attempt = f"{self._epoch}-{next(self._attempt_numbers)}"
        self._inside.setdefault(worker_id, {})[attempt] = item_id
        self._holders[attempt] = worker_id
        return self._hold(item_id, attempt, worker_id, now_s)

    def _revive(self, item_id: str, attempt: str, worker_id: str, now_s: float) -> None:
        """Undo an expiry: the worker was only slow to answer."""
        self._open[item_id].infra_retries -= 1
        self._hold(item_id, attempt, worker_id, now_s)

    def _hold(self, item_id: str, attempt: str, worker_id: str, now_s: float) -> Lease:
        self._withdraw(item_id)
        work = self._open[item_id]
        expires_at_s = now_s + self._caps.lease_s
        is_first = self._epoch == 1 and work.attempts == 1
        lease = Lease(work.item, attempt, worker_id, expires_at_s, work.is_saved, is_first)
        self._leases[item_id] = lease
        self._leased_suspects += self._is_suspect(item_id)
        return lease

    # Ends of a try

    def _count_kill(self, inside: list[str]) -> None:
        alone = inside[0] if len(inside) == 1 and self._is_suspect(inside[0]) else ""
        last, kills = self._killed_alone
        self._killed_alone = alone, kills + 1 if alone == last else 1

    def _blame(self, item_id: str, *, was_alone: bool, killed: bool) -> Decision:
        """was_alone: as a suspect. A first crash may be the machine's, also of an item that was
        alone by chance.
        """
        work = self._open[item_id]
        self._withdraw(item_id)  # before it becomes a suspect, or the suspects are miscounted
        self._crashes[item_id] = self._crashes.get(item_id, 0) + 1
        if killed and was_alone:
            if self._killed_alone[1] >= self._caps.max_kills_alone:
                return self._end("quarantine", item_id, CRASHED_ITS_WORKER)
            return self._retry(item_id, WORKER_KILLED, at_front=True)
        work.crashes_alone += was_alone
        if work.crashes_alone >= self._caps.max_crashes_alone:
            return self._end("quarantine", item_id, CRASHED_ITS_WORKER)
        reason = WORKER_KILLED if killed else WORKER_CRASHED
        return self._requeue(item_id, reason, at_front=True)

    def _retry(self, item_id: str, reason: str, *, at_front: bool) -> Decision:
        work = self._open[item_id]
        work.infra_retries += 1
        if work.infra_retries > self._caps.max_infra_retries:
            return self._end("quarantine", item_id, RETRIES_EXHAUSTED)
        return self._requeue(item_id, reason, at_front=at_front)

    def _requeue(self, item_id: str, reason: str, *, at_front: bool) -> Decision:
        self._withdraw(item_id)
        self._place(item_id, at_front=at_front)
        return self._decide("requeue", item_id, reason)

    def _end(self, kind: Literal["done", "quarantine"], item_id: str, reason: str) -> Decision:
        decision = self._decide(kind, item_id, reason)
        self._withdraw(item_id)
        self._open.pop(item_id, None)
        self._quarantined.discard(item_id)
        (self._done if kind == "done" else self._quarantined).add(item_id)
        return decision

    def _decide(
        self, kind: Literal["done", "requeue", "quarantine", "ignore"], item_id: str, reason: str
    ) -> Decision:
        attempts = self._open[item_id].attempts if item_id in self._open else 0
        return Decision(kind, item_id, reason, attempts, self._crashes.get(item_id, 0))

    # Where things are

    def _is_suspect(self, item_id: str) -> bool:
        return self._crashes.get(item_id, 0) >= self._caps.max_crashes

    def _is_waiting(self, item_id: str) -> bool:
        return item_id in self._open and item_id not in self._leases

    def _live_lease(self, attempt: str, item_id: str) -> Lease | None:
        lease = self._leases.get(item_id)
        return lease if lease is not None and lease.attempt == attempt else None

    def _place(self, item_id: str, *, at_front: bool) -> None:
        queue = self._waiting_suspects if self._is_suspect(item_id) else self._waiting
        queue[item_id] = None
        if at_front:
            queue.move_to_end(item_id, last=False)

    def _withdraw(self, item_id: str) -> None:
        """Take an item out of where it waits or is leased; its attempt may stay inside a worker."""
        self._waiting.pop(item_id, None)
        self._waiting_suspects.pop(item_id, None)
        if self._leases.pop(item_id, None) is not None:
            self._leased_suspects -= self._is_suspect(item_id)

    def _leave(self, attempt: str, item_id: str) -> None:
        """The attempt is no longer inside a worker, if it was, and was of that item."""
        inside = self._inside.get(self._holders.get(attempt, ""), {})
        if inside.get(attempt) == item_id:
            del inside[attempt], self._holders[attempt]
