"""Starts Debian's Prometheus on loopback, and asks it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MISSING = (
    "prometheus and promtool are not installed: apt-get install --no-install-recommends prometheus"
)
_READY_S = 250.0
_POLL_S = 0.1
_END_S = 250.0


def is_installed() -> bool:
    """Whether both programs are there."""
    return all(shutil.which(program) for program in ("prometheus", "promtool"))


def free_port() -> int:
    """One that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclasses.dataclass(frozen=True)
class Prometheus:
    """A server that scrapes every second; targets: addresses, by job."""

    url: str
    targets: dict[str, str]

    def ask(self, expression: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """The series of an expression, now or then; `ValueError` if it is none."""
        query = {"query": expression} | ({} if at_s is None else {"time": str(at_s)})
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=250) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as err:
            raise ValueError(f"{expression}: {err.read().decode()}") from err
        return found

    def value(self, expression: str, at_s: float | None = None) -> float:
        """Of an expression that has one series."""
        (series,) = self.ask(expression, at_s)
        return float(series["value"][1])

    def wait_for(self, expression: str, limit_s: float = 250.0) -> None:
        """Until it has a series."""
        ends_s = time.monotonic() + limit_s
        while not self.ask(expression):
            assert time.monotonic() < ends_s, f"{expression}: no data in {limit_s:.0f} s"
            time.sleep(_POLL_S)


@contextlib.contextmanager
def running(directory: Path, jobs: list[str]) -> Iterator[Prometheus]:
    """One that is ready, and looks for a target of each job on a free port."""
    targets = {job: f"127.0.0.1:{free_port()}" for job in jobs}
    address = f"127.0.0.1:{free_port()}"
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]}
            for job, target in targets.items()
        ],
    }
    (directory / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(f"http://{address}", targets)
        _wait_until_ready(server, process, directory / "log")
        yield server
    finally:
        process.terminate()
        process.wait(_END_S)


def _wait_until_ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_s = time.monotonic() + _READY_S
    while True:
        try:
            urllib.request.urlopen(f"{server.url}/-/ready", timeout=5).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends_s, log.read_text()
            time.sleep(_POLL_S)
        else:
            return


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """What it says, and its exit code."""
    return subprocess.run(
        ["promtool", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
