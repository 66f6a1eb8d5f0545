"""A schedule of faults; `make chaos` plays fifty."""

from __future__ import annotations

import pytest

from tests.chaos.harness import play_apart

pytestmark = pytest.mark.ray


def test_a_run_under_fire_loses_nothing_and_does_nothing_twice() -> None:
    """A drain, damage, SIGTERM, the head.

    Nothing may be in quarantine: one kill from outside must not quarantine a row.
    """
    result = play_apart(22)
    verdict = result["verdict"]
    for fault in ("lost", "double", "mismatched", "overwritten", "strangers"):
        assert verdict[fault] == [], result
    assert verdict["quarantined"] == {}, result
    assert verdict["committed"] == verdict["items"], result
    assert result["stuck"] == 0, result
    codes = [life["code"] for life in result["lives"]]
    assert codes[-1] == 0, result
    # Killed, stopped to be resumed, or ended with something damaged: no fault is taken for a
    # mistake of the user (2).
    assert set(codes) <= {0, 1, 3, -9}, result
