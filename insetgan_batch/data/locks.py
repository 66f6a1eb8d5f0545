"""A lock that processes of one or several machines share, which is never waited for in silence.

Who holds it writes into `<lock>.owner` who that is. Who waits says so, and how far the holder has
come; a holder that has stopped, or a network file system that has lost one, is given up.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import filelock

from insetgan_batch.errors import RefusedError

# Waiting is told of after so long, and then every so often.
_FIRST_TOLD_S, _TOLD_EVERY_S = 3.0, 30.0
# A holder that gets no further for so long is given up: longer than a store is asked in vain.
_GIVEN_UP_S = 600.0
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def held(path: Path, purpose: str, progress: Callable[[], int], variable: str) -> Iterator[None]:
    """Hold the lock. progress: bytes that the holder has done, whoever it is; variable: of the
    environment, which names the lock's directory.

    Raises `RefusedError` where another holds it and gets no further.
    """
    lock, owner = filelock.FileLock(path), path.with_name(f"{path.name}.owner")
    _acquire(lock, owner, progress, variable)
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}, {purpose} since {now}")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock, owner: Path, progress: Callable[[], int], variable: str
) -> None:
    told_after_s, seen, moved_at_s = _FIRST_TOLD_S, ("", -1), time.monotonic()
    while True:
        try:
            lock.acquire(timeout=told_after_s)
            return
        except filelock.Timeout:
            told_after_s = _TOLD_EVERY_S
        state, now_s = (_read(owner), progress()), time.monotonic()
        if state != seen:
            seen, moved_at_s = state, now_s
        holder, done = state
        if now_s - moved_at_s > _GIVEN_UP_S:
            raise RefusedError(
                f"{lock.lock_file}: held by {holder}, which has got no further for"
                f" {now_s - moved_at_s:.0f} s ({done / 1e6:.1f} MB): end that process, or set"
                f" {variable} to another directory"
            )
        _log.warning(
            "waiting for %s, held by %s (%.1f MB so far)", lock.lock_file, holder, done / 1e6
        )


def _read(owner: Path) -> str:
    try:
        return owner.read_text(errors="replace")[:300] or "another process"
    except OSError:
        return "another process"
