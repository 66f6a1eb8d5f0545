"""Three schedules of faults; `make chaos` plays fifty. Each takes one to two minutes."""

from __future__ import annotations

import pytest

from tests.chaos.harness import play_apart

pytestmark = pytest.mark.ray


@pytest.mark.timeout(330)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_run_under_fire_loses_nothing_and_does_nothing_twice(seed: int) -> None:
    """2: an actor, a drain, a machine. 3: the head, an actor, late answers, the driver. 4: a
    drain, SlowDown, the driver, an actor.

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
