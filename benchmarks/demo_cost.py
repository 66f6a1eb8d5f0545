"""What the demo costs here: seconds to the first sign of life, the first step, the end; memory.

    python benchmarks/demo_cost.py out/cost        (a fresh place; needs the `test` extra)

Runs `insetgan-batch demo` as a user would and watches it from outside. Prints one JSON object with
the commit and the machine beside the numbers. Memory is the resident set of the largest actor.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import psutil
import surroundings

_SAMPLE_EVERY_S = 0.5


def main(out: str) -> None:
    """Run the demo into `out` and print what it cost."""
    started = time.monotonic()
    command = [sys.executable, "-m", "insetgan_batch", "demo", "--out", out]
    demo = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    memory = _Memory(demo.pid)
    first_line_s = first_step_s = None
    assert demo.stderr is not None
    for line in demo.stderr:
        now = round(time.monotonic() - started, 1)
        first_line_s = first_line_s or now
        if " steps" in line and ", 0 steps" not in line:
            first_step_s = first_step_s or now
    code = demo.wait()
    print(
        json.dumps(
            {
                "command": "insetgan-batch demo",
                "exit_code": code,
                "first_line_s": first_line_s,
                "first_steps_s": first_step_s,
                "total_s": round(time.monotonic() - started, 1),
                "largest_actor_mb": round(memory.stop() / 1e6),
            }
            | surroundings.describe()
        )
    )


class _Memory:
    """The largest resident set that any actor of the demo had so far."""

    def __init__(self, pid: int) -> None:
        self._pid, self._largest_bytes, self._stopped = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Stop watching; returns bytes."""
        self._stopped.set()
        self._thread.join()
        return self._largest_bytes

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE_EVERY_S):
            try:
                children = psutil.Process(self._pid).children(recursive=True)
                sizes = [p.memory_info().rss for p in children if "WorkerActor" in _name(p)]
            except psutil.Error:
                continue  # it ended between two looks
            self._largest_bytes = max([self._largest_bytes, *sizes])


def _name(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


if __name__ == "__main__":
    main(sys.argv[1])
