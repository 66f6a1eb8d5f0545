"""The page of a run of 10,000 items: how long it takes to build, and to show its first row.

    python benchmarks/report_page.py [--items 10000] [--opens 5] [--keep DIRECTORY]

The run lies in a local directory. Its items are synthetic, in the sizes of the demo's: pictures of
256x128 pixels, 1,960 losses each, one in fifty failed. Ten pictures and tables of losses are made
and shared, the commit records and files are all there. Chromium opens the page from the disk with
an empty profile; the time is from the start of the navigation to the frame after the first row of
the table is in the page.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import resource
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import surroundings

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Browser, sync_playwright

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.results import LossTable
from insetgan_batch.data.storage import LocalStorage, MemoryStorage
from insetgan_batch.report import page
from tests.report import runs

_KINDS = 10
_WRITERS = 16
_ROUNDS, _STEPS = 7, 20  # of each phase
_TERMS = {
    "canvas": [f"canvas.{name}" for name in ("body.l1", "body.lpips", "latent", "delta")],
    "face": [f"face.{name}" for name in ("face.l1", "face.lpips", "latent", "delta")],
}
_SHARED = [f"face.{name}" for name in ("border.l1", "border.lpips", "coarse.l1")]
_BUILD_BOUND_S, _ROW_BOUND_S = 60.0, 2.0
_WATCH = """
const watch = () => {
  const row = document.querySelector("#items-region tbody tr[aria-rowindex]");
  requestAnimationFrame(row ? () => { window.firstRowMs = performance.now(); } : watch);
};
requestAnimationFrame(watch);
"""


def main() -> None:
    """Make the run, build its page, open it; print and keep what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--opens", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="keep the run and a picture of its page here")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/report_page.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run = arguments.keep or Path(directory)
        made_s = _timed(lambda: _make(run, arguments.items))
        before_bytes = _peak_bytes()
        build_s = _timed(lambda: page.write(RunStore(LocalStorage(run))))
        grown_bytes = _peak_bytes() - before_bytes
        first_row_s = _open(run, arguments.opens, arguments.keep)
        sizes = {name: (run / "report" / name).stat().st_size for name in ("index.html", "data.js")}
        beside_bytes = sum(file.stat().st_size for file in (run / "report/folders").iterdir())
    found = {
        "items": arguments.items,
        "made_s": round(made_s, 1),
        "build_s": round(build_s, 1),
        "build_grew_by_bytes": grown_bytes,
        "first_row_s": [round(seconds, 3) for seconds in first_row_s],
        "first_row_median_s": round(statistics.median(first_row_s), 3),
        "bytes": sizes | {"folders/": beside_bytes},
        "is_within_bounds": build_s < _BUILD_BOUND_S and max(first_row_s) < _ROW_BOUND_S,
        "command": shlex.join(["python", *sys.argv]),
    }
    found |= surroundings.describe()
    arguments.out.write_text(json.dumps(found) + "\n")
    print(json.dumps(found))


def _make(run: Path, items: int) -> None:
    """A run of so many items; every commit has files of its own."""
    store = RunStore(LocalStorage(run))
    store.open_run(runs.new_run().read_run())
    kinds = [_kind(number) for number in range(_KINDS)]
    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(lambda n: _commit(store, n, *kinds[n % _KINDS]), range(items)):
            pass
    for number in range(0, items, 50):
        failed = runs.montage(number, 999)
        runs.fail(store, failed, detail=f"no face among 3 candidates of {failed.item_id}")


def _commit(
    store: RunStore, number: int, record: dict[str, Any], contents: dict[str, tuple[str, bytes]]
) -> None:
    rng = np.random.default_rng(number)
    item = runs.montage(number // 100, number % 100)
    prefix = store.item_prefix(item.item_id, "000001-1")
    files = {}
    for name, (file_name, data) in contents.items():
        key = f"{prefix}/{file_name}"
        store.storage.put(key, data)
        digest = hashlib.sha256(data).hexdigest()
        files[name] = {"key": key, "sha256": digest, "bytes": len(data)}
    losses = [name for name in record["measures"] if name.startswith("losses.")]
    sizes = rng.lognormal(size=len(losses))
    measures = {name: 0.1 * float(size) for name, size in zip(losses, sizes, strict=True)}
    measures = {**record["measures"], **measures, "seam_after": float(rng.gamma(3, 1))}
    changes: dict[str, Any] = {"item_id": item.item_id, "files": files, "measures": measures}
    changes["item"] = dataclasses.asdict(item)
    store.commit(item.item_id, record | changes)


def _kind(number: int) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
    """The record of one item, and its files by name."""
    store = RunStore(MemoryStorage(f"kind{number}"))
    runs.commit(store, runs.montage(0, number), _losses(number), scale=4)
    record: dict[str, Any] = {**store.read_commit(f"body0-face{number}")}
    terms = [*_TERMS["canvas"], *_TERMS["face"], *_SHARED]
    record["measures"] |= {f"losses.{term}": 0.1 for term in terms}
    contents = {
        name: (file["key"].rpartition("/")[2], store.storage.get(file["key"]))
        for name, file in record["files"].items()
    }
    return record, contents


def _losses(seed: int) -> LossTable:
    rows = [
        (r + 1, phase, r * _STEPS + s, term)
        for r in range(_ROUNDS)
        for phase, own in _TERMS.items()
        for s in range(_STEPS)
        for term in (*own, *_SHARED)
    ]
    noise = np.random.default_rng(seed).lognormal(0, 0.1, len(rows))
    return LossTable(
        round=np.array([row[0] for row in rows], np.int32),
        phase=[row[1] for row in rows],
        step=np.array([row[2] for row in rows], np.int32),
        term=[row[3] for row in rows],
        raw=(np.geomspace(1, 0.05, len(rows)) * noise).astype(np.float32),
        weight=np.ones(len(rows), np.float32),
    )


def _open(run: Path, opens: int, keep: Path | None) -> list[float]:
    """Seconds to the first row, of each opening; a picture of the last one if it is kept."""
    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("no Chromium on this machine: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        seconds = [_first_row_s(browser, run, keep) for _ in range(opens)]
        browser.close()
    return seconds


def _first_row_s(browser: Browser, run: Path, keep: Path | None) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    shown = context.new_page()
    shown.add_init_script(_WATCH)
    shown.goto((run / page.KEY).as_uri())
    shown.wait_for_function("window.firstRowMs")
    seconds = float(shown.evaluate("window.firstRowMs")) / 1000
    if keep:
        shown.locator("#items").scroll_into_view_if_needed()
        shown.screenshot(path=keep / "page.png", full_page=True)
    context.close()
    return seconds


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
