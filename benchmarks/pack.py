"""Packing many items: does any process grow with their number, and how many are packed a second?

    python benchmarks/pack.py [--items 10000 100000] [--formats parquet webdataset]

Fabricated runs in a directory, 100 kB an image (bytes that do not compress) and a table of losses
each; the tables of all items hold the same. Each number of items is packed in a fresh process,
whose own memory, Ray's workers' and Ray's object store are looked at ten times a second. Workers
are the processes that write shards. Prints a table, and keeps a JSON object in the file of --out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import surroundings

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.formats import FORMATS
from insetgan_batch.data.results import LossTable
from insetgan_batch.data.shards import PackSettings, parse_formats
from insetgan_batch.data.storage import open_storage

_IMAGE_BYTES = 100_000
_STEPS, _TERMS = 20, 8
_EVERY_S = 0.1
_THREADS = 8


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["parquet", "webdataset"])
    parser.add_argument("--directory", type=Path, help="where the runs are fabricated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pack.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measure(arguments.child, arguments.formats)))
        return
    rows = [_in_a_process(n, arguments.formats, arguments.directory) for n in arguments.items]
    print(f"{'items':>8} {'items/s':>8} {'MB/s':>7} {'driver':>8} {'worker':>8} {'objects':>8}  MB")
    for row in rows:
        print(
            f"{row['items']:8} {row['items_per_s']:8.0f} {row['mb_per_s']:7.0f}"
            f" {row['driver_mb']:8.0f} {row['worker_mb']:8.0f} {row['object_store_mb']:8.2f}"
        )
    found = {"rows": rows, "image_bytes": _IMAGE_BYTES, "formats": arguments.formats}
    found |= {"command": shlex.join(["python", *sys.argv])} | surroundings.describe()
    arguments.out.write_text(json.dumps(found) + "\n")
    print(json.dumps(found))


def _in_a_process(items: int, formats: list[str], directory: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=directory) as out:
        _fabricate(out, items)
        command = [sys.executable, __file__, "--child", out, "--formats", *formats]
        # The scratch files of the shards lie beside the run.
        environment = os.environ | {"TMPDIR": out}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return {"items": items} | dict(json.loads(done.stdout.splitlines()[-1]))


def _fabricate(out: str, items: int) -> None:
    """Files and commits as a worker leaves them; every item has bytes of its own."""
    store = RunStore(open_storage(out))
    store.open_run(
        {
            "run_id": "bench",
            "configuration": {"insets": {"face": ""}, "recipe": {"name": "montage", "psi": 0.7}},
            "weights": {"canvas": "ab" * 32, "face": "cd" * 32},
        }
    )
    losses = _losses()
    noise = os.urandom(2 * _IMAGE_BYTES)

    def make(number: int) -> None:
        item_id = f"body{number}-face{number % 97}"
        start = number % _IMAGE_BYTES
        image = number.to_bytes(8) + noise[start : start + _IMAGE_BYTES - 8]
        prefix = f"{out}/{store.item_prefix(item_id, '1-1')}"
        Path(prefix).mkdir(parents=True)
        files = {}
        for name, file, data in (
            ("image", "image.png", image),
            ("losses", "losses.parquet", losses),
        ):
            # Without the sync that a commit deserves: these last as long as the benchmark.
            Path(prefix, file).write_bytes(data)
            key = f"{store.item_prefix(item_id, '1-1')}/{file}"
            digest = hashlib.sha256(data).hexdigest()
            files[name] = {"key": key, "sha256": digest, "bytes": len(data)}
        record = _record(item_id, number, files)
        folder = Path(out, "commits", prefix.split("/items/")[1][:2])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{item_id}.json").write_text(json.dumps(record))

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, items, 1000):
            list(pool.map(make, range(start, min(items, start + 1000))))


def _record(item_id: str, number: int, files: dict[str, Any]) -> dict[str, Any]:
    inputs = {"canvas_seed": number, "face_seed": number}
    item = {"item_id": item_id, "inputs": inputs, "seed": 0}
    box = [1.0, 2.0, 30.0, 40.0]
    return {
        "item_id": item_id,
        "attempt": "1-1",
        "files": files,
        "item": item | {"overrides": {}, "meta": {}},
        "steps": _STEPS,
        "seconds": 30.0,
        "measures": {
            "seam_before": 9.0,
            "seam_after": number / 1000,
            "score": 0.5,
            "rounds": 2,
            "best_round": 1,
            **{f"losses.face.term{n}.l1": 0.1 for n in range(_TERMS)},
        },
        "facts": {"stop": "converged", "face_region": box, "canvas_psi": 0.7, "face_psi": 0.7},
        "provenance": {"run_id": "bench", "recipe": "montage", "weights": {}, "synthetic": True},
    }


def _losses() -> bytes:
    count = _STEPS * _TERMS
    numbers = np.arange(count)
    return LossTable(
        round=np.ones(count, np.int32),
        phase=["canvas"] * count,
        step=(numbers // _TERMS).astype(np.int32),
        term=[f"face.term{n % _TERMS}.l1" for n in range(count)],
        raw=np.linspace(1, 0, count, dtype=np.float32),
        weight=np.ones(count, np.float32),
    ).to_parquet()


def _measure(out: str, formats: list[str]) -> dict[str, Any]:
    """In this process: pack, and look at everybody's memory meanwhile."""
    from insetgan_batch.runtime import cluster, pack

    watch = _Watch()
    with cluster.connected(), watch:
        began_s = time.monotonic()
        packed = pack.pack(out, PackSettings(formats=parse_formats(formats)))
        seconds = time.monotonic() - began_s
    items = sum(packed.splits.values())
    return {
        "seconds": round(seconds, 1),
        "items_per_s": round(items / seconds, 1),
        "mb_per_s": round(packed.bytes / seconds / 1e6, 1),
        "files": packed.files,
        "packed_mb": round(packed.bytes / 1e6, 1),
        "driver_mb": watch.driver_mb,
        "driver_start_mb": watch.driver_start_mb,
        "worker_mb": watch.worker_mb,
        "object_store_mb": watch.object_store_mb,
    }


class _Watch:
    """The most memory that each kind of process had: its own pages (not the shared ones), in MB."""

    def __init__(self) -> None:
        self.driver_mb = self.worker_mb = self.object_store_mb = self.driver_start_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Watch:
        self.driver_start_mb = _own_mb(psutil.Process())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(_EVERY_S):
            self.driver_mb = max(self.driver_mb, _own_mb(me))
            for process in me.children(recursive=True):
                try:
                    if "ray::" in " ".join(process.cmdline()[:1]):
                        self.worker_mb = max(self.worker_mb, _own_mb(process))
                except psutil.Error:
                    continue  # it has ended
            self.object_store_mb = max(self.object_store_mb, _object_store_mb())


def _own_mb(process: psutil.Process) -> float:
    memory = process.memory_info()
    return round((memory.rss - memory.shared) / 1e6, 1)


def _object_store_mb() -> float:
    """What lies in Ray's store of objects on this machine."""
    import ray
    from ray._private.internal_api import memory_summary

    address = ray.get_runtime_context().gcs_address
    text = str(memory_summary(address, stats_only=True))  # type: ignore[no-untyped-call]
    found = re.search(r"Plasma memory usage (\d+) MiB", text)
    return float(found[1]) if found else float("nan")


if __name__ == "__main__":
    main()
