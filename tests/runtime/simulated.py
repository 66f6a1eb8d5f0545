"""Workers of plain code: no processes, no pictures, time stands still. For the driver's loop."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping

from insetgan_batch.data.commits import RunStore
from insetgan_batch.errors import InsetGanError
from insetgan_batch.records import Event, HeartbeatReply, Lease, Outcome, Status
from tests import records


@dataclasses.dataclass(slots=True)
class _Simulated:
    slots: int
    held: dict[str, Lease] = dataclasses.field(default_factory=dict)
    ended: int = 0
    steps: int = 0
    is_leaving: bool = False
    request: list[Lease] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    worker_id: str
    result: HeartbeatReply | Exception | None


def commit(store: RunStore) -> Callable[[Lease], Outcome]:
    """What a good worker makes of an item."""

    def end(lease: Lease) -> Outcome:
        item_id = lease.item.item_id
        won = store.commit(item_id, records.commit(item_id, lease.attempt))
        status = Status.COMMITTED if won else Status.DUPLICATE
        return Outcome(lease.item.item_id, lease.attempt, status, steps=10)

    return end


class SimulatedPool:
    """Each request is answered once: everything that the worker holds has ended.

    end: what becomes of an item; an exception that it raises is the worker's.
    """

    def __init__(self, workers: int, slots: int, end: Callable[[Lease], Outcome]) -> None:
        self._slots, self._end = slots, end
        self._numbers = itertools.count()
        self._workers: dict[str, _Simulated] = {}
        self.orders = 0
        self.replaced: list[tuple[bool, bool]] = []
        self.loaded: list[str] = []
        for _ in range(workers):
            self._start()

    @property
    def idle(self) -> list[str]:
        return [i for i, w in self._workers.items() if w.request is None and i not in self.loaded]

    @property
    def ready(self) -> int:
        return len(self._workers)

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def is_given_up(self) -> bool:
        return False

    def is_leaving(self, worker_id: str) -> bool:
        return self._workers[worker_id].is_leaving

    def drain(self, leaving: Mapping[str, float]) -> None:
        for worker_id in leaving:
            self._workers[worker_id].is_leaving = True

    def send(self, worker_id: str, leases: list[Lease]) -> None:
        self.orders += 1
        worker = self._workers[worker_id]
        worker.request = leases
        assert len(leases) <= worker.slots
        worker.held |= {lease.attempt: lease for lease in leases}

    def silent(self, limit_s: float) -> list[str]:
        return []

    def wait(self, timeout_s: float) -> list[SimulatedAnswer]:
        loaded = [SimulatedAnswer(worker_id, None) for worker_id in self.loaded]
        self.loaded.clear()
        ordered = [i for i, worker in self._workers.items() if worker.request is not None]
        return loaded + [SimulatedAnswer(i, self._answer(self._workers[i])) for i in ordered]

    def replace(
        self, worker_id: str, *, crashed: bool, out_of_memory: bool, max_crashes: int
    ) -> None:
        del self._workers[worker_id]
        self.replaced.append((crashed, out_of_memory))
        self._start()

    def _start(self) -> None:
        worker_id = f"w{next(self._numbers)}"
        self._workers[worker_id] = _Simulated(self._slots)
        self.loaded.append(worker_id)

    def _answer(self, worker: _Simulated) -> HeartbeatReply | Exception:
        worker.request = None
        events = []
        try:
            for lease in list(worker.held.values()):
                outcome = self._returned(lease) if worker.is_leaving else self._end(lease)
                del worker.held[lease.attempt]
                worker.ended += 1
                worker.steps += outcome.steps
                events.append(Event(worker.ended, outcome))
        except (RuntimeError, OSError, InsetGanError) as err:
            return err
        free = 0 if worker.is_leaving else worker.slots
        return HeartbeatReply(events, [], free, worker.steps, is_drained=worker.is_leaving)

    def _returned(self, lease: Lease) -> Outcome:
        return Outcome(lease.item.item_id, lease.attempt, Status.RETURNED, "preempted")
