"""The command that compares a run with a bare loop runs to its end, and says what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.ray
def test_a_short_comparison_has_rates_and_where_time_goes(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = ["benchmarks/feed_forward.py", "--items", "40", "--stores", "disk", "--out", str(out)]
    subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    disk = json.loads(out.read_text())["disk"]
    assert disk["ratio"] > 0
    assert disk["run"]["cpu_ms_per_item"]["actors"] > 0
    assert disk["bare"]["cpu_ms_per_item"]["loop"] > 0
    assert set(disk["run"]["memory_mb"]) == {"driver", "actors"}
