from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from insetgan_batch.runtime import fitting
from tests.bench import Bench
from tests.runtime.recording import RecordingWorker

MB = 1 << 20


@given(st.integers(0, 10_000), st.integers(1, 1_000), st.integers(1, 100_000))
def test_what_is_measured_fits_and_one_more_would_not(base: int, per_item: int, room: int) -> None:
    slots = fitting.measured(lambda items: base + per_item * items, room)
    assert 1 <= slots <= fitting.MOST
    assert slots == 1 or base + per_item * slots <= room
    assert slots == fitting.MOST or base + per_item * (slots + 1) > room


def test_where_two_do_not_fit_there_is_one_slot() -> None:
    def peak(items: int) -> int:
        if items > 1:
            raise torch.OutOfMemoryError
        return 10 * MB

    assert fitting.measured(peak, 1 << 40) == 1


def test_what_does_not_even_hold_one_says_so() -> None:
    def peak(items: int) -> int:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        fitting.measured(peak, MB)


def test_on_a_cpu_auto_means_four(negatives: Callable[..., Bench]) -> None:
    place = negatives(slots="auto")
    worker = RecordingWorker(place.config, place.out)
    assert worker.free == fitting.ON_CPU
