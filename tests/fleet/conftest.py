"""A place for a machine of one's own, which `apart.run` makes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import apart


@pytest.fixture
def place() -> Iterator[Path]:
    """Near the root, since Ray's sockets lie below it and their paths must be short."""
    apart.skip_where_it_may_not()
    made = Path(tempfile.mkdtemp(prefix="fleet", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def clone(place: Path) -> Path:
    """What of a clone the commands use."""
    folder = place / "clone"
    shutil.copytree(apart.ROOT / "jobs", folder / "jobs")
    shutil.copytree(apart.ROOT / "cluster", folder / "cluster")
    return folder
