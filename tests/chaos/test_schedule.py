"""Schedules are the same for the same seed, and together they hold every kind of fault."""

from __future__ import annotations

from tests.chaos import schedule


def test_a_seed_names_its_schedule() -> None:
    assert schedule.make(3) == schedule.make(3)
    assert schedule.make(3) != schedule.make(4)


def test_fifty_schedules_have_three_to_eight_faults_and_every_kind_five_times() -> None:
    made = [schedule.make(seed) for seed in range(50)]
    assert {len(faults) for faults in made} == set(range(3, 9))
    kinds = [fault.kind for faults in made for fault in faults]
    assert all(kinds.count(kind) >= 5 for kind in schedule.KINDS)


def test_faults_are_in_the_order_of_time_and_the_first_has_a_moment_of_its_own() -> None:
    for seed in range(50):
        moments = [fault.after for fault in schedule.make(seed)]
        assert moments[0] is not None
        own = [moment for moment in moments if moment is not None]
        assert own == sorted(own)
        assert own[-1] < 1
