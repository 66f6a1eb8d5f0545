"""A lock that somebody else holds: who that is, and when there is no more use in waiting."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from insetgan_batch.data import locks
from insetgan_batch.errors import RefusedError


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is told at once."""
    monkeypatch.setattr(locks, "_FIRST_TOLD_S", 0.01)
    monkeypatch.setattr(locks, "_TOLD_EVERY_S", 0.01)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its input ends."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from insetgan_batch.data import locks\n"
        "with locks.held(Path(sys.argv[1]), 'fetching s3://b/body', lambda: 0, 'CACHE'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with process:
        yield process
        process.kill()


def wait(path: Path, progress: Iterator[int]) -> None:
    with locks.held(path, "fetching", lambda: next(progress), "CACHE"):
        pass


def test_a_free_lock_is_taken_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with locks.held(tmp_path / "lock", "fetching x", lambda: 0, "CACHE"):
        owner = (tmp_path / "lock.owner").read_text()
    assert f"process {os.getpid()} on {socket.gethostname()}, fetching x since 20" in owner
    assert not (tmp_path / "lock.owner").exists()
    assert not caplog.records


def test_who_waits_says_for_whom_and_goes_on_once_the_lock_is_free(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    locks._log.addHandler(handler := Heard())
    progress = iter(range(0, 10**12, 1_500_000))
    waiter = threading.Thread(target=wait, args=(tmp_path / "lock", progress))
    try:
        waiter.start()
        assert told.wait(250)
        assert holder.stdin is not None
        holder.stdin.close()  # it lets go
        waiter.join(250)
        assert not waiter.is_alive()
    finally:
        locks._log.removeHandler(handler)
    first = caplog.records[0].getMessage()
    named = f"held by process {holder.pid} on {socket.gethostname()}, fetching s3://b/body since "
    assert f"waiting for {tmp_path / 'lock'}, {named}" in first
    assert first.endswith("(0.0 MB so far)")


def test_a_holder_that_gets_no_further_is_given_up_in_one_line(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_GIVEN_UP_S", 0.05)
    with pytest.raises(RefusedError) as caught:
        wait(tmp_path / "lock", iter([5_000_000] * 10_000))
    text = str(caught.value)
    assert f"{tmp_path / 'lock'}: held by process {holder.pid} on " in text
    assert "(5.0 MB): end that process, or set CACHE to another directory" in text
    assert "\n" not in text


def test_a_lock_whose_holder_has_died_is_free(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / "lock.owner").exists()
    wait(tmp_path / "lock", iter([0]))
    assert not (tmp_path / "lock.owner").exists()
