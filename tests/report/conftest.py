"""A run to fill."""

from __future__ import annotations

import pytest

from insetgan_batch.data.commits import RunStore
from tests.report import runs


@pytest.fixture
def store() -> RunStore:
    return runs.new_run()
