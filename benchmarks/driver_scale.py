"""How far one driver goes: a million rows, a thousand simulated workers of eight slots.

    python benchmarks/driver_scale.py [--rows 10000,100000,1000000] [--workers 1000] [--slots 8]
                                      [--out benchmarks/results/driver_scale.json]

Everything but the workers is the real thing: a Parquet manifest that is described, read and checked
row by row, the ledger, the loop, one commit per item in a store in memory, which the simulated
workers write. Each size runs in a process of its own. `first lease`: until the first workers have
their items; `memory`: of the whole process at its highest, with the store's objects in it;
`cpu_us_per_item`: the process' own CPU time, which other load on the machine does not change much;
the last number: that against the smallest size's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import surroundings

from insetgan_batch.data import manifest
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.recipe import Recipe
from insetgan_batch.runtime import dispatcher
from insetgan_batch.runtime.actor_pool import ActorPool
from insetgan_batch.runtime.dispatcher import Dispatcher
from insetgan_batch.runtime.failures import REASONS
from insetgan_batch.runtime.leases import Ledger
from insetgan_batch.runtime.progress import Progress, ProgressTracker
from insetgan_batch.telemetry import Telemetry
from tests.runtime.simulated import SimulatedPool, commit

_ROW_GROUP = 5_000


def main() -> None:
    """Measure every size, print a table, keep the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/driver_scale.json"))
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.rows.split(",")]
    context = multiprocessing.get_context("spawn")
    found = []
    for size in sizes:
        with context.Pool(1) as pool:
            found.append(pool.apply(measure, (size, arguments.workers, arguments.slots)))
        print(_line(found[-1], found[0]), flush=True)
    facts = surroundings.describe() | {"workers": arguments.workers, "slots": arguments.slots}
    arguments.out.write_text(json.dumps({"measured_at": facts, "sizes": found}, indent=1) + "\n")


def measure(rows: int, workers: int, slots: int) -> dict[str, Any]:
    """One run of a size; runs in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        uri = str(Path(directory) / "manifest.parquet")
        _write(uri, rows)
        return _run(uri, workers, slots)


def _run(uri: str, workers: int, slots: int) -> dict[str, Any]:
    first_s: list[float] = []
    began_s, cpu_s = time.monotonic(), time.process_time()

    def on_progress(progress: Progress) -> None:
        if progress.inside or progress.committed:
            first_s.append(time.monotonic() - began_s) if not first_s else None

    described = manifest.describe(uri, ["face"])
    store = RunStore(open_storage(f"memory://{uuid.uuid4().hex}"))
    epoch = store.take_epoch()
    pool = SimulatedPool(workers, slots, commit(store))
    tracker = ProgressTracker(described.rows, 0, 0, Recipe())
    ledger = Ledger(epoch, dispatcher.CAPS)
    rows = manifest.read(uri, ["face"])
    Dispatcher(
        store,
        epoch,
        ledger,
        cast(ActorPool, pool),
        rows,
        tracker,
        on_progress=on_progress,
        telemetry=Telemetry([], REASONS),
    ).work()
    seconds, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    assert tracker.committed == described.rows == len(store.committed())
    return {
        "rows": described.rows,
        "first_lease_s": round(first_s[0], 2),
        "seconds": round(seconds, 1),
        "items_per_s": round(described.rows / seconds),
        "cpu_us_per_item": round(1e6 * cpu_s / described.rows, 1),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _write(uri: str, rows: int) -> None:
    schema = pa.schema([("canvas_seed", pa.int64()), ("face_seed", pa.int64())])
    with pq.ParquetWriter(uri, schema) as writer:
        for batch in _batches(rows):
            writer.write_table(pa.table(batch, schema=schema))


def _batches(rows: int) -> Iterator[dict[str, list[int]]]:
    for start in range(0, rows, _ROW_GROUP):
        seeds = range(start, min(start + _ROW_GROUP, rows))
        yield {"canvas_seed": [s // 1000 for s in seeds], "face_seed": [s % 1000 for s in seeds]}


def _line(found: dict[str, Any], smallest: dict[str, Any]) -> str:
    flat = found["cpu_us_per_item"] / smallest["cpu_us_per_item"]
    return (
        f"{found['rows']:>9} rows: first lease {found['first_lease_s']:.2f} s,"
        f" {found['items_per_s']} items/s, {found['memory_mb']} MB,"
        f" {found['cpu_us_per_item']} us of CPU per item, {flat:.2f}x"
    )


if __name__ == "__main__":
    main()
