"""What others say, made fit for a message."""

from __future__ import annotations

from insetgan_batch.text import one_line, quoted


def test_what_is_said_becomes_one_printable_line() -> None:
    assert one_line(ValueError("no\n  such\tthing")) == "no such thing"
    assert one_line("a\x1b[2Jb") == "a\\x1b[2Jb"


def test_what_is_long_is_cut_and_says_so() -> None:
    assert one_line("x" * 20, 20) == "x" * 20
    assert one_line("x" * 21, 20) == "x" * 17 + "..."
    assert quoted("x" * 21, 20) == "'" + "x" * 17 + "...'"
    assert quoted(list(range(100)), 10) == "[0, 1, ..."


def test_a_value_is_quoted_as_python_writes_it() -> None:
    assert quoted("it's\n") == '"it\'s\\n"'
    assert quoted(None) == "None"
