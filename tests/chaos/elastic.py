"""A run on one machine that a second one joins, and then the first becomes slow.

    python -m tests.chaos.elastic DIRECTORY            prints what came of it as one JSON line

Slow means that its actor is stopped for four fifths of every half second.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.cluster import RAY_SETTINGS, Machines
from tests.chaos.driving import write_inputs
from tests.chaos.processes import ending_all, run_apart

_STOPPED_S, _GOING_S = 0.4, 0.1
_LONGEST_S = 240.0


def play_apart() -> dict[str, Any]:
    """What `play` found, in a process of its own; raises `RuntimeError` if it found nothing."""
    return run_apart("-m", "tests.chaos.elastic", timeout_s=_LONGEST_S, settings=RAY_SETTINGS)


def play(directory: Path) -> dict[str, Any]:
    """joined_s: from the new machine's start to its first item; fast, slow: items that each ended
    from then on.
    """
    inputs = write_inputs(directory, bodies=5, faces=8)
    machines = Machines(workers=1)
    command = [sys.executable, "-m", "insetgan_batch", "run", str(inputs.config), "--json"]
    command += ["--manifest", str(inputs.manifest), "--out", str(directory / "out")]
    driver = subprocess.Popen(
        command,
        env=os.environ | {"RAY_ADDRESS": machines.address},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    asked_s = joined_s = 0.0
    before: dict[str, int] = {}
    ended: dict[str, int] = {}
    with contextlib.ExitStack() as slowness:
        for line in map(json.loads, driver.stdout):
            if line.get("event") != "progress" or not line["lines"]:
                continue
            lines = {worker["worker_id"]: worker for worker in line["lines"]}
            first, *others = sorted(lines)
            if line["committed"] >= 2 and not asked_s:
                old = machines.actors()
                machines.add_worker()
                asked_s = time.monotonic()
            if others and lines[others[0]]["inside"] and not joined_s:
                joined_s = time.monotonic()
                before = {first: lines[first]["ended"], others[0]: 0}
                slowness.enter_context(_slowed(old[0]))
            ended = {name: worker["ended"] for name, worker in lines.items()}
    code = driver.wait()
    slow, fast = (ended[name] - before[name] for name in before)
    return {
        "code": code,
        "joined_s": round(joined_s - asked_s, 1),
        "slow": slow,
        "fast": fast,
        "workers": len(ended),
    }


@contextlib.contextmanager
def _slowed(process: psutil.Process) -> Iterator[None]:
    is_over = threading.Event()

    def stop_and_go() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not is_over.is_set():
                process.suspend()
                time.sleep(_STOPPED_S)
                process.resume()
                time.sleep(_GOING_S)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    with ending_all(_LONGEST_S):
        found = play(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(found) + "\n")
