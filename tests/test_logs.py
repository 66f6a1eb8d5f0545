"""What is logged: for people, and for machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from insetgan_batch import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.getLogger("insetgan_batch").setLevel(logging.NOTSET)
    logs.name_run("")


def test_json_lines_name_run_item_and_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.name_run("mine")
    names = {"item": "a", "attempt": "1-2", "reason": "no_face"}
    logging.getLogger("insetgan_batch.x").info("item %s\nfailed", "a", extra=names)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert (
        told
        == {
            "level": "info",
            "logger": "insetgan_batch.x",
            "message": "item a\nfailed",
            "run": "mine",
        }
        | names
    )


def test_what_is_not_known_is_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    logging.getLogger("x").warning("so")
    assert json.loads(capsys.readouterr().err).keys() == {"time", "level", "logger", "message"}


def test_a_trace_stays_on_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: no" in json.loads(line)["trace"]


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("error", 1)])
def test_the_level_says_what_is_left_out(
    level: logs.Level, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level, "text")
    log = logging.getLogger("insetgan_batch.x")
    for say in (log.debug, log.info, log.warning, log.error):
        say("so")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines
    assert told[-1] == "ERROR insetgan_batch.x: so"


def test_configured_again_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logs.configure("info", "text")
    logging.getLogger("insetgan_batch.x").info("so")
    assert capsys.readouterr().err == "INFO insetgan_batch.x: so\n"


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_other_packages_are_heard_from_warning_on(
    level: logs.Level, capsys: pytest.CaptureFixture[str]
) -> None:
    """botocore tells keys at `debug`."""
    logs.configure(level, "text")
    for name in ("botocore.auth", "urllib3", "s3transfer", "PIL", "insetgan_batch.x"):
        logging.getLogger(name).debug("secret of %s", name)
        logging.getLogger(name).error("trouble of %s", name)
    said = capsys.readouterr().err
    secrets = [line for line in said.splitlines() if "secret" in line]
    assert all("insetgan_batch.x" in line for line in secrets)
    assert len(secrets) == (level == "debug")
    assert said.count("trouble") == 5


def test_a_line_repeats_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logging.getLogger("insetgan_batch.x").warning("no %s", "s3://AKIA:pass/word@bucket/a")
    assert capsys.readouterr().err == "WARNING insetgan_batch.x: no s3://***@bucket/a\n"


class _Gone(io.StringIO):
    """A terminal that has been closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_who_reads_the_log_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("info", "text")
    monkeypatch.setattr("sys.stderr", _Gone())
    logging.getLogger("insetgan_batch.x").warning("nobody hears this")


def test_what_others_wrote_moves_no_cursor_and_begins_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("warning", "text")
    logging.getLogger("insetgan_batch.x").warning("found %s", "\x1b]0;title\x07\nERROR all is lost")
    said = capsys.readouterr().err
    assert said == "WARNING insetgan_batch.x: found \\x1b]0;title\\x07\\nERROR all is lost\n"
