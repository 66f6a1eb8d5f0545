from __future__ import annotations

import pytest

from insetgan_batch.records import Outcome, Status
from insetgan_batch.runtime.progress import ProgressTracker


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def done(steps: int) -> Outcome:
    return Outcome("a", "1-1", Status.COMMITTED, steps=steps)


def test_the_rate_counts_from_the_first_worker_that_is_ready() -> None:
    clock = Clock()
    tracker = ProgressTracker(10, 2, 1, 400, clock)
    assert tracker.left == 7
    clock.now_s += 50
    tracker.start_clock()
    clock.now_s += 30
    tracker.start_clock()
    tracker.count_commit(done(100))
    tracker.count_commit(None)  # a late commit of an earlier driver
    progress = tracker.progress(workers=1, ready=1, inside=0, last=[])
    assert progress.items_per_minute == pytest.approx(2.0)
    assert (progress.committed, progress.quarantined, progress.left) == (4, 1, 5)


def test_steps_of_all_workers_count_once_however_often_they_are_told() -> None:
    tracker = ProgressTracker(10, 0, 0, 400)
    for steps in (10, 20, 20):
        tracker.see_steps("a", steps)
    tracker.see_steps("b", 5)
    assert tracker.progress(workers=2, ready=2, inside=0, last=[]).steps == 25


def test_the_time_left_comes_from_the_steps_that_are_left() -> None:
    clock = Clock()
    tracker = ProgressTracker(3, 0, 0, 400, clock)
    assert tracker.progress(workers=1, ready=0, inside=0, last=[]).seconds_left is None
    tracker.start_clock()
    clock.now_s += 10
    tracker.see_steps("a", 100)
    tracker.count_commit(done(100))
    # Two items of 100 steps are left, at 10 steps a second.
    assert tracker.progress(workers=1, ready=1, inside=0, last=[]).seconds_left == pytest.approx(20)


def test_items_inside_count_as_the_longest_there_is() -> None:
    clock = Clock()
    tracker = ProgressTracker(1, 0, 0, 240, clock)
    tracker.start_clock()
    clock.now_s += 10
    tracker.see_steps("a", 100)
    # 140 of 240 steps are left.
    left_s = tracker.progress(workers=1, ready=1, inside=1, last=[]).seconds_left
    assert left_s == pytest.approx(14)


def test_how_sure_the_time_left_is_comes_from_how_much_items_differ() -> None:
    clock = Clock()
    tracker = ProgressTracker(6, 0, 0, 400, clock)
    tracker.start_clock()
    clock.now_s += 10
    tracker.see_steps("a", 200)
    tracker.count_commit(done(90))
    assert tracker.progress(workers=1, ready=1, inside=0, last=[]).give_or_take_s is None
    tracker.count_commit(done(110))
    # Of 90 and 110 steps the variance is 200; of 4 others' sum 4 * 200 + 16 * 200 / 2 = 2400.
    told = tracker.progress(workers=1, ready=1, inside=0, last=[])
    assert told.seconds_left == pytest.approx(20)
    assert told.give_or_take_s == pytest.approx(2 * 2400**0.5 / 20)


def test_items_that_are_all_alike_leave_no_doubt() -> None:
    clock = Clock()
    tracker = ProgressTracker(5, 0, 0, 400, clock)
    tracker.start_clock()
    clock.now_s += 10
    tracker.see_steps("a", 300)
    for _ in range(3):
        tracker.count_commit(done(100))
    assert tracker.progress(workers=1, ready=1, inside=0, last=[]).give_or_take_s == 0
