"""Two hosts whose link is cut, once for a moment and once until Ray gives the far host up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

_ROOT = Path(__file__).parents[2]
_APART = "unshare --net --pid --mount --fork --mount-proc --kill-child".split()
_CABLE = "ip link set lo up && ip link add one type veth peer name two"
_LONGEST_S = 480.0


@pytest.fixture
def namespaces() -> list[str]:
    """The command that puts another one into namespaces of its own; skips where it may not."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no `{program}`: install util-linux and iproute2")
    apart = _APART if os.geteuid() == 0 else [*_APART, "--user", "--map-root-user"]
    tried = subprocess.run([*apart, "sh", "-c", _CABLE], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"network namespaces are not allowed here: {tried.stderr.strip()[:200]}")
    return apart


@pytest.fixture
def directory() -> Iterator[Path]:
    """Near the root, since Ray's sockets lie below it and their paths must be short."""
    place = Path(tempfile.mkdtemp(prefix="hosts", dir="/tmp"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_a_cut_link_loses_nothing_and_doubles_nothing(
    namespaces: list[str], directory: Path
) -> None:
    command = [*namespaces, sys.executable, "-m", "tests.chaos.two_hosts", str(directory)]
    played = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, timeout=_LONGEST_S, check=False
    )
    assert played.returncode == 0, played.stderr[-2000:]
    result = json.loads(played.stdout.splitlines()[-1])
    verdict = result["verdict"]
    assert [life["code"] for life in result["lives"]][-1] == 0, f"the run did not end: {result}"
    assert verdict["committed"] == verdict["items"], result
    for fault in ("lost", "double", "mismatched", "overwritten", "strangers"):
        assert verdict[fault] == [], result
    # The far host was given up and came back: it was a long cut that was tried, not two short ones.
    assert result["far_starts"] > 1
