"""A play in a process of its own, in which nothing of it stays behind: `run_apart` starts it, and
inside it `ending_all` is around what it does.

Other people may use this machine, so nothing is ended by its name: the process adopts what its
children leave behind, and all that it ends is below it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36
_CLEANING_S = 30.0


def run_apart(*arguments: str, timeout_s: float, settings: dict[str, str]) -> dict[str, Any]:
    """Run Python with these arguments and a new directory, which is gone afterwards.

    settings: of its environment. Returns the JSON object that is the last it writes. Raises
    `RuntimeError` with the end of what it said if there is none; after `timeout_s` it is ended.
    """
    # Ray's sockets lie below it, and the system allows them 107 characters.
    directory = tempfile.mkdtemp(prefix="chaos", dir="/tmp")
    own = {
        "RAY_TMPDIR": directory,
        "OMP_NUM_THREADS": "1",
        "INSETGAN_BATCH_CACHE": f"{directory}/cache",
        "PYTHONPATH": str(_ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, *arguments, directory],
        cwd=_ROOT,
        env=os.environ | own | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = _said(process, timeout_s)
    finally:
        _end(process)
        shutil.rmtree(directory, ignore_errors=True)
    lines = said.strip().splitlines()
    results = [line for line in lines if line.startswith("{")]
    if process.returncode != 0 or not results:
        raise RuntimeError(f"{' '.join(arguments)} came to no end: " + " | ".join(lines[-5:]))
    return dict(json.loads(results[-1]))


@contextlib.contextmanager
def ending_all(longest_s: float) -> Iterator[None]:
    """Ends every process that was started in this block, by whatever way it is left.

    It is left by `SystemExit` when `run_apart` asks for it, and after `longest_s` also when nobody
    waits for it any more.
    """
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(1))
    signal.alarm(int(longest_s))
    _adopt_orphans()
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a second one must not stop this
        end_everything_below()


def end_everything_below() -> None:
    """Kill every process below this one, until there is none."""
    while below := [p for p in psutil.Process().children(recursive=True) if _is_alive(p)]:
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(below, timeout=1)


def _adopt_orphans() -> None:
    """From now on processes whose parent has died become children of this one."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this system cannot adopt orphaned processes")


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _said(process: subprocess.Popen[str], timeout_s: float) -> str:
    try:
        return process.communicate(timeout=timeout_s)[0]
    except subprocess.TimeoutExpired:
        _ask_to_end(process)
        return process.communicate(timeout=_CLEANING_S)[0]


def _ask_to_end(process: subprocess.Popen[str]) -> None:
    """Not by SIGTERM: Ray takes that one for itself, and waits for 30 seconds."""
    process.send_signal(signal.SIGALRM)


def _end(process: subprocess.Popen[str]) -> None:
    """It ends what it has started, so it is asked first."""
    if process.poll() is None:
        _ask_to_end(process)
        try:
            process.wait(_CLEANING_S)
        except subprocess.TimeoutExpired:
            process.kill()
