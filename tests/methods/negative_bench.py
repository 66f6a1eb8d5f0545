"""A place to run negatives in: some pictures, a manifest of them, and a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from insetgan_batch.config import Settings, parse
from insetgan_batch.data import manifest
from insetgan_batch.records import Item
from tests.bench import Bench
from tests.methods import negative

SCHEMA = negative.rows(Settings())


def items_in(directory: Path, count: int) -> list[Item]:
    """Rows `i0`, `i1`, ... of a gray picture each."""
    made = []
    for n in range(count):
        path = directory / f"{n}.png"
        path.write_bytes(negative.picture(10 + n, side=16 + n % 64))
        made.append(Item(f"i{n}", {"picture": str(path)}))
    return made


def fields(**changes: Any) -> dict[str, Any]:
    """The configuration as a YAML file would hold it; one actor, since each imports torch."""
    return {"method": negative.NAME, "slots": 2, "max_actors": 1} | changes


def bench_in(directory: Path, items: int, **changes: Any) -> Bench:
    """A bench there, with so many rows; changes: of the configuration."""
    uri = str(directory / "manifest.parquet")
    manifest.write(uri, items_in(directory, items), SCHEMA)
    return Bench(parse(fields(**changes), "test"), uri, str(directory / "out"))


@pytest.fixture
def negatives(tmp_path: Path) -> Callable[..., Bench]:
    """Makes a bench for this test."""

    def make(items: int = 4, **changes: Any) -> Bench:
        return bench_in(tmp_path, items, **changes)

    return make
