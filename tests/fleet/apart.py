"""A shell in namespaces of its own, for commands that start and stop Ray on "this machine".

Only loopback is there, `ray stop` sees no other process, `/tmp/ray` and the home directory are
empty, and everything that is started inside ends with the shell.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_APART = "unshare --net --pid --mount --fork --mount-proc --kill-child".split()
_LONGEST_S = 240
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
# The interpreter may live in the home directory that is hidden.
_ENTER = """
set -e
ip link set lo up
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
kept=$2/python
mkdir -p $kept $2/home
mount --bind "$3" $kept
mount --bind $2/home "$1"
case "$3" in "$1"/*) mkdir -p "$3"; mount --bind $kept "$3";; esac
export HOME=$1
exec bash "$4"
"""


def blocks(page: Path) -> dict[str, str]:
    """The commands of a page that say `<!-- tested: NAME -->` above themselves, by that name."""
    found = re.findall(r"<!-- tested: (\S+) -->\n```\n(.*?)```\n", page.read_text(), re.DOTALL)
    return dict(found)


def home() -> Path:
    """Where a login shell of this user begins, whatever the environment says."""
    return Path(os.path.expanduser(f"~{user()}"))


def user() -> str:
    """Who runs the tests."""
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def skip_where_it_may_not() -> None:
    """Skips the test without the rights or the programs for it."""
    if os.geteuid() != 0:
        pytest.skip("only root may hide its home directory from Ray's launcher")
    for program in ("unshare", "ip", "mount"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no `{program}`: install util-linux and iproute2")
    tried = subprocess.run(
        [*_APART, "sh", "-c", "ip link set lo up && mount -t tmpfs tmpfs /mnt"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"namespaces are not allowed here: {tried.stderr.strip()[:200]}")


def run(script: str, place: Path, cwd: Path, path: str = "") -> str:
    """What the commands say; the first that fails fails the test. path: goes before PATH."""
    for name in ("home", "tmp"):
        (place / name).mkdir()
    binaries = Path(sys.executable).parent
    search = f"{path}:{binaries}" if path else str(binaries)
    (place / "home/.bashrc").write_text(f"export PATH={search}:$PATH RAY_USAGE_STATS_ENABLED=0\n")
    (place / "home/.bash_profile").write_text(". ~/.bashrc\n")
    (place / "script").write_text(f"set -e\nexport PATH={search}:$PATH\n{script}\n")
    arguments = [home(), place, sys.base_prefix, place / "script"]
    hidden = ("RAY_", "INSETGAN_BATCH_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    log = place / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*_APART, "bash", "-c", _ENTER, "apart", *map(str, arguments)],
            cwd=cwd,
            env=environment | _SETTINGS | {"TMPDIR": str(place / "tmp")},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(_LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = -9
    said = log.read_text(errors="replace")
    assert code == 0, said[-6000:]
    return said
