"""Progress: one calm screen on a terminal, a plain line now and then elsewhere, or JSON lines."""

from __future__ import annotations

import collections
import dataclasses
import json
import sys
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

import rich.progress
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from insetgan_batch.text import printable

if TYPE_CHECKING:
    from insetgan_batch.records import Outcome
    from insetgan_batch.runtime.progress import Progress, WorkerLine

_PLAIN_LINE_EVERY_S = 5.0
_JSON_LINE_EVERY_S = 1.0
_WORKERS_SHOWN = 8
_FAILURES_SHOWN = 3


class Screen(Protocol):
    """Who shows how far a run is."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def say(self, what: str) -> None:
        """One step of the way to the first item."""

    def update(self, progress: Progress) -> None:
        """Where the run stands."""


def open_screen(*, as_json: bool = False) -> Screen:
    """What fits where the program runs: people read the standard error, machines the output."""
    if as_json:
        return JsonLines(sys.stdout)
    console = Console(stderr=True)
    return LiveScreen(console) if console.is_terminal else PlainLines(sys.stderr)


class LiveScreen:
    """A bar, the workers, and the last failures, always in the same place."""

    def __init__(self, console: Console) -> None:
        self._bar = rich.progress.Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        )
        self._task = self._bar.add_task("starting", total=None)
        self._failures = collections.deque["Outcome"](maxlen=_FAILURES_SHOWN)
        self._progress: Progress | None = None
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, what: str) -> None:
        """One step of the way to the first item."""
        self._bar.update(self._task, description=what)

    def update(self, progress: Progress) -> None:
        """Where the run stands."""
        done = progress.committed + progress.quarantined
        self._bar.update(self._task, description="items", completed=done, total=progress.items)
        self._failures.extend(outcome for outcome in progress.last if outcome.reason)
        self._progress = progress

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [self._bar]
        if self._progress is not None:
            parts.append(Text(details(self._progress), style="dim"))
            parts += _workers(self._progress.lines)
        for outcome in self._failures:
            parts.append(Text(_failure(outcome), style="red", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)


def _workers(lines: list[WorkerLine]) -> list[RenderableType]:
    if not lines:
        return []
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("worker", "slots", "ended", "steps/s"):
        table.add_column(name, justify="left" if name == "worker" else "right")
    for line in lines[:_WORKERS_SHOWN]:
        slots = f"{line.inside} of {line.slots}" if line.slots else "loading"
        table.add_row(line.worker_id, slots, str(line.ended), f"{line.steps_per_s:.1f}")
    more = len(lines) - _WORKERS_SHOWN
    return [table, Text(f"and {more} more", style="dim")] if more > 0 else [table]


class PlainLines:
    """For a log: a line when something ended, and now and then in between; failures too."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._said_at_s: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, what: str) -> None:
        """One step of the way to the first item."""
        print(f"{what} ...", file=self._stream, flush=True)

    def update(self, progress: Progress) -> None:
        """Where the run stands."""
        for outcome in progress.last:
            if outcome.reason:
                print(_failure(outcome), file=self._stream)
        now_s = time.monotonic()
        is_time = self._said_at_s is None or now_s > self._said_at_s + _PLAIN_LINE_EVERY_S
        if progress.last or is_time:
            done = progress.committed + progress.quarantined
            line = f"{done}/{progress.items} items, {details(progress)}"
            print(line, file=self._stream, flush=True)
            self._said_at_s = now_s


class JsonLines:
    """For machines: an object a line, told apart by `event`: step, item, progress.

    Each item that ends has its line; progress comes at most once a second, and after the last item.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._said_at_s: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, what: str) -> None:
        """One step of the way to the first item."""
        self._write({"event": "step", "step": what})

    def update(self, progress: Progress) -> None:
        """Where the run stands."""
        for outcome in progress.last:
            self._write({"event": "item"} | dataclasses.asdict(outcome))
        now_s = time.monotonic()
        is_time = self._said_at_s is None or now_s > self._said_at_s + _JSON_LINE_EVERY_S
        if is_time or (progress.last and not progress.left):
            fields = dataclasses.asdict(progress)
            del fields["last"]
            workers = fields.pop("lines")
            self._write({"event": "progress"} | fields | {"lines": workers})
            self._said_at_s = now_s

    def _write(self, fields: dict[str, Any]) -> None:
        print(json.dumps(fields), file=self._stream, flush=True)


def details(progress: Progress) -> str:
    """Rate, time left and the like, in one line."""
    parts = [f"{progress.left} left"]
    if progress.seconds_left is not None:
        left = f"about {clock(progress.seconds_left)} to go"
        if progress.give_or_take_s is not None:
            left += f" (± {clock(progress.give_or_take_s)})"
        parts.append(left)
    if progress.items_per_minute:
        parts.append(f"{progress.items_per_minute:.1f} items/min")
    if progress.quarantined:
        parts.append(f"{progress.quarantined} quarantined")
    parts.append(f"{progress.inside} in work on {progress.workers_ready} workers")
    parts.append(f"{progress.steps} steps")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Like 0:07, 12:30 or 5:12:30."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _failure(outcome: Outcome) -> str:
    return printable(f"{outcome.item_id}: {outcome.reason}: {outcome.detail}")
