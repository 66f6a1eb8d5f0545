"""Machines that come late, and machines that are slow, in one run on a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.chaos.cluster import RAY_SETTINGS

pytestmark = pytest.mark.ray

_ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_a_machine_that_joins_has_work_within_30_seconds_and_does_not_wait_for_a_slow_one() -> None:
    # Sockets lie below it, and the system allows them 107 characters.
    directory = tempfile.mkdtemp(prefix="elastic", dir="/tmp")
    settings = RAY_SETTINGS | {"RAY_TMPDIR": directory, "OMP_NUM_THREADS": "1"}
    settings |= {"INSETGAN_BATCH_CACHE": f"{directory}/cache", "PYTHONPATH": str(_ROOT)}
    try:
        played = subprocess.run(
            [sys.executable, "-m", "tests.chaos.elastic", directory],
            cwd=_ROOT,
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert played.returncode == 0, played.stderr[-2000:]
    found = json.loads(played.stdout.splitlines()[-1])
    assert found["code"] == 0, found
    assert found["joined_s"] <= 30, found
    assert found["workers"] == 2, found
    assert found["fast"] >= 2 * found["slow"] > 0, found
