"""The processes of actors."""

from __future__ import annotations

import contextlib

import psutil


def worker_pids() -> list[int]:
    """Processes of this Ray that are our actors and have been told to work."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if any("WorkerActor" in part for part in process.cmdline()):
                found.append(process.pid)
    return found
