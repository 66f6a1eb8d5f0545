"""Where a worker's time goes, on a clock of our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from insetgan_batch.errors import RefusedError, StorageError
from insetgan_batch.records import WorkerStats
from insetgan_batch.runtime.stats import ENTER, LEAVE, LOAD, WAIT, StatsRecorder


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def stats(recorder: StatsRecorder, in_batch: int = 0) -> WorkerStats:
    return recorder.stats(in_batch, gpu_memory_peak_bytes=None, gpu_utilisation=None)


def failing(error: StorageError) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Clock) -> StatsRecorder:
    """Of four slots; it took two seconds to load, and one passed before the first round."""
    made = StatsRecorder(4, clock)
    clock.now_s += 2
    made.spent(LOAD, 0)
    with made.at_work():
        clock.now_s += 1
        made.spent(ENTER, 1)
    return made


def test_all_of_the_time_is_in_one_phase_or_another(recorder: StatsRecorder, clock: Clock) -> None:
    clock.now_s += 7
    with recorder.at_work():
        clock.now_s += 1
        recorder.spent(ENTER, 3)
        clock.now_s += 10
        recorder.spent("canvas", 3)
        clock.now_s += 5
        recorder.spent(LEAVE, 3)
    clock.now_s += 2
    found = stats(recorder, in_batch=1)
    assert found.seconds == {LOAD: 2, ENTER: 2, WAIT: 9, "canvas": 10, LEAVE: 5}
    assert sum(found.seconds.values()) == clock.now_s - 100
    # Without the load: 1 s with one item, 16 s with three, 9 s with none.
    assert found.busy_slot_s == 1 + 16 * 3
    assert found.busy_slot_s + found.idle_slot_s == 4 * (clock.now_s - 102)


def test_no_total_ever_goes_back_whenever_one_looks(recorder: StatsRecorder, clock: Clock) -> None:
    seen = [stats(recorder)]
    for _ in range(3):
        clock.now_s += 1
        seen.append(stats(recorder))
        with recorder.at_work():
            clock.now_s += 1
            seen.append(stats(recorder, in_batch=4))
            recorder.spent("canvas", 4)
            seen.append(stats(recorder, in_batch=4))
    for total in ("busy_slot_s", "idle_slot_s"):
        values = [getattr(found, total) for found in seen]
        assert values == sorted(values)


def test_busy_are_the_items_of_the_last_round_until_none_is_left(recorder: StatsRecorder) -> None:
    with recorder.at_work():
        recorder.spent("canvas", 3)
        assert stats(recorder, in_batch=3).busy == 3
    assert stats(recorder, in_batch=1).busy == 3  # two have just left, others will enter
    assert stats(recorder, in_batch=0).busy == 0


def test_uploads_and_errors_of_the_store_add_up(recorder: StatsRecorder) -> None:
    recorder.uploaded(100, 0.5)
    recorder.uploaded(50, 0.25)
    for error in (StorageError("away"), StorageError("away"), RefusedError("denied")):
        with pytest.raises(StorageError):
            recorder.watched(failing(error))
    assert recorder.watched(lambda: 7) == 7
    found = stats(recorder)
    assert (found.upload_bytes, found.upload_s) == (150, 0.75)
    assert found.storage_errors == {"outage": 2, "refused": 1}
