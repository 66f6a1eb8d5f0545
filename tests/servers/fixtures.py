"""Fixtures: real S3 servers, started once for all tests; a test file's conftest imports them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import rgw_server, swift_server
from tests.servers.s3_server import S3Server


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """OpenStack Swift whose conditional writes have one winner."""
    if not swift_server.PYTHON.exists():
        pytest.skip(swift_server.MISSING)
    with swift_server.running(tmp_path_factory.mktemp("swift"), one_winner=True) as server:
        yield server


@pytest.fixture(scope="session")
def plain_swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """OpenStack Swift as it comes: several racing writers may win."""
    if not swift_server.PYTHON.exists():
        pytest.skip(swift_server.MISSING)
    with swift_server.running(tmp_path_factory.mktemp("plain"), one_winner=False) as server:
        yield server


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Ceph's RADOS gateway."""
    if not rgw_server.is_installed():
        pytest.skip(rgw_server.MISSING)
    with rgw_server.running(tmp_path_factory.mktemp("rgw")) as server:
        yield server


@pytest.fixture(params=["swift", "rgw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the real servers."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The usual AWS places, with nothing in them but keys that nobody knows; one try per call."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return monkeypatch


def new_bucket(server: S3Server, who: tuple[str, str] | None = None) -> str:
    """The name of a fresh one, of the owner or of somebody else."""
    bucket = f"tests-{uuid.uuid4().hex}"
    server.client(who).create_bucket(Bucket=bucket)
    return bucket


@pytest.fixture
def bucket(server: S3Server, aws: pytest.MonkeyPatch) -> str:
    """The name of a fresh bucket of each real server; its owner is logged in."""
    server.log_in(aws)
    return new_bucket(server)
