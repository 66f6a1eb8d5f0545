"""What a play has started is ended, also what its parents left behind."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.chaos.processes import run_apart

# An orphan and a child, then a sleep; the orphan's process id goes into a file.
_CODE = """
import subprocess, sys, time
from tests.chaos.processes import ending_all
_, log, seconds, directory = sys.argv
with ending_all(60):
    subprocess.run(f"sleep 300 >/dev/null 2>&1 & echo $! > {log}", shell=True, check=True)
    subprocess.Popen(["sleep", "300"])
    time.sleep(float(seconds))
print('{"directory": "%s"}' % directory)
"""


def test_a_play_that_has_ended_leaves_neither_an_orphan_nor_its_directory(tmp_path: Path) -> None:
    log = tmp_path / "pid"
    found = run_apart("-c", _CODE, str(log), "0", timeout_s=600, settings={})
    assert not psutil.pid_exists(int(log.read_text()))
    assert not Path(found["directory"]).exists()


def test_a_play_that_takes_too_long_ends_what_it_has_started(tmp_path: Path) -> None:
    log = tmp_path / "pid"
    with pytest.raises(RuntimeError, match="came to no end"):
        run_apart("-c", _CODE, str(log), "100", timeout_s=5, settings={})
    assert not psutil.pid_exists(int(log.read_text()))
