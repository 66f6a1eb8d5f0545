"""What a program says of itself: lines for people, or JSON objects, one a line, for machines.

A record may name its item and its attempt (`extra={"item": ..., "attempt": ...}`); its run is the
one that `name_run` named last, since a process drives one run at a time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from insetgan_batch.errors import without_secrets
from insetgan_batch.text import printable

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

_NAMES = ("run", "item", "attempt", "reason")
_run: str | None = None


def configure(level: Level, layout: Format) -> None:
    """Say what is at least of this level on the standard error, for the rest of the process.

    Other packages are heard from `warning` on: at `debug` botocore tells keys and tokens.
    """
    handler = _StandardError()
    text = _TextFormatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if layout == "json" else text)
    own = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(own, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("insetgan_batch").setLevel(own)


def name_run(run_id: str) -> None:
    """What follows is of this run."""
    global _run
    _run = run_id


class _StandardError(logging.Handler):
    """The one of the moment: a live screen puts itself in its place, and keeps lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # whoever read it has gone; the run goes on
            print(without_secrets(self.format(record)), file=sys.stderr, flush=True)


class _TextFormatter(logging.Formatter):
    """A message on one line; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class' name
        """Without control characters, which files and stores may have put there."""
        return printable(super().formatMessage(record))


class JsonFormatter(logging.Formatter):
    """time (UTC, ISO 8601), level, logger, message; run, item, attempt, reason where known."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in the message."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        named = {"run": _run} | record.__dict__
        fields |= {name: named[name] for name in _NAMES if named.get(name)}
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)
