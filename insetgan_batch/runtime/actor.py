"""The worker as a Ray actor, one GPU each (or some CPU cores where there is none), and the crew of
all of them.

Retries are the ledger's business, so Ray's are off. A place is room for one actor; when the actor
dies, a new one takes the place under a new worker id, so nothing that still arrives from the old
one can be taken for the new one's. Why not Ray's own restart: while an actor restarts, calls fail
in ways that look like another death.

The worker is loaded by a call and not by the constructor, so that an error in it (wrong weights,
say) arrives as itself and not as "the actor died while it was created".
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import os
import time
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from insetgan_batch.config import RunConfig
from insetgan_batch.records import Lease
from insetgan_batch.runtime.cluster import Room
from insetgan_batch.runtime.worker import Served, Worker

_CLOSE_TIMEOUT_S = 20.0
_log = logging.getLogger(__name__)


@ray.remote(max_restarts=0, max_task_retries=0)
class WorkerActor:
    """`Worker` behind Ray; every call answers with plain records, images go straight to storage."""

    def __init__(self, config: RunConfig, out_uri: str, run_id: str) -> None:
        self._arguments = config, out_uri, run_id
        self._worker: Worker | None = None

    def load(self) -> int:
        """Load the generators; returns the process id. Raises what `Worker` raises."""
        self._worker = Worker(*self._arguments)
        return os.getpid()

    def serve(self, leases: list[Lease]) -> Served:
        """One round, see `Worker.serve`; after `load`."""
        assert self._worker is not None
        return self._worker.serve(leases)

    def close(self) -> None:
        """Finish the uploads before the process ends."""
        if self._worker is not None:
            self._worker.close()


@dataclasses.dataclass(slots=True)
class _Place:
    """Room for one actor. crashes: in a row, with no answer in between."""

    number: int
    actor: ActorHandle[WorkerActor]
    worker_id: str
    ready: bool = False
    asked_at_s: float = math.inf
    crashes: int = 0
    capacity: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back from a worker: Served after a round, None when it has loaded, or the error."""

    worker_id: str
    result: Served | Exception | None


class Crew:
    """All actors of a run, asked side by side."""

    def __init__(self, config: RunConfig, out_uri: str, run_id: str, room: Room) -> None:
        self._arguments = config, out_uri, run_id
        self._room = room
        self._numbers = itertools.count()
        self._waiting: dict[ray.ObjectRef[Any], _Place] = {}
        self._places: dict[str, _Place] = {}
        for number in range(room.actors):
            self._start(number, crashes=0, capacity=config.slots)

    @property
    def idle(self) -> list[str]:
        """Workers that have loaded and wait for an order."""
        busy = {place.worker_id for place in self._waiting.values()}
        return [id for id, place in self._places.items() if place.ready and id not in busy]

    @property
    def ready(self) -> int:
        """How many workers have loaded."""
        return sum(place.ready for place in self._places.values())

    @property
    def size(self) -> int:
        """Places in use; 0 when all have been given up."""
        return len(self._places)

    def capacity(self, worker_id: str) -> int:
        """Items that the worker may hold at once."""
        return self._places[worker_id].capacity

    def serve(self, worker_id: str, leases: list[Lease]) -> None:
        """Order a round; the answer comes with `wait`."""
        place = self._places[worker_id]
        place.asked_at_s = time.monotonic()
        self._waiting[place.actor.serve.remote(leases)] = place

    def overdue(self, limit_s: float) -> list[str]:
        """Workers that have not answered for longer than that: something in them hangs."""
        oldest = time.monotonic() - limit_s
        return [id for id, place in self._places.items() if place.asked_at_s < oldest]

    def wait(self, timeout_s: float) -> list[Answer]:
        """Answers that have arrived, at least one unless the time runs out."""
        if not self._waiting:
            time.sleep(timeout_s)
            return []
        done, _ = ray.wait(list(self._waiting), num_returns=1, timeout=timeout_s)
        return [self._take(ref) for ref in done]

    def replace(
        self, worker_id: str, *, crashed: bool, out_of_memory: bool, max_crashes: int
    ) -> None:
        """Put a new actor in a place; give the place up after `max_crashes` in a row.

        out_of_memory: the new one holds half as many items.
        """
        place = self._places.pop(worker_id)
        self._waiting = {ref: p for ref, p in self._waiting.items() if p is not place}
        ray.kill(place.actor)
        # Who fails before it ever worked will fail again, whatever the reason.
        crashes = place.crashes + (crashed or not place.ready)
        if crashes >= max_crashes:
            _log.error(
                "worker %s crashed %d times in a row; its place is given up", worker_id, crashes
            )
            return
        capacity = max(1, place.capacity // 2) if out_of_memory else place.capacity
        self._start(place.number, crashes=crashes, capacity=capacity)

    def close(self) -> None:
        """Let all actors finish their uploads, for a bounded time, and end them."""
        closing = [place.actor.close.remote() for place in self._places.values() if place.ready]
        try:
            ray.get(closing, timeout=_CLOSE_TIMEOUT_S)
        except (GetTimeoutError, RayError) as err:
            _log.warning("not every actor closed in %.0f s: %s", _CLOSE_TIMEOUT_S, err)
        for place in self._places.values():
            ray.kill(place.actor)

    def _start(self, number: int, *, crashes: int, capacity: int) -> None:
        worker_id = f"{number}-{next(self._numbers)}"
        # Ray's decorator adds `options`, which type checkers do not see.
        factory: Any = WorkerActor
        room = self._room
        actor = factory.options(num_gpus=room.num_gpus, num_cpus=room.num_cpus).remote(
            *self._arguments
        )
        place = _Place(number, actor, worker_id, crashes=crashes, capacity=capacity)
        self._places[worker_id] = place
        self._waiting[actor.load.remote()] = place

    def _take(self, ref: ray.ObjectRef[Any]) -> Answer:
        place = self._waiting.pop(ref)
        place.asked_at_s = math.inf
        try:
            result = ray.get(ref)
        except RayTaskError as err:
            # Ray wraps what the worker raised, with its whole trace as the message.
            _log.info("worker %s: %s", place.worker_id, err)
            cause = err.cause if isinstance(err.cause, Exception) else err
            return Answer(place.worker_id, cause)
        except RayError as err:
            return Answer(place.worker_id, err)
        place.ready = True
        if isinstance(result, Served):
            place.crashes = 0
            return Answer(place.worker_id, result)
        return Answer(place.worker_id, None)
