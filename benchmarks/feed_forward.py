"""How fast a run is whose items cost little: against a bare loop that makes the same files.

    python benchmarks/feed_forward.py [--items 10000] [--stores disk,swift]
                                      [--out benchmarks/results/feed_forward.json]

The method is `negative` of the tests, on pictures of 256 pixels. The run is a real one: two actors
of one core each, leases, commits, metrics. The bare loop is two processes with four threads each:
read, decode, compute, encode with provenance, put; no commits, nothing that could be resumed. Both
are timed from a tenth of their items to the last one, one after the other, for each store; Swift
runs on the same cores. CPU seconds by kind of process say where time goes, and the memory of driver
and actors is looked at all the while.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shlex
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import surroundings
from PIL import Image, ImageFilter
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from insetgan_batch.config import parse
from insetgan_batch.data import inputs, manifest, provenance
from insetgan_batch.data.storage import open_storage
from insetgan_batch.methods.feed_forward import Prediction
from insetgan_batch.records import Item
from insetgan_batch.runtime import cluster, driver
from insetgan_batch.runtime.progress import Progress
from tests.methods import negative
from tests.servers import swift_server

ROOT = Path(__file__).parents[1]
_SIDE_PX = 256
_PICTURES = 64  # different ones; rows share them
_PROCESSES, _THREADS = 2, 4
_SLOTS = 8
_FROM = 0.1  # of the items: timed from there
_BOUND = 0.7
_ADDRESS = "127.0.0.1:9466"
_say = Console(stderr=True).print


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--stores", default="disk,swift")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/feed_forward.json"))
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)  # actors find the tests' method
    kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    facts = {"command": shlex.join(["python", *sys.argv]), "items": arguments.items}
    with tempfile.TemporaryDirectory() as directory:
        rows = _rows(Path(directory), arguments.items)
        for store in arguments.stores.split(","):
            found = _measure(store, Path(directory), rows)
            kept[store] = {"measured_at": surroundings.describe(), **facts, **found}
            arguments.out.write_text(json.dumps(kept, indent=1) + "\n")


def _rows(directory: Path, count: int) -> list[Item]:
    """Rows of pictures that are about as hard to encode as photographs."""
    random = np.random.default_rng(0)
    uris = []
    for n in range(_PICTURES):
        coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8))
        smooth = coarse.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
        smooth = smooth.filter(ImageFilter.GaussianBlur(4))
        grain = random.normal(0, 4, (_SIDE_PX, _SIDE_PX, 3))
        pixels = (np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        path = directory / f"{n}.png"
        path.write_bytes(sink.getvalue())
        uris.append(str(path))
    return [Item(f"i{n:06d}", {"picture": uris[n % _PICTURES]}) for n in range(count)]


def _measure(store: str, directory: Path, rows: Sequence[Item]) -> dict[str, Any]:
    if store == "disk":
        return _compare(store, str(directory), rows)
    with (
        tempfile.TemporaryDirectory() as of_server,
        swift_server.running(Path(of_server), one_winner=True) as server,
    ):
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": server.owner[0],
            "AWS_SECRET_ACCESS_KEY": server.owner[1],
        }
        server.client().create_bucket(Bucket="benchmark")
        return _compare(store, "s3://benchmark", rows)


def _compare(store: str, place: str, rows: Sequence[Item]) -> dict[str, Any]:
    """The loop, then the run."""
    _say(f"{store}: the bare loop")
    bare = _bare_loop(f"{place}/bare", rows)
    _say(f"{store}: the run")
    run = _run(f"{place}/run", rows)
    ratio = run["items_per_s"] / bare["items_per_s"]
    found = {"ratio": round(ratio, 3), "within_bound": ratio >= _BOUND, "run": run, "bare": bare}
    print(
        f"{store}: {run['items_per_s']:.1f} items a second by a run, {bare['items_per_s']:.1f} by"
    )
    print(f"  the bare loop: {ratio:.2f} of it, expected at least {_BOUND}")
    for who, of in (("run", run), ("bare loop", bare)):
        spent = ", ".join(f"{name} {ms:.1f}" for name, ms in of["cpu_ms_per_item"].items())
        print(f"  CPU milliseconds an item, {who}: {spent}")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in run["phases"].items())
    print(f"  time of actors by phase: {shares}")
    for name, sizes in run["memory_mb"].items():
        print(f"  memory of {name}, MB, from a tenth of the items on: {sizes}")
    return found


class Watch:
    """Items over time, and what processes use from a tenth of the items to the last one."""

    def __init__(self, items: int, kind_of: Callable[[psutil.Process], str]) -> None:
        self._items, self._kind_of = items, kind_of
        self._began: tuple[float, int, dict[str, float]] | None = None
        self._ended: tuple[float, int, dict[str, float]] = (0.0, 0, {})
        self.memory_mb: dict[str, list[int]] = defaultdict(list)
        self._sized_at = 0

    def see(self, done: int) -> None:
        """So many are done."""
        if self._began is None:
            if done >= _FROM * self._items:
                self._began = time.perf_counter(), done, self._cpu()
                self._sized_at = done
                self._size()
            return
        if done == self._items and self._ended[1] != done:
            self._ended = time.perf_counter(), done, self._cpu()
            self._size()
        elif done >= self._sized_at + self._items * 0.225:
            _say(f"{done:,} of {self._items:,} items")
            self._sized_at = done
            self._size()

    def found(self) -> dict[str, Any]:
        """Items a second, and CPU milliseconds of an item by kind of process."""
        assert self._began is not None
        items = self._ended[1] - self._began[1]
        spent = {k: self._ended[2][k] - self._began[2].get(k, 0.0) for k in self._ended[2]}
        return {
            "items_per_s": round(items / (self._ended[0] - self._began[0]), 2),
            "cpu_ms_per_item": {k: round(1000 * s / items, 2) for k, s in spent.items()},
        }

    def _cpu(self) -> dict[str, float]:
        spent: dict[str, float] = defaultdict(float)
        for process in self._processes():
            try:
                times = process.cpu_times()
                spent[self._kind_of(process)] += times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return dict(spent)

    def _size(self) -> None:
        sizes: dict[str, int] = defaultdict(int)
        for process in self._processes():
            try:
                sizes[self._kind_of(process)] += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        for kind in ("driver", "actors"):
            if kind in sizes:
                self.memory_mb[kind].append(round(sizes[kind] / 1e6))

    @staticmethod
    def _processes() -> list[psutil.Process]:
        me = psutil.Process()
        return [me, *me.children(recursive=True)]


def _kind(process: psutil.Process) -> str:
    if process.pid == os.getpid():
        return "driver"
    said = " ".join(process.cmdline())
    if said.startswith("ray::WorkerActor"):
        return "actors"
    if "swift_node" in said:
        return "the store"
    return "loop" if "multiprocessing" in said else "Ray"


# ---- the run ------------------------------------------------------------------------------------


def _run(out: str, rows: Sequence[Item]) -> dict[str, Any]:
    fields = {"method": negative.NAME, "slots": _SLOTS, "max_actors": _PROCESSES}
    config = parse({**fields, "input_roots": [str(Path(rows[0].inputs["picture"]).parent)]}, "here")
    uri = f"{out}-manifest.parquet"
    manifest.write(uri, rows, negative.rows(config.settings))
    watch = Watch(len(rows), _kind)
    shares: dict[str, float] = {}

    def see(progress: Progress) -> None:
        watch.see(progress.committed)
        if not shares and progress.committed > len(rows) * 0.9:
            shares.update(_phases())

    with cluster.connected():
        driver.run(config, uri, out, on_progress=see, metrics_address=_ADDRESS)
    return watch.found() | {"phases": shares, "memory_mb": watch.memory_mb}


def _phases() -> dict[str, float]:
    """Shares of the actors' time, as their metrics say."""
    with urllib.request.urlopen(f"http://{_ADDRESS}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    name = "insetgan_phase_seconds_total{"
    told = [line.removeprefix(name).split("} ") for line in lines if line.startswith(name)]
    seconds = {labels.split('"')[1]: float(value) for labels, value in told}
    worked = {phase: s for phase, s in seconds.items() if phase != "load" and s > 0}
    return {phase: round(s / sum(worked.values()), 3) for phase, s in worked.items()}


# ---- the bare loop ------------------------------------------------------------------------------


def _bare_loop(out: str, rows: Sequence[Item]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    done, release = context.Value("q", 0), context.Event()
    loops = [
        context.Process(target=_loop, args=(out, rows[n::_PROCESSES], done, release))
        for n in range(_PROCESSES)
    ]
    watch = Watch(len(rows), _kind)
    for loop in loops:
        loop.start()
    while done.value < len(rows) and all(loop.is_alive() for loop in loops):
        watch.see(done.value)
        time.sleep(0.02)
    watch.see(done.value)
    release.set()
    for loop in loops:
        loop.join()
    return watch.found()


def _loop(out: str, rows: Sequence[Item], done: Any, release: Any) -> None:
    """Read, compute and put, in threads; stay until what was used has been looked at."""
    storage, lock = open_storage(out), threading.Lock()

    def make(item: Item) -> None:
        (found,) = negative.predict([negative.prepare(item, inputs.read)])
        assert isinstance(found, Prediction)
        said = provenance.origin(item, "1-1", "bare", {})
        for name, pixels in found.images.items():
            png = provenance.to_png(pixels, item, said)
            storage.put(f"items/{item.item_id}/{name}.png", png)
        with lock, done.get_lock():
            done.value += 1

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(make, rows):
            pass
    release.wait()


if __name__ == "__main__":
    main()
