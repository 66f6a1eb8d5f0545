"""What a schedule has started is ended, also what its parents left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

_ROOT = Path(__file__).parents[2]
_CODE = """
import subprocess
from tests.chaos.cluster import adopt_orphans, end_everything_below
adopt_orphans()
left = subprocess.run(
    "sleep 300 >/dev/null 2>&1 & echo $!", shell=True, capture_output=True, text=True
).stdout
subprocess.Popen(["sleep", "300"])
end_everything_below()
print(left)
"""


def test_orphans_are_ended_with_all_that_is_below() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=_ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert not psutil.pid_exists(int(ran.stdout.split()[-1]))
