"""Machines that come late, and machines that are slow, in one run on a real cluster."""

from __future__ import annotations

import pytest

from tests.chaos.elastic import play_apart

pytestmark = pytest.mark.ray


def test_a_machine_that_joins_has_work_within_30_seconds_and_does_not_wait_for_a_slow_one() -> None:
    found = play_apart()
    assert found["code"] == 0, found
    assert found["joined_s"] <= 30, found
    assert found["workers"] == 2, found
    assert found["fast"] >= 2 * found["slow"] > 0, found
