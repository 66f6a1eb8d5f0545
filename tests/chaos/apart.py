"""A module of ours in a process of its own, with a Ray of its own, of which nothing stays behind.

The module is called with what it is given and a directory, says one line of JSON, and ends all that
it started (`ending_all_below`): also when nobody waits for it any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.cluster import RAY_SETTINGS, adopt_orphans, end_everything_below

_ROOT = Path(__file__).parents[2]
_CLEANING_S = 30.0
_NONE: Mapping[str, str] = {}


def run(
    module: str, *arguments: str, timeout_s: float, settings: Mapping[str, str] = _NONE
) -> dict[str, Any]:
    """What `python -m module *arguments DIRECTORY` says.

    Raises `RuntimeError` with its last lines, if it does not come to its end.
    """
    # Sockets lie below it, and the system allows them 107 characters.
    directory = tempfile.mkdtemp(prefix="apart", dir="/tmp")
    own = RAY_SETTINGS | {"RAY_TMPDIR": directory, "OMP_NUM_THREADS": "1"}
    own |= {"INSETGAN_BATCH_CACHE": f"{directory}/cache", "PYTHONPATH": str(_ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments, directory],
        cwd=_ROOT,
        env={**os.environ, **own, **settings},
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
    if process.returncode != 0 or not (lines and lines[-1].startswith("{")):
        call = " ".join([module, *arguments])
        raise RuntimeError(f"{call} did not come to its end: " + " | ".join(lines[-5:]))
    return dict(json.loads(lines[-1]))


def say(found: dict[str, Any]) -> None:
    """The last line of such a module."""
    sys.stdout.write(json.dumps(found) + "\n")


@contextlib.contextmanager
def ending_all_below(at_most_s: float) -> Iterator[None]:
    """Whatever is started within is ended with it, after so many seconds or when it is asked to."""
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(1))
    signal.alarm(int(at_most_s))
    adopt_orphans()
    try:
        yield
    finally:
        end_everything_below()


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
