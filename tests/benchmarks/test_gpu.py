"""The command that measures a GPU runs to its end anywhere: whoever has one gets figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


# The command as it is, but an item of a montage takes one round of one step, and each part is
# measured once, the detector on two pictures: what lasts is nobody's figure here.
SHORT = """
import dataclasses, sys
sys.path.insert(0, "benchmarks")
import gpu
gpu._REPEATS, gpu._DETECTED = 1, 2
whole = gpu.recipes.preset
def short(name):
    recipe = dataclasses.replace(whole(name), stages=(), min_rounds=1, max_rounds=1)
    return gpu.with_steps(recipe, 1)
gpu.recipes.preset = short
gpu.main()
"""


def test_a_tiny_run_measures_every_part(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-c", SHORT, "--size", "64", "--channels", "4"]
    subprocess.run(
        # No time: each part measures its first row all the same, however slow the machine is.
        [*command, "--minutes", "0", "--pairs", "1", "--slots", "1", "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    found = json.loads(out.read_text())
    assert found["ceilings"]["float32_tflops"] > 0
    assert found["blocks"][0]["height"] == 4
    assert found["steps"][0]["way"] == "literal loop"
    assert found["slots"][0]["items_per_hour"] > 0
    assert found["detector"]["ms"] > 0
    assert len(found["scores"]["pairs"]) == 1
    assert {"commit", "torch", "device"} <= found.keys()
