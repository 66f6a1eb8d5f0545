"""Signals to small programs; `test_signals` sends them to a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from insetgan_batch import stopping
from tests.lives import hear_all, is_alive

_BEGIN = """
import os, signal, subprocess, sys, time
from insetgan_batch import stopping
stopping.listen()
def say(what):
    print(what, flush=True)
"""


def _as_of_nohup() -> None:
    hear_all()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Program:
    """Python code, in a process group of its own, that says what it does."""

    def __init__(self, code: str, directory: Path, *, ignores_hangup: bool = False) -> None:
        path = directory / "program.py"
        path.write_text(_BEGIN + code)
        self._process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_as_of_nohup if ignores_hangup else hear_all,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )

    def line(self) -> str:
        """The next that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        """To its group."""
        os.killpg(self._process.pid, number)

    def end(self) -> tuple[int, list[str]]:
        """(exit code, what it said until then)."""
        said = self._process.communicate(timeout=60)[0]
        return self._process.returncode, said.split("\n")[:-1]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_program_in_order_once_it_has_begun_something(
    name: str, tmp_path: Path
) -> None:
    program = Program(
        """
say("nothing has begun")
try:
    with stopping.interruptible():
        say("begun")
        time.sleep(100)
except KeyboardInterrupt:
    say("interrupted")
stopping.leave(3)
""",
        tmp_path,
    )
    assert [program.line(), program.line()] == ["nothing has begun", "begun"]
    program.send(signal.Signals[name])
    assert program.end() == (3, ["interrupted"])


def test_before_anything_has_begun_a_signal_ends_the_program_there_and_then(
    tmp_path: Path,
) -> None:
    program = Program("say('here')\ntime.sleep(100)", tmp_path)
    program.line()
    program.send(signal.SIGTERM)
    assert program.end() == (3, ["", stopping.SAYING])


def test_a_signal_waits_until_what_is_postponed_is_over(tmp_path: Path) -> None:
    program = Program(
        """
with stopping.interruptible():
    try:
        with stopping.postponed():
            say("postponed")
            while not stopping.is_asked():
                time.sleep(0.01)
            say("asked")
        say("this is not said")
    except KeyboardInterrupt:
        say("interrupted")
""",
        tmp_path,
    )
    program.line()
    program.send(signal.SIGINT)
    assert program.end() == (0, ["asked", "interrupted"])


def test_an_interrupt_that_a_destructor_swallows_comes_again(tmp_path: Path) -> None:
    """What `__del__` raises Python only prints."""
    program = Program(
        """
sys.unraisablehook = lambda what: say(f"swallowed {what.exc_type.__name__}")
class Slow:
    def __del__(self):
        say("destructor")
        time.sleep(100)
with stopping.interruptible():
    try:
        slow = Slow()
        del slow
        time.sleep(100)
    except KeyboardInterrupt:
        say("interrupted")
""",
        tmp_path,
    )
    assert program.line() == "destructor"
    program.send(signal.SIGINT)
    assert program.end() == (0, ["swallowed KeyboardInterrupt", "interrupted"])


def test_what_is_closed_because_of_a_signal_is_not_interrupted_by_the_same(tmp_path: Path) -> None:
    program = Program(
        """
with stopping.interruptible():
    try:
        try:
            say("work")
            time.sleep(100)
        finally:
            with stopping.postponed():
                time.sleep(0.5)
            time.sleep(0.5)
            say("closed")
    except KeyboardInterrupt:
        say("interrupted")
""",
        tmp_path,
    )
    program.line()
    program.send(signal.SIGHUP)
    assert program.end() == (0, ["closed", "interrupted"])


@pytest.mark.parametrize("has_begun", [False, True])
def test_an_import_is_not_interrupted(has_begun: bool, tmp_path: Path) -> None:
    """It may crash an extension that is being loaded: it is waited for, or the last thing done."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom insetgan_batch import stopping\nprint('importing', flush=True)\n"
        "while not stopping.is_asked():\n    time.sleep(0.01)\n"
        "time.sleep(0.5)\nprint('imported', flush=True)\n"
    )
    begin = "with stopping.postponed(): pass" if has_begun else "pass"
    program = Program(
        f"""
with stopping.interruptible():
    {begin}
    try:
        import slow
        time.sleep(100)
    except KeyboardInterrupt:
        say("interrupted")
""",
        tmp_path,
    )
    program.line()
    program.send(signal.SIGTERM)
    expected = (0, ["imported", "interrupted"]) if has_begun else (3, ["", stopping.SAYING])
    assert program.end() == expected


def test_a_second_signal_ends_the_program_and_all_below_it_at_once(tmp_path: Path) -> None:
    """A child, and a grandchild whose parent has gone before."""
    program = Program(
        """
with stopping.interruptible(), stopping.postponed():
    child = subprocess.Popen(["sleep", "100"], preexec_fn=lambda: None)
    other = subprocess.Popen(["sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE)
    say(f"{child.pid} {other.pid} {int(other.stdout.readline())}")
    time.sleep(100)
""",
        tmp_path,
    )
    below = [int(pid) for pid in program.line().split()]
    program.send(signal.SIGINT)
    time.sleep(0.3)
    assert is_alive(below[0])  # the first is postponed
    program.send(signal.SIGTERM)
    assert program.end() == (3, ["", stopping.SAYING])
    assert not any(is_alive(pid) for pid in below)


def test_timeout_asks_once_although_it_sends_its_signal_twice(tmp_path: Path) -> None:
    program = Program(
        """
with stopping.interruptible(), stopping.postponed():
    say("postponed")
    time.sleep(1)
    say("in order")
""",
        tmp_path,
    )
    program.line()
    program.send(signal.SIGTERM)
    time.sleep(0.01)
    program.send(signal.SIGTERM)
    assert "in order" in program.end()[1]


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path) -> None:
    program = Program(
        """
with stopping.interruptible():
    say("works")
    time.sleep(0.5)
    say("works on")
""",
        tmp_path,
        ignores_hangup=True,
    )
    program.line()
    program.send(signal.SIGHUP)
    assert program.end() == (0, ["works on"])


def test_what_python_forks_where_signals_wait_is_not_in_the_process_group(tmp_path: Path) -> None:
    program = Program(
        """
def group_of_child():
    child = subprocess.Popen(["sleep", "100"], preexec_fn=lambda: None)
    group = os.getpgid(child.pid)
    child.kill()
    return "mine" if group == os.getpgid(0) else "its own"
with stopping.interruptible():
    say(group_of_child())
    with stopping.postponed():
        say(group_of_child())
""",
        tmp_path,
    )
    assert program.end() == (0, ["mine", "its own"])
