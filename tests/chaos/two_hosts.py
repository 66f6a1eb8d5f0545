"""A run on two hosts whose link is cut and healed, first shorter than Ray notices, then longer.

    unshare --net --pid --mount --fork --mount-proc --kill-child \
        python -m tests.chaos.two_hosts DIRECTORY            prints what came of it as one JSON line

The hosts are network namespaces: ours with head, driver and one actor, and another one with one
more actor. Two cables join them: one is Ray's, the store is reached by the other. So while Ray's is
cut for long, the far actor works on and commits, and at the same time its items are given to the
near one. It has to run in namespaces of its own: all of it ends with this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from insetgan_batch.data.storage import open_storage
from tests.chaos.cluster import RAY_SETTINGS, SYSTEM_CONFIG
from tests.chaos.driving import Driver, write_inputs
from tests.chaos.store import BUCKET, aws_settings, environment, s3_behind_proxy
from tests.chaos.verify import verify

OUT = f"s3://{BUCKET}/two-hosts/run"
# (name, our address, the far one), one veth pair each.
_RAY_CABLE = ("ray", "10.77.0.1", "10.77.0.2")
_STORE_CABLE = ("store", "10.78.0.1", "10.78.0.2")
_HEAD = f"{_RAY_CABLE[1]}:6379"
# Ray declares a machine dead after some 4 s (`SYSTEM_CONFIG`).
_SHORT_S, _LONG_S = 1.5, 12.0
_PATIENCE_S = 180.0  # of one wait
_RAY_OPTIONS = (
    "--block --disable-usage-stats --num-cpus=1 --memory=1000000000 --object-store-memory=80000000"
).split()


class FarHost:
    """The other network namespace, and Ray in it."""

    def __init__(self, directory: Path) -> None:
        self._anchor = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        _wait_until(lambda: _namespace(self._anchor.pid) != _namespace(os.getpid()), 10)
        self._log = (directory / "far.log").open("wb")
        self._ray: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.run("ip", "link", "set", "lo", "up")
        for name, ours, theirs in (_RAY_CABLE, _STORE_CABLE):
            _ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
            _ip("link", "set", f"{name}-far", "netns", str(self._anchor.pid))
            _ip("addr", "add", f"{ours}/24", "dev", name)
            _ip("link", "set", name, "up")
            self.run("ip", "addr", "add", f"{theirs}/24", "dev", f"{name}-far")
            self.run("ip", "link", "set", f"{name}-far", "up")

    def run(self, *command: str) -> None:
        """Do that over there."""
        subprocess.run([*self._entered, *command], check=True)

    def keep_ray_running(self) -> None:
        """Start Ray over there unless it runs: a machine that was given up ends its Ray."""
        if self._ray is None or self._ray.poll() is not None:
            ray = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={_HEAD}"]
            ray += [f"--node-ip-address={_RAY_CABLE[2]}", *_RAY_OPTIONS]
            self._ray = subprocess.Popen(
                [*self._entered, *ray], stdout=self._log, stderr=subprocess.STDOUT
            )
            self.starts += 1

    @property
    def _entered(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._anchor.pid}/ns/net"]


def play(directory: Path) -> dict[str, Any]:
    """The whole course of it."""
    _ip("link", "set", "lo", "up")
    # Enough that the long cut ends before the run does, also on a fast machine.
    inputs = write_inputs(directory, bodies=5, faces=9)
    far = FarHost(directory)
    with (
        s3_behind_proxy(seed=0, host=_STORE_CABLE[1]) as proxy,
        environment(aws_settings(proxy.endpoint)),
    ):
        _start_head(directory)
        far.keep_ray_running()
        driver = Driver(inputs, OUT, directory)
        driver.start(_HEAD)

        def committed() -> int:
            return sum("/commits/" in path for path in list(proxy.accepted))

        def keep_going(is_over: Callable[[], bool]) -> None:
            """Until then; who ended too early is started again."""
            ends_s = time.monotonic() + _PATIENCE_S
            while not is_over() and not driver.has_finished and time.monotonic() < ends_s:
                far.keep_ray_running()
                if not driver.is_running and not driver.has_finished:
                    driver.start(_HEAD)
                time.sleep(0.1)

        cuts = []
        for length_s, at in ((_SHORT_S, 4), (_LONG_S, 10)):
            keep_going(lambda at=at: committed() >= at)  # type: ignore[misc]
            before = committed()
            _ip("link", "set", _RAY_CABLE[0], "down")
            ends_s = time.monotonic() + length_s
            keep_going(lambda ends_s=ends_s: time.monotonic() >= ends_s)  # type: ignore[misc]
            cuts.append({"seconds": length_s, "from": before, "to": committed()})
            _ip("link", "set", _RAY_CABLE[0], "up")
        keep_going(lambda: False)
        driver.kill()
        proxy.settle(5)
        storage = open_storage(OUT)
        verdict = verify(storage, inputs.item_ids, proxy.accepted)
        attempts = {tuple(key.split("/")[2:4]) for key in storage.list("items")}
    return {
        "cuts": cuts,
        "beaten_attempts": len(attempts) - verdict.committed,
        "far_starts": far.starts,
        "lives": [dataclasses.asdict(life) for life in driver.lives],
        "verdict": dataclasses.asdict(verdict),
    }


def _start_head(directory: Path) -> None:
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--port=6379"]
    ray += [f"--node-ip-address={_RAY_CABLE[1]}", "--include-dashboard=false", *_RAY_OPTIONS]
    ray += [f"--system-config={json.dumps(SYSTEM_CONFIG)}"]
    log = directory / "head.log"
    with log.open("wb") as file:
        subprocess.Popen(ray, stdout=file, stderr=subprocess.STDOUT)
    _wait_until(lambda: b"Ray runtime started" in log.read_bytes(), 60)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _namespace(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net")
    return ""


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    ends_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_s:
            raise TimeoutError(f"a condition did not come true within {timeout_s:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    mine = RAY_SETTINGS | {"RAY_TMPDIR": str(place), "INSETGAN_BATCH_CACHE": str(place / "cache")}
    with environment(mine | {"OMP_NUM_THREADS": "1"}):
        sys.stdout.write(json.dumps(play(place)) + "\n")
