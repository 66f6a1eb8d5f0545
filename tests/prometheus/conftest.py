"""Skips these tests, and says so, where Prometheus is not installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.prometheus import server
from tests.prometheus.server import Prometheus


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    if not server.is_installed():
        pytest.skip(server.MISSING)


@pytest.fixture(scope="session")
def prometheus(_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Looks for a real run, and for a simulated one in which everything happens."""
    with server.running(tmp_path_factory.mktemp("prometheus"), ["real", "simulated"]) as running:
        yield running
