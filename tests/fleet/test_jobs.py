"""A file of jobs/ on a real head: left by Ctrl-C, found again, and right there when wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import apart

_COURSE = r"""
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null
ray start --head --port=6379 --num-cpus=1 --object-store-memory=100000000 > /dev/null
cat > course.py <<'END'
import signal, subprocess, sys

command = [sys.executable, "jobs/generate.py", "--out", "out/left"]
first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
print("FIRST", first.stdout.readline(), flush=True)
first.send_signal(signal.SIGINT)
print("FIRST", first.stdout.read(), first.wait(), flush=True)
for name, more in (("SECOND", ()), ("THIRD", ("--foreground",))):
    done = subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True)
    print(name, done.stdout, done.returncode, flush=True)
END
python course.py
ray job list
"""


@pytest.mark.ray
def test_a_run_that_was_left_is_found_again_and_ends_once(place: Path, clone: Path) -> None:
    said = apart.run(_COURSE, place, clone)
    first, second = said.partition("SECOND")[::2]
    second, third = second.partition("THIRD")[::2]
    assert "-1 has started" in first
    assert "goes on, and the same command comes back to it\n 130\n" in first, first
    assert "-1 is alive; this is its log from the beginning" in second
    assert "0 quarantined" in second
    # In the foreground, with everything done already, and no second job.
    assert "job " not in third.partition("\n 0\n")[0], said[-4000:]
    assert "page: file://" in third
    assert third.count("submission_id=") == 1


def test_the_demo_goes_where_the_machines_say(tmp_path: Path) -> None:
    """Here a place below a file, so it ends at once and says the place."""
    (tmp_path / "file").write_text("in the way")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "jobs/refine.py"],
        cwd=apart.ROOT,
        env=environment
        | {"INSETGAN_BATCH_OUT": f"{tmp_path}/file/", "RAY_TMPDIR": str(tmp_path / "no")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"{tmp_path}/file/demo-refine" in done.stderr
