"""Two schedules of faults; `make chaos` plays fifty. Each takes one to two minutes."""

from __future__ import annotations

import pytest

from tests.chaos.harness import play_apart

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("seed", [4, 20])
def test_a_run_under_fire_loses_nothing_and_does_nothing_twice(seed: int) -> None:
    """4: a drain with states that are handed over, SlowDown, the driver, an actor. 20: SlowDown,
    requests that hang, late answers, a machine, errors, the head. Only cut answers are left out.

    Nothing may be in quarantine: one kill from outside must not convict a row.
    """
    result = play_apart(seed)
    verdict = result["verdict"]
    for fault in ("lost", "double", "mismatched", "overwritten", "strangers"):
        assert verdict[fault] == [], result
    assert verdict["quarantined"] == {}, result
    assert verdict["committed"] == verdict["items"], result
    assert result["stuck"] == 0, result
    codes = [life["code"] for life in result["lives"]]
    assert codes[-1] == 0, result
    # Killed, or stopped to be resumed: no fault is taken for a mistake of the user (2).
    assert set(codes) <= {0, 3, -9}, result
