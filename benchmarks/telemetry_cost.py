"""What metrics and logs cost: their share of the CPU seconds of a demo run, by timers.

    python benchmarks/telemetry_cost.py [--items 2] [--scrape-every 15]
                                        [--out benchmarks/results/telemetry_cost.json]

The demo's montage, driver and worker in this one process, so that `time.thread_time` sees all of
it: the dispatcher, the worker's loop and the worker are the real ones, only Ray between them is
left out. Timed are all calls that do nothing but tell: the driver's metrics, the worker's recorder,
every scrape, and every log record from its making to its writing (level info, JSON). Loading is not
counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import logging
import os
import socketserver
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import surroundings

from insetgan_batch import logs, telemetry
from insetgan_batch.config import RunConfig, parse
from insetgan_batch.data import manifest
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.methods import names
from insetgan_batch.methods.insetgan import demos
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.records import HeartbeatReply, HeartbeatRequest, Item, Lease
from insetgan_batch.runtime import dispatcher, stats
from insetgan_batch.runtime.dispatcher import Dispatcher
from insetgan_batch.runtime.failures import REASONS
from insetgan_batch.runtime.leases import Ledger
from insetgan_batch.runtime.progress import Progress, ProgressTracker
from insetgan_batch.runtime.stats import StatsRecorder
from insetgan_batch.runtime.worker import Worker
from insetgan_batch.runtime.worker_loop import WorkerLoop

if TYPE_CHECKING:
    from insetgan_batch.runtime.actor_pool import ActorPool

_CLOSE_S = 20.0
_ADDRESS = "127.0.0.1:9465"
_TIMED = {
    "metrics of the driver": (
        telemetry.Telemetry,
        ("progress", "heard", "ended", "retried", "lost", "storage_failed"),
    ),
    "metrics of the worker": (Worker, ("stats",)),
    "recorder of the worker": (StatsRecorder, ("spent", "uploaded")),
    "scrapes": (socketserver.ThreadingMixIn, ("process_request_thread",)),
    "logs": (logging.Logger, ("_log",)),
}


class Timers:
    """CPU seconds and calls, by what was timed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def put_on(self, name: str, owner: type, method: str) -> None:
        """Time a method, or a property, wherever it is called from now on."""
        found = owner.__dict__[method]
        if isinstance(found, property):
            assert found.fget is not None
            setattr(owner, method, property(self._timed(name, found.fget)))
        else:
            setattr(owner, method, self._timed(name, found))

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began_s = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                with self._lock:
                    self.seconds[name] += time.thread_time() - began_s
                    self.calls[name] += 1

        return timed


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """See `actor_pool.Received`."""

    worker_id: str
    result: HeartbeatReply | None


class LocalPool:
    """One worker in this process, asked as an actor is."""

    def __init__(self, config: RunConfig, out_uri: str) -> None:
        self._loop = WorkerLoop()
        self._loop.start(Worker(config, out_uri, "run", self._loop.post))
        self._acknowledged = 0
        self._ordered: list[Lease] | None = None
        self._is_new = True

    @property
    def idle(self) -> list[str]:
        return ["0-0"] if self._ordered is None and not self._is_new else []

    @property
    def ready(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return 1

    @property
    def is_given_up(self) -> bool:
        return False

    def is_leaving(self, worker_id: str) -> bool:
        return False

    def drain(self, leaving: Mapping[str, float]) -> None:
        """Nobody takes this machine away."""

    def send(self, worker_id: str, leases: list[Lease]) -> None:
        self._ordered = leases

    def silent(self, limit_s: float) -> list[str]:
        return []

    def wait(self, timeout_s: float) -> list[Received]:
        if self._is_new:
            self._is_new = False
            return [Received("0-0", None)]
        if self._ordered is None:
            return []
        request = HeartbeatRequest(self._ordered, self._acknowledged, timeout_s)
        self._ordered = None
        reply = self._loop.heartbeat(request)
        if reply.events:
            self._acknowledged = reply.events[-1].number
        return [Received("0-0", reply)]

    def replace(
        self, worker_id: str, *, crashed: bool, out_of_memory: bool, max_crashes: int
    ) -> None:
        raise RuntimeError("the worker is lost")

    def close(self) -> None:
        """Let it end."""
        self._loop.close(_CLOSE_S)


def main() -> None:
    """Run, print, keep the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=2)
    parser.add_argument("--scrape-every", type=float, default=15.0, metavar="SECONDS")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/telemetry_cost.json"))
    arguments = parser.parse_args()
    logs.configure("info", "json")
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        tempfile.TemporaryDirectory() as directory,
    ):
        found = measure(arguments.items, arguments.scrape_every, directory)
    facts = surroundings.describe() | {"scrape_every_s": arguments.scrape_every}
    arguments.out.write_text(json.dumps(facts | found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def measure(items: int, scrape_every_s: float, directory: str) -> dict[str, Any]:
    """A demo of so many items."""
    timers = Timers()
    for name, (owner, methods) in _TIMED.items():
        for method in methods:
            timers.put_on(name, owner, method)
    demo = demos.find("montage")
    config = parse({"recipe": "montage", **demo.fields}, "demo of montage")
    rows = demo.items[:items]
    uri, out = f"{directory}/manifest.parquet", f"{directory}/out"
    manifest.write(uri, rows, schema(demo.insets))
    pool = LocalPool(config, out)
    began_s = time.process_time()
    steps = _work(pool, config, rows, out, scrape_every_s)
    total_s = time.process_time() - began_s
    pool.close()
    told_s = sum(timers.seconds.values())
    return {
        "items": len(rows),
        "steps": steps,
        "cpu_s": round(total_s, 2),
        "telling_s": round(told_s, 4),
        "share": round(told_s / total_s, 6),
        "calls": dict(timers.calls),
        "seconds": {name: round(seconds, 5) for name, seconds in timers.seconds.items()},
    }


def _work(
    pool: LocalPool, config: RunConfig, rows: list[Item], out: str, scrape_every_s: float
) -> int:
    """The whole turn; returns the steps of all items."""
    store = RunStore(open_storage(out))
    tracker = ProgressTracker(len(rows), 0, 0, names.find(config.method).steps(config.settings))
    steps: list[int] = []

    def on_progress(progress: Progress) -> None:
        steps.append(progress.steps)

    phases = (*stats.PHASES, *names.find(config.method).phases(config.settings))
    with telemetry.observing(phases, REASONS, _ADDRESS, store.storage) as observer:
        ended = threading.Event()
        scraper = threading.Thread(target=_scrape, args=(ended, scrape_every_s))
        scraper.start()
        try:
            Dispatcher(
                store,
                store.take_epoch(),
                Ledger(1, dispatcher.CAPS),
                cast("ActorPool", pool),
                iter(rows),
                tracker,
                on_progress=on_progress,
                observer=observer,
            ).work()
        finally:
            ended.set()
            scraper.join()
    return steps[-1]


def _scrape(ended: threading.Event, every_s: float) -> None:
    while True:
        urllib.request.urlopen(f"http://{_ADDRESS}/metrics").read()
        if ended.wait(every_s):
            return


if __name__ == "__main__":
    main()
