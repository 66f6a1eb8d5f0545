"""What asking actors costs one driver: seconds of its own CPU for each answer, over real Ray.

    python benchmarks/driver_calls.py [--slots 100,1000] [--seconds 20]
                                      [--out benchmarks/results/driver_calls.json]

The pool is the real one. Behind all of its slots stands one actor that answers like a worker with
nothing to tell: after the wait that it was asked for. So the driver sees as many calls under way as
with so many actors, and two cores are enough. The load of the actor itself is not the driver's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import ray
import surroundings

from insetgan_batch.config import parse
from insetgan_batch.records import HeartbeatReply, HeartbeatRequest
from insetgan_batch.runtime import actor_pool, cluster
from insetgan_batch.runtime.cluster import Capacity

_WARM_UP_S = 5.0


class Idle:
    """All slots at once."""

    async def load(self) -> actor_pool.Ready:
        return actor_pool.Ready("node", 0)

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatReply:
        await asyncio.sleep(request.wait_s)
        return HeartbeatReply(events=[], inside=[], free=0, steps=0)

    async def close(self, within_s: float) -> None:
        pass


class OneForAll:
    """What stands in for `WorkerActor`: every new one is the same."""

    def __init__(self) -> None:
        factory: Any = ray.remote(Idle)
        self._handle = factory.options(num_cpus=0, max_concurrency=100_000).remote()

    def options(self, **_: object) -> OneForAll:
        return self

    def remote(self, *_: object) -> Any:
        return self._handle


def measure(slots: int, seconds: float) -> dict[str, Any]:
    """So many slots, asked again and again for so long."""
    setattr(actor_pool, "WorkerActor", OneForAll())  # noqa: B010 - the type is Ray's
    room = Capacity(num_gpus=0, num_cpus=0, actors=slots)
    pool = actor_pool.ActorPool(parse({}, "here"), "memory://none", "run", room)
    _heartbeats(pool, _WARM_UP_S)
    began_s, cpu_s = time.monotonic(), time.process_time()
    answers = _heartbeats(pool, seconds)
    cpu_s = time.process_time() - cpu_s
    took_s = time.monotonic() - began_s
    pool.close()
    return {
        "slots": slots,
        "answers_per_s": round(answers / took_s, 1),
        "cpu_ms_per_answer": round(1000 * cpu_s / answers, 3),
        "cpu_share": round(cpu_s / took_s, 3),
    }


def _heartbeats(pool: actor_pool.ActorPool, seconds: float) -> int:
    answers, end_s = 0, time.monotonic() + seconds
    while time.monotonic() < end_s:
        for worker_id in pool.idle:
            pool.send(worker_id, [])
        answers += len(pool.wait(1.0))
    return answers


def main() -> None:
    """Measure, print, keep the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slots", default="100,1000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/driver_calls.json"))
    arguments = parser.parse_args()
    with cluster.connected():
        found = [measure(int(n), arguments.seconds) for n in arguments.slots.split(",")]
    for line in found:
        print(json.dumps(line))
    facts = {"measured_at": surroundings.describe(), "sizes": found}
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
