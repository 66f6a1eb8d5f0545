"""A run of tiny generators as a process, the moments of its life, and signals at them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from tests.chaos.driving import Inputs, write_inputs

_LONGEST_S = 240.0
_LOOK_EVERY_S = 0.005


class Life:
    """A process of the command, in a session of its own, as a terminal starts it."""

    def __init__(self, inputs: Inputs, out: Path, *, terminal: int | None = None) -> None:
        """terminal: its descriptor, for a life on one; else `said` has what it writes."""
        self.out = out
        self._log = inputs.config.with_name("life.log")
        command = [sys.executable, "-m", "insetgan_batch", "run", str(inputs.config)]
        command += ["--manifest", str(inputs.manifest), "--out", str(out)]
        command += ["--json"] if terminal is None else []
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--metrics-address", "off"],
                stdin=subprocess.DEVNULL,
                stdout=log if terminal is None else terminal,
                stderr=log if terminal is None else terminal,
                start_new_session=True,
                preexec_fn=lambda: _set_up(terminal),
            )
        self._all: set[psutil.Process] = set()

    @property
    def said(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    @property
    def below(self) -> set[psutil.Process]:
        """The processes that it has started, and theirs, as long as it is there itself."""
        found: set[psutil.Process] = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            found = set(psutil.Process(self._process.pid).children(recursive=True))
        self._all |= found
        return found

    def has(self, name: str) -> bool:
        """Whether a process of that name is below it."""
        return any(name in _name(process) for process in self.below)

    def listens(self) -> bool:
        """Whether SIGTERM waits for its thread."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        mask = next(line for line in status.splitlines() if line.startswith("SigBlk"))
        return bool(int(mask.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def maps(self, library: str) -> bool:
        """Whether it has loaded a library."""
        return library in Path(f"/proc/{self._process.pid}/maps").read_text()

    def steps(self) -> int:
        """Done in this life, as it says once a second; a round of two items is 8."""
        told = re.findall(r'"steps": (\d+), "items_per_minute"', self.said)
        return max(map(int, told), default=0)

    def committed(self) -> int:
        """Items of the run, also of earlier lives."""
        return len(list(self.out.glob("commits/*/*.json")))

    def wait_for(self, moment: Callable[[Life], bool]) -> None:
        """Until then; fails when the process ends before."""
        ends_s = time.monotonic() + _LONGEST_S
        while not moment(self):
            assert self._process.poll() is None, f"ended before: {self.said[-2000:]}"
            assert time.monotonic() < ends_s, f"never came: {self.said[-2000:]}"
            time.sleep(_LOOK_EVERY_S)

    def send(self, number: signal.Signals) -> None:
        """To its process group, as a terminal does it."""
        os.killpg(self._process.pid, number)

    def end(self) -> int:
        """Wait for its exit code."""
        while self._process.poll() is None and self.below is not None:
            time.sleep(_LOOK_EVERY_S)
        return int(self._process.returncode)

    def left_behind(self) -> list[str]:
        """Names of what it has started and what is still there."""
        return [_name(p) for p in self._all if p.is_running() and is_alive(p.pid)]

    def kill(self) -> None:
        """With everything that it has started."""
        for process in self.below | self._all:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()


STOPPED = "insetgan-batch: stopped; the same command goes on\n"
MOMENTS: dict[str, Callable[[Life], bool]] = {
    "it has begun": Life.listens,
    "packages are imported": lambda life: life.maps("libarrow"),
    "Ray is imported": lambda life: life.maps("_raylet"),
    "the manifest is read": lambda life: "starting Ray" in life.said,
    "Ray starts": lambda life: life.has("gcs_server"),
    "Ray has started": lambda life: life.has("raylet/raylet"),
    "an actor loads": lambda life: life.has("ray::WorkerActor"),
    "work is under way": lambda life: life.steps() >= 16,
    "an item is done": lambda life: life.committed() >= 1,
    "half is done": lambda life: life.committed() >= 3,
    "all is done": lambda life: life.committed() >= 6,
    "the page is written": lambda life: (life.out / "report").exists(),
}
"""When to send a signal, in the order of a life; of 6 items."""


def faults_of_stop(life: Life, moment: Callable[[Life], bool], number: signal.Signals) -> list[str]:
    """What is wrong when a life gets a signal at a moment, a line each: its exit code, its last
    words, a trace, a process that stays behind.
    """
    try:
        life.wait_for(moment)
        life.send(number)
        code, said = life.end(), life.said
        left_behind = life.left_behind()
    finally:
        life.kill()
    found = {
        f"exit code {code}: {said[-2000:]}": code != 3,
        f"its last words: {said[-300:]}": not said.endswith(STOPPED),
        "a trace": "Traceback" in said,
        f"left behind: {left_behind}": bool(left_behind),
    }
    return [line for line, is_wrong in found.items() if is_wrong]


def inputs_in(directory: Path, rounds: int = 30) -> Inputs:
    """6 items for one actor with two slots."""
    inputs = write_inputs(directory, bodies=2, faces=3)
    fields = yaml.safe_load(inputs.config.read_text())
    fields["recipe"] |= {"min_rounds": rounds, "max_rounds": rounds}
    inputs.config.write_text(yaml.safe_dump(fields | {"max_actors": 1}))
    return inputs


def handed_over(out: Path) -> set[str]:
    """Ids of the items whose states are kept for the next life."""
    return set(RunStore(open_storage(str(out))).checkpoints())


def hear_all() -> None:
    """In a child: no signal is ignored, as some are where the tests run in the background or by
    `nohup`.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _set_up(terminal: int | None) -> None:
    """In the child: signals are heard, and so is the end of this terminal."""
    hear_all()
    if terminal is not None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that only waits for its parent to look is none."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:2])
    except psutil.Error:
        return ""
