"""The clouds' notices, from a metadata server of plain code, and a real drain."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from insetgan_batch.runtime import spot


class Metadata(BaseHTTPRequestHandler):
    """Answers like EC2 and Compute Engine; `notice` is what the machine will be told."""

    notice: str | None = None
    preempted = "FALSE"

    def do_PUT(self) -> None:
        is_token = self.path == "/latest/api/token"
        lasts = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._answer("secret" if is_token and lasts else None)

    def do_GET(self) -> None:
        answer = None
        if self.path == "/latest/meta-data/spot/instance-action":
            answer = self.notice if self.headers.get("X-aws-ec2-metadata-token") else None
        if self.path == "/computeMetadata/v1/instance/preempted":
            answer = self.preempted if self.headers.get("Metadata-Flavor") == "Google" else None
        self._answer(answer)

    def _answer(self, text: str | None) -> None:
        self.send_response(200 if text is not None else 404)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Metadata]]]:
    class Mine(Metadata):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Mine) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}", Mine
        found.shutdown()


def test_a_machine_that_stays_has_no_notice(server: tuple[str, type[Metadata]]) -> None:
    url, _ = server
    assert spot.aws_seconds_left(url) is None
    assert spot.gcp_seconds_left(url) is None


def test_the_time_of_ec2s_notice_is_counted_from_now(server: tuple[str, type[Metadata]]) -> None:
    url, metadata = server
    at = datetime.now(UTC) + timedelta(seconds=100)
    metadata.notice = f'{{"action": "terminate", "time": "{at:%Y-%m-%dT%H:%M:%SZ}"}}'
    left_s = spot.aws_seconds_left(url)
    assert left_s is not None
    assert 95 < left_s <= 100


def test_a_notice_that_cannot_be_read_is_one_all_the_same(
    server: tuple[str, type[Metadata]],
) -> None:
    url, metadata = server
    metadata.notice = "soon"
    assert spot.aws_seconds_left(url) == 120


def test_compute_engine_gives_half_a_minute(server: tuple[str, type[Metadata]]) -> None:
    url, metadata = server
    metadata.preempted = "TRUE"
    assert spot.gcp_seconds_left(url) == 30


def test_no_proxy_is_asked(
    server: tuple[str, type[Metadata]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, metadata = server
    metadata.preempted = "TRUE"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert spot.gcp_seconds_left(url) == 30


def test_where_nobody_answers_there_is_no_notice() -> None:
    assert spot.aws_seconds_left("http://127.0.0.1:9") is None
    assert spot.gcp_seconds_left("http://127.0.0.1:9") is None


def test_the_watcher_drains_once_when_the_notice_comes(
    server: tuple[str, type[Metadata]],
) -> None:
    url, metadata = server
    drained: list[float] = []
    asks = (lambda: spot.aws_seconds_left(url), lambda: spot.gcp_seconds_left(url))
    thread = threading.Thread(target=lambda: spot.watch(drained.append, asks, every_s=0.02))
    thread.start()
    time.sleep(0.2)
    assert drained == []  # a slow machine has asked less often by now, and heard the same
    metadata.preempted = "TRUE"
    thread.join(250)
    assert drained == [30]


_DRAIN = """
import ray
from ray.cluster_utils import Cluster
from insetgan_batch.runtime import cluster, spot
import os

lab = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
lab.add_node(num_cpus=1)  # no driver can join a node that is drained, and an idle one just goes
os.environ["RAY_ADDRESS"] = lab.address

@ray.remote(num_cpus=1, lifetime="detached")
class Busy:
    def ready(self):
        return True

ray.init()
ray.get([Busy.options(name=name).remote().ready.remote() for name in "ab"])
ray.shutdown()
spot.drain_this_node(90)
ray.init()
(left_s,) = cluster.draining().values()
print("left", left_s)
ray.shutdown()
lab.shutdown()
"""


@pytest.mark.ray
def test_ray_knows_the_node_that_was_drained_and_for_how_long() -> None:
    """In a process of its own: Ray reads how it authenticates when it is imported."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", _DRAIN], env=environment, capture_output=True, text=True, timeout=600
    )
    found = re.search(r"left ([0-9.]+)", done.stdout)
    assert found, done.stderr[-2000:]
    assert 60 < float(found[1]) <= 90
