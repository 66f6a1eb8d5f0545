"""What a program says of itself: lines for people, or JSON objects, one a line, for machines.

A record may name its item and its attempt (`extra={"item": ..., "attempt": ...}`); its run is the
one that `name_run` named last, since a process drives one run at a time.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

_NAMES = ("run", "item", "attempt", "reason")
_run: str | None = None


def configure(level: Level, layout: Format) -> None:
    """Say what is at least of this level on the standard error, for the rest of the process."""
    handler = _StandardError()
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if layout == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def name_run(run_id: str) -> None:
    """What follows is of this run."""
    global _run
    _run = run_id


class _StandardError(logging.Handler):
    """The one of the moment: a live screen puts itself in its place, and keeps lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


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
