"""What stops Ray is said at once, with what to set; no Ray is started here but for its doors."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
import yaml
from ray._private import services
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from typer.testing import CliRunner

from insetgan_batch.cli.main import app
from insetgan_batch.errors import ConfigError
from insetgan_batch.runtime import ray_start, submit
from tests.bench import Bench


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Ray of anybody, a home and a temporary directory."""
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setattr(ray_start, "_TIMEOUT_S", 0.5)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def refused() -> str:
    with pytest.raises(ConfigError) as caught:
        ray_start.check()
    text = str(caught.value)
    assert "\n" not in text
    return text


# Where Ray keeps its files


def test_nobody_else_may_enter_where_ray_keeps_its_files(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    own = short / f"ray-{os.getuid()}"
    for _ in range(2):  # also where it was left open before
        assert ray_start.temporary_directory() == f"{own}/ray"
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        own.chmod(0o777)


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_path_too_long_for_sockets_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv(name, f"/tmp/{'x' * 40}")
    text = refused()
    assert text.startswith(f"{name}=/tmp/xxx")
    assert "set RAY_TMPDIR to a short path" in text
    assert not Path(f"/tmp/{'x' * 40}").exists()


@pytest.mark.parametrize("path", ["/proc/nowhere", "/dev/null"])
def test_a_directory_that_cannot_be_written_is_refused(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", path)
    assert "set RAY_TMPDIR to a directory that you may write" in refused()


def test_a_directory_of_somebody_else_is_refused(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is enough, since it may lead anywhere."""
    (short / f"ray-{os.getuid()}").symlink_to("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    assert "not this user's; set RAY_TMPDIR" in refused()


# The token


def test_a_home_that_cannot_be_written_is_refused_unless_ray_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    text = refused()
    assert "/dev/null/.ray cannot be used" in text
    assert "set HOME to a directory that you may write, or RAY_AUTH_TOKEN" in text
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    ray_start.check()


def test_a_user_without_name_and_home_is_told_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.setattr(ray_start, "temporary_directory", lambda: "fine")
    assert "user 54321 has no name here, and HOME is not set): set HOME" in refused()


def test_a_token_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    token = tmp_path / ".ray" / "auth_token"
    ray_start.check()
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    token.write_text("secret")
    token.chmod(0o644)
    ray_start.check()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


# A cluster


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://10.0.0.5:10001", "set RAY_ADDRESS=HOST:6379"),
        ("http://10.0.0.5:8265", "set RAY_ADDRESS=HOST:6379"),
        ("nonsense", "RAY_ADDRESS=nonsense is no address: expected HOST:PORT"),
        ("10.0.0.5:port", "is no address: expected HOST:PORT"),
        ("10.0.0.5:99999", "is no address: expected HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1 (Connection refused)"),
        ("nowhere.invalid:6379", "no Ray cluster answers at RAY_ADDRESS=nowhere.invalid:6379"),
    ],
)
def test_an_address_at_which_no_ray_can_be_is_refused(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert says in refused()


def test_a_password_in_an_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://somebody:secret@10.0.0.5:8265")
    assert "secret" not in refused()


@pytest.mark.parametrize("address", ["", "local"])
def test_some_addresses_mean_a_ray_of_this_machine(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert ray_start.cluster_address() is None
    ray_start.check()


def at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray takes 127.0.0.1 for the address by which others reach the machine."""
    monkeypatch.setattr(services, "resolve_ip_for_localhost", lambda host: host)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")


def test_a_port_where_something_else_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at(server.server_port, monkeypatch)
        assert "is no head of a Ray cluster" in refused()
        server.shutdown()


def test_a_port_where_nobody_speaks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        at(server.getsockname()[1], monkeypatch)
        assert "is no head of a Ray cluster" in refused()


class _Head(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    """The head of a cluster; a stranger is told to bring its token, as Ray does."""

    def __init__(self, wants_token: bool) -> None:
        self._wants_token = wants_token

    def CheckAlive(self, request: object, context: grpc.ServicerContext) -> object:  # noqa: N802
        if self._wants_token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        return gcs_service_pb2.CheckAliveReply()  # type: ignore[attr-defined]


@pytest.fixture(params=[False, True])
def head(request: pytest.FixtureRequest) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(_Head(request.param), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def test_a_head_is_found(head: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at(head, monkeypatch)
    ray_start.check()


# Before anything is written


@pytest.fixture
def command(montages: Callable[..., Bench], fields: dict[str, Any], tmp_path: Path) -> list[str]:
    """That begins a run."""
    made = montages()
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(fields))
    return ["run", str(tmp_path / "run.yaml"), "--manifest", made.manifest, "--out", made.out]


def test_a_run_that_ray_stops_has_written_nothing(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1" in result.output
    assert not Path(command[-1]).exists()


def test_nor_has_one_that_ray_stops_for_a_reason_of_its_own(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(*args: object, **kwargs: object) -> None:
        raise OSError("of its own")

    monkeypatch.setattr(ray, "init", init)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "Ray does not start on this machine: of its own" in result.output
    assert not Path(command[-1]).exists()


def test_what_stops_ray_stops_pack_before_it_has_read_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.5:10001")
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "set RAY_ADDRESS=HOST:6379" in result.output


def test_a_job_is_not_handed_to_a_cluster_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1 "):
        submit.connect("127.0.0.1:1")


# Its doors

_DOORS = """
import json, os, psutil, ray
from insetgan_batch.runtime import cluster

@ray.remote
class Actor:
    def ready(self):
        return True

with cluster.connected():
    actor = Actor.remote()
    ray.get(actor.ready.remote())
    me = psutil.Process()
    print(json.dumps([
        (" ".join(process.cmdline()), door.laddr.ip)
        for process in [me, *me.children(recursive=True)]
        for door in process.net_connections("tcp")
        if door.status == psutil.CONN_LISTEN
    ]))
"""


@pytest.mark.ray
def test_a_ray_of_this_machine_opens_no_door_to_others(tmp_path: Path, short: Path) -> None:
    """No port but on loopback, and no file that another user could reach."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": str(short), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _DOORS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    doors = json.loads(done.stdout.splitlines()[-1])
    assert len(doors) >= 5, done.stderr
    assert {re.sub("^::ffff:", "", ip) for _, ip in doors} == {"127.0.0.1"}, doors
    assert stat.S_IMODE((tmp_path / ".ray").stat().st_mode) == 0o700
    assert stat.S_IMODE((short / f"ray-{os.getuid()}").stat().st_mode) == 0o700
