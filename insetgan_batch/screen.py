"""Progress for people: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn

if TYPE_CHECKING:
    from insetgan_batch.runtime.tally import Progress

_PLAIN_LINE_EVERY_S = 5.0


class Screen:
    """Progress for people: a live bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._live = console.is_terminal
        self._bar = rich.progress.Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}"),
            console=console,
            disable=not self._live,
        )
        self._task = self._bar.add_task("starting", total=None, details="")
        self._said_at = 0.0

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, what: str) -> None:
        """One step of the way to the first item."""
        self._bar.update(self._task, description=what)
        if not self._live:
            print(f"{what} ...", file=sys.stderr, flush=True)

    def update(self, progress: Progress) -> None:
        """Show where the run stands."""
        details = _details(progress)
        done = progress.committed + progress.quarantined
        self._bar.update(
            self._task, description="items", completed=done, total=progress.items, details=details
        )
        for outcome in progress.last:
            if outcome.reason:
                line = f"{outcome.item_id}: {outcome.reason}: {outcome.detail}"
                self._bar.console.print(line, markup=False)
        is_news = progress.last or time.monotonic() - self._said_at > _PLAIN_LINE_EVERY_S
        if not self._live and is_news:
            print(f"{done}/{progress.items} items, {details}", file=sys.stderr, flush=True)
            self._said_at = time.monotonic()


def _details(progress: Progress) -> str:
    parts = [
        f"{progress.left} left",
        f"{progress.inside} in work on {progress.workers_ready} workers",
    ]
    if progress.quarantined:
        parts.append(f"{progress.quarantined} quarantined")
    parts.append(f"{progress.steps} steps")
    if progress.items_per_minute:
        parts.append(f"{progress.items_per_minute:.1f} items/min")
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        parts.append(f"about {minutes}:{seconds:02d} to go")
    return ", ".join(parts)
