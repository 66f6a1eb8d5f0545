"""SIGINT, SIGTERM and SIGHUP: the first one ends the process in order, the second one at once.

Why a thread that waits for them (sigwait), and no handlers of their own: Ray replaces the handlers
while it starts; and what a handler raises is swallowed where Python happens to be in a destructor
or a fork, and may crash an extension that is being loaded. So `KeyboardInterrupt` is raised in the
main thread, which does the work, only where that is safe, and again until it is on its way.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import psutil

EXIT_CODE = 3
SAYING = "insetgan-batch: stopped; the same command goes on"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WAKE = signal.SIGUSR1  # lets the main thread leave a system call and look
_AGAIN_S = 0.1
# `timeout` sends its signal to the process and then to its group: that is one wish, not two.
_SAME_WISH_S = 0.1
_UNKILLABLE_S = 5.0  # a process may be stuck in the system
_PR_SET_CHILD_SUBREAPER = 36
_SHOW_CURSOR = "\x1b[?25h"  # a live screen has hidden it


class _Manner(enum.Enum):
    """What the first signal does."""

    END = enum.auto()  # the process, there and then: nothing has begun
    RAISE = enum.auto()
    WAIT = enum.auto()
    NOTHING = enum.auto()  # the process ends anyway


_manner = _Manner.END
_asked_at_s: float | None = None
_listens = False
_has_begun = False  # something that must be ended in order


def listen() -> None:
    """From now on the signals are heard here; those that are ignored (`nohup`) stay so.

    For the main thread, before there is any other: a thread inherits which signals it gets.
    """
    global _listens
    if _listens:
        return
    _listens = True
    heard = {number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    signal.signal(_WAKE, _interrupt)
    os.register_at_fork(after_in_child=_set_apart)
    threading.Thread(target=_wait, args=(heard,), name="signals", daemon=True).start()


def is_asked() -> bool:
    """Whether there has been a signal."""
    return _asked_at_s is not None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Here a signal raises `KeyboardInterrupt`; before it ends the process, after it does nothing,
    since the process ends anyway.
    """
    _become(_Manner.RAISE)
    try:
        yield
    finally:
        _become(_Manner.NOTHING)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Here a signal waits, and `KeyboardInterrupt` comes at the end, unless something is being
    raised already. For calls into Ray, and for what must not be left half done.

    A process that is forked here, which is how Ray starts its own, has a session of its own: what
    is sent to the whole process group (by a terminal, or `timeout`) does not end it before the
    workers have handed over what they hold.
    """
    global _has_begun
    _has_begun = True
    before = _become(_Manner.WAIT)
    try:
        yield
    finally:
        _become(before)
    _raise_if_asked()


def leave(code: int) -> NoReturn:
    """End this process with an exit code, after every process that it has started.

    Without Python's own end, at which the threads of an interrupted library may crash.
    """
    _become(_Manner.NOTHING)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _end_children()
    os._exit(code)


def _end_children() -> None:
    """Kill all processes below this one, until there are none."""
    # Those whose parent is killed become children of this process.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ends_s = time.monotonic() + _UNKILLABLE_S
    while (below := _children()) and time.monotonic() < ends_s:
        for child in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(below, timeout=1)


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if _lives(child)]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _become(manner: _Manner) -> _Manner:
    """The manner before."""
    global _manner
    before, _manner = _manner, manner
    return before


# ---- the thread --------------------------------------------------------------------------------


def _wait(heard: set[signal.Signals]) -> None:
    global _asked_at_s
    while True:
        is_signal = True
        if _asked_at_s is None:
            signal.sigwait(heard)
            _asked_at_s = time.monotonic()
            if _manner is _Manner.END:
                _end_at_once()
        else:
            is_signal = signal.sigtimedwait(heard, _AGAIN_S) is not None
            if is_signal and time.monotonic() - _asked_at_s > _SAME_WISH_S:
                _end_at_once()
        if _manner is _Manner.RAISE:
            signal.pthread_kill(threading.main_thread().ident or 0, _WAKE)


def _end_at_once() -> NoReturn:
    cursor = _SHOW_CURSOR if os.isatty(2) else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}\n{SAYING}\n".encode())
    leave(EXIT_CODE)


# ---- the main thread ---------------------------------------------------------------------------


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _is_importing(frame):
        _raise_if_asked()
    elif not _has_begun:
        _end_at_once()


def _raise_if_asked() -> None:
    """Raise `KeyboardInterrupt` where that is due, and not on its way already."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return
        error = error.__context__
    if _manner is _Manner.RAISE and is_asked():
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


# ---- a child -----------------------------------------------------------------------------------


def _set_apart() -> None:
    """Before it becomes another program."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if _manner is _Manner.WAIT:
        os.setsid()
