"""The worker as a Ray actor, one GPU each (or some CPU cores where there is none), and the pool of
all of them.

Retries are the ledger's business, so Ray's are off. A slot is room for one actor; when the actor
dies, a new one takes the slot under a new worker id, so nothing that still arrives from the old
one can be taken for the new one's. Why not Ray's own restart (max_restarts): while an actor
restarts, calls fail in ways that look like another death, and after an out of memory the new one
shall hold half as much, which takes other arguments.

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
from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from insetgan_batch import logs, stopping
from insetgan_batch.config import RunConfig, Slots
from insetgan_batch.records import HeartbeatReply, HeartbeatRequest, Lease
from insetgan_batch.runtime.cluster import Capacity
from insetgan_batch.runtime.worker_loop import WorkerLoop

# A call may wait in an actor while another one, whose answer was lost, still waits there too.
_CALLS_AT_ONCE = 4
_LONG_POLL_S = 2.0
# After a call that did not get through.
_PAUSE_S = 1.0
_CLOSE_TIMEOUT_S = 20.0
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """What an actor says when it is ready."""

    node_id: str
    pid: int


@ray.remote(max_restarts=0, max_task_retries=0)
class WorkerActor:
    """`Worker` behind Ray; every call answers with plain records, images go straight to storage."""

    def __init__(self, config: RunConfig, out_uri: str, run_id: str) -> None:
        # Into Ray's file of this process; what becomes of an item, the driver logs.
        logs.configure("info", "json")
        logs.name_run(run_id)
        self._arguments = config, out_uri, run_id
        self._loop = WorkerLoop()

    def load(self) -> Ready:
        """Load the networks and begin to work. Raises what `Worker` raises."""
        from insetgan_batch.runtime.worker import Worker  # torch: not for the driver

        self._loop.start(Worker(*self._arguments, self._loop.post))
        return Ready(ray.get_runtime_context().get_node_id(), os.getpid())

    def heartbeat(self, request: HeartbeatRequest) -> HeartbeatReply:
        """See `WorkerLoop.heartbeat`; after `load`."""
        return self._loop.heartbeat(request)

    def close(self, within_s: float) -> None:
        """Hand back what is inside before the process ends."""
        self._loop.close(within_s)


@dataclasses.dataclass(slots=True)
class ActorSlot:
    """Capacity for one actor.

    crashes: in a row, with no answer in between. asked_at_s: when the oldest call without an answer
    was made; again_at_s: not to be asked before. drain_at_s: when its machine will be gone.
    slots: as ordered; held: as the worker has them, 0 until it has said how many fit.
    """

    number: int
    actor: ActorHandle[WorkerActor]
    worker_id: str
    slots: Slots
    crashes: int = 0
    held: int = 0
    node_id: str = ""
    acknowledged: int = 0
    asked_at_s: float = math.inf
    again_at_s: float = 0.0
    drain_at_s: float | None = None

    @property
    def is_ready(self) -> bool:
        return bool(self.node_id)


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """What came back from a worker: its reply, None when it has loaded, or the error."""

    worker_id: str
    result: HeartbeatReply | Exception | None


class ActorPool:
    """All actors of a run, asked side by side."""

    def __init__(self, config: RunConfig, out_uri: str, run_id: str, room: Capacity) -> None:
        self._config, self._out_uri, self._run_id = config, out_uri, run_id
        self._room = room
        self._numbers, self._slot_numbers = itertools.count(), itertools.count()
        self._waiting: dict[ray.ObjectRef[Any], ActorSlot] = {}
        self._actor_slots: dict[str, ActorSlot] = {}
        self._given_up = 0
        self.resize(room)

    @property
    def idle(self) -> list[str]:
        """Workers that have loaded and wait for a request."""
        now_s = time.monotonic()
        busy = {actor_slot.worker_id for actor_slot in self._waiting.values()}
        return [
            id
            for id, actor_slot in self._actor_slots.items()
            if actor_slot.is_ready and id not in busy and actor_slot.again_at_s <= now_s
        ]

    @property
    def ready(self) -> int:
        """How many workers have loaded."""
        return sum(actor_slot.is_ready for actor_slot in self._actor_slots.values())

    @property
    def size(self) -> int:
        """Places in use."""
        return len(self._actor_slots)

    @property
    def is_given_up(self) -> bool:
        """Whether every slot has been given up; without slots there may be some to come."""
        return self._given_up > 0 and not self._actor_slots

    def is_leaving(self, worker_id: str) -> bool:
        """Whether its machine will be taken away."""
        return self._actor_slots[worker_id].drain_at_s is not None

    @stopping.postponed()
    def resize(self, room: Capacity) -> None:
        """Take the slots that have been added to the cluster; those that went are lost anyway."""
        self._room = room
        for _ in range(room.actors - self._given_up - len(self._actor_slots)):
            self._start(next(self._slot_numbers), crashes=0, slots=self._config.machine.slots)

    def drain(self, leaving: Mapping[str, float]) -> None:
        """Tell the workers on machines that will be taken away; leaving: node id to seconds."""
        for actor_slot in self._actor_slots.values():
            if actor_slot.node_id in leaving and actor_slot.drain_at_s is None:
                actor_slot.drain_at_s = time.monotonic() + leaving[actor_slot.node_id]
                _log.warning(
                    "worker %s: its machine will be gone in %.0f s",
                    actor_slot.worker_id,
                    leaving[actor_slot.node_id],
                )

    @stopping.postponed()
    def send(self, worker_id: str, leases: list[Lease]) -> None:
        """Say which leases it should have, and ask how it goes; the answer comes with `wait`."""
        actor_slot = self._actor_slots[worker_id]
        now_s = time.monotonic()
        left_s = None if actor_slot.drain_at_s is None else max(0.0, actor_slot.drain_at_s - now_s)
        request = HeartbeatRequest(leases, actor_slot.acknowledged, _LONG_POLL_S, left_s)
        actor_slot.asked_at_s = min(actor_slot.asked_at_s, now_s)
        self._waiting[actor_slot.actor.heartbeat.remote(request)] = actor_slot

    def silent(self, limit_s: float) -> list[str]:
        """Workers that have not answered for longer than that."""
        oldest = time.monotonic() - limit_s
        return [
            id for id, actor_slot in self._actor_slots.items() if actor_slot.asked_at_s < oldest
        ]

    @stopping.postponed()
    def wait(self, timeout_s: float) -> list[Received]:
        """Answers that have arrived, at least one unless the time runs out."""
        if not self._waiting:
            time.sleep(min(timeout_s, _PAUSE_S))
            return []
        refs = list(self._waiting)
        done, rest = ray.wait(refs, num_returns=1, timeout=timeout_s)
        if rest:  # what else is there already
            more, _ = ray.wait(rest, num_returns=len(rest), timeout=0)
            done += more
        return [answer for ref in done if (answer := self._take(ref)) is not None]

    @stopping.postponed()
    def replace(
        self, worker_id: str, *, crashed: bool, out_of_memory: bool, max_crashes: int
    ) -> None:
        """Put a new actor into a slot; give the slot up after `max_crashes` in a row.

        out_of_memory: the new one holds half as many items.
        """
        actor_slot = self._actor_slots.pop(worker_id)
        self._waiting = {ref: p for ref, p in self._waiting.items() if p is not actor_slot}
        ray.kill(actor_slot.actor)
        crashes = actor_slot.crashes + crashed
        if crashes >= max_crashes:
            self._given_up += 1
            _log.error(
                "worker %s crashed %d times in a row; its slot is given up",
                worker_id,
                crashes,
            )
            return
        slots = actor_slot.slots
        if out_of_memory:
            slots = max(1, actor_slot.held // 2)
            _log.warning(
                "worker %s ran out of memory; it goes on with %d items at once instead of %s",
                worker_id,
                slots,
                actor_slot.held or actor_slot.slots,
            )
        self._start(actor_slot.number, crashes=crashes, slots=slots)

    @stopping.postponed()
    def close(self) -> None:
        """Let all actors hand back what they hold, for a bounded time, and end them."""
        within_s = _CLOSE_TIMEOUT_S / 2
        ready = [actor_slot for actor_slot in self._actor_slots.values() if actor_slot.is_ready]
        closing = [actor_slot.actor.close.remote(within_s) for actor_slot in ready]
        try:
            ray.get(closing, timeout=_CLOSE_TIMEOUT_S)
        except (GetTimeoutError, RayError) as err:
            _log.warning("not every actor closed in %.0f s: %s", _CLOSE_TIMEOUT_S, err)
        for actor_slot in self._actor_slots.values():
            ray.kill(actor_slot.actor)

    def _start(self, number: int, *, crashes: int, slots: Slots) -> None:
        worker_id = f"{number}-{next(self._numbers)}"
        # Ray's decorator adds `options`, which type checkers do not see.
        factory: Any = WorkerActor
        room = self._room
        actor = factory.options(
            num_gpus=room.num_gpus, num_cpus=room.num_cpus, max_concurrency=_CALLS_AT_ONCE
        ).remote(self._config.on(slots=slots), self._out_uri, self._run_id)
        actor_slot = ActorSlot(
            number, actor, worker_id, slots, crashes, held=0 if slots == "auto" else slots
        )
        self._actor_slots[worker_id] = actor_slot
        self._waiting[actor.load.remote()] = actor_slot

    def _take(self, ref: ray.ObjectRef[Any]) -> Received | None:
        actor_slot = self._waiting.pop(ref)
        try:
            result = ray.get(ref)
        except ActorUnavailableError as err:
            if not actor_slot.is_ready:
                return Received(actor_slot.worker_id, err)
            # The link is down, or was: the next request says all that this one did.
            _log.info("worker %s cannot be reached: %s", actor_slot.worker_id, err)
            actor_slot.again_at_s = time.monotonic() + _PAUSE_S
            return None
        except RayTaskError as err:
            # Ray wraps what the worker raised, with its whole trace as the message.
            _log.info("worker %s: %s", actor_slot.worker_id, err)
            cause = err.cause if isinstance(err.cause, Exception) else err
            return Received(actor_slot.worker_id, cause)
        except RayError as err:
            return Received(actor_slot.worker_id, err)
        actor_slot.asked_at_s = math.inf
        if isinstance(result, Ready):
            actor_slot.node_id = result.node_id
            return Received(actor_slot.worker_id, None)
        actor_slot.crashes, actor_slot.held = 0, result.stats.slots
        if result.events:
            actor_slot.acknowledged = result.events[-1].number
        return Received(actor_slot.worker_id, result)
