"""Signals to a run, at every moment of its life: what is in work is handed over, nothing stays
behind, and the same command goes on.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.lives import MOMENTS, Life, faults_of_stop, handed_over, inputs_in

pytestmark = pytest.mark.ray
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.timeout(900)
def test_a_run_that_is_stopped_again_and_again_gets_done(tmp_path: Path) -> None:
    """Each life is stopped at a later moment than the one before, by the next of three signals.

    `benchmarks/signals.py` sends each of them at each moment.
    """
    inputs, out = inputs_in(tmp_path), tmp_path / "out"
    for (name, moment), number in zip(MOMENTS.items(), cycle(_SIGNALS), strict=False):
        shutil.rmtree(out / "report", ignore_errors=True)
        faults = faults_of_stop(Life(inputs, out), moment, number)
        assert not faults, f"{number.name} when {name}: {faults}"
        if name == "work is under way":
            assert len(handed_over(out)) == 2  # of two slots
    life = Life(inputs, out)
    assert life.end() == 0, life.said
    assert life.committed() == 6


@pytest.fixture
def life_at_work(tmp_path: Path) -> Iterator[Life]:
    """Two items that take long."""
    life = Life(inputs_in(tmp_path, rounds=1000), tmp_path / "out")
    try:
        life.wait_for(MOMENTS["work is under way"])
        yield life
    finally:
        life.kill()


def test_the_second_signal_does_not_wait_for_a_worker_that_hangs(life_at_work: Life) -> None:
    worker = next(p for p in life_at_work.below if "ray::WorkerActor" in p.cmdline()[0])
    worker.suspend()
    life_at_work.send(signal.SIGINT)
    time.sleep(1)  # the two are not one wish
    life_at_work.send(signal.SIGINT)
    assert life_at_work.end() == 3
    assert "not every actor closed" not in life_at_work.said
    assert not life_at_work.left_behind()


def _steps_on(screen: int) -> int:
    """The most of what a terminal shows next; a round of two items is 8."""
    shown = os.read(screen, 65536).decode(errors="replace")
    return max(map(int, re.findall(r"(\d+) steps", shown)), default=0)


def test_a_terminal_that_is_closed_ends_the_run_in_order(tmp_path: Path) -> None:
    """Nothing can be written to it any more, and the system sends SIGHUP."""
    inputs, out = inputs_in(tmp_path, rounds=1000), tmp_path / "out"
    screen, terminal = pty.openpty()
    life = Life(inputs, out, terminal=terminal)
    try:
        os.close(terminal)
        life.wait_for(lambda life: _steps_on(screen) >= 16)
        os.close(screen)
        assert life.end() == 3
        assert len(handed_over(out)) == 2
        assert not life.left_behind()
    finally:
        life.kill()
