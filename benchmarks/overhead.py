"""What a run costs beside the optimisation itself: leases, uploads, commits, metrics, and Ray.

    python benchmarks/overhead.py [--items 12] [--out benchmarks/results/overhead.json]

The demo's montage runs as its users run it. From the first lease to the last commit the CPU seconds
of every process below this one are added up, thread by thread. In an actor (one core each) the
optimisation is one thread, the one that has used the most; everything else of it, the driver and
all of Ray's processes are overhead. `rounds` is what the optimising thread has besides: admission,
saving states, reading pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import psutil
import surroundings

from insetgan_batch.config import parse
from insetgan_batch.data import manifest
from insetgan_batch.methods.insetgan import demos
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.runtime import cluster, driver
from insetgan_batch.runtime.progress import Progress

_SAMPLE_EVERY_S = 1.0


def main() -> None:
    """Run, add up, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overhead.json"))
    arguments = parser.parse_args()
    meter = Meter()
    chosen = demos.find("montage")
    with tempfile.TemporaryDirectory() as directory, cluster.connected():
        uri = f"{directory}/manifest.parquet"
        manifest.write(uri, chosen.items[: arguments.items], schema(chosen.insets))
        config = parse({"recipe": "montage", **chosen.fields, "cores_per_actor": 1}, "overhead")
        summary = driver.run(config, uri, f"{directory}/run", on_progress=meter.see)
    found = meter.found() | {"items": summary.committed}
    share = found["overhead_cpu_s"] / found["all_cpu_s"]
    print(f"{share:.1%} of {found['all_cpu_s']:.1f} CPU seconds are not optimisation: {found}")
    facts = surroundings.describe()
    arguments.out.write_text(
        json.dumps({"measured_at": facts, "overhead_share": round(share, 4), **found}, indent=1)
        + "\n"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
    """CPU seconds by (process, thread), and which processes are actors."""

    threads: dict[tuple[int, int], float]
    actors: set[int]


class Meter:
    """Samples the processes while a run goes on."""

    def __init__(self) -> None:
        self._first: _Sample | None = None
        self._last: _Sample | None = None
        self._sampled_at_s = 0.0
        self._own_s = 0.0  # what the meter itself has used in the driver

    def see(self, progress: Progress) -> None:
        """From the first lease on, once a second while items are inside."""
        if not progress.inside or time.monotonic() - self._sampled_at_s < _SAMPLE_EVERY_S:
            return
        self._sampled_at_s = time.monotonic()
        began_s = time.thread_time()
        self._last = _sample()
        if self._first is None:
            self._first = self._last
        else:
            self._own_s += time.thread_time() - began_s

    def found(self) -> dict[str, float]:
        """CPU seconds between the first and the last sample."""
        assert self._first is not None
        assert self._last is not None
        used = {
            key: seconds - self._first.threads.get(key, 0.0)
            for key, seconds in self._last.threads.items()
        }
        everything = sum(used.values()) - self._own_s
        working = sum(
            max(seconds for (pid, _), seconds in used.items() if pid == actor)
            for actor in self._last.actors
        )
        of_actors = sum(s for (pid, _), s in used.items() if pid in self._last.actors)
        own = sum(s for (pid, _), s in used.items() if pid == psutil.Process().pid)
        own -= self._own_s
        return {
            "all_cpu_s": round(everything, 2),
            "overhead_cpu_s": round(everything - working, 2),
            "in_actors_s": round(of_actors - working, 2),
            "driver_s": round(own, 2),
            "ray_s": round(everything - of_actors - own, 2),
        }


def _sample() -> _Sample:
    threads: dict[tuple[int, int], float] = {}
    actors = set()
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            name = " ".join(process.cmdline())
            for thread in process.threads():
                threads[process.pid, thread.id] = thread.user_time + thread.system_time
        except psutil.NoSuchProcess:
            continue
        if name.startswith("ray::WorkerActor"):
            actors.add(process.pid)
    return _Sample(threads, actors)


if __name__ == "__main__":
    main()
