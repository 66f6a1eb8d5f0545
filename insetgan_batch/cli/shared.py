"""What several commands share: their options, and how they report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from insetgan_batch.errors import ConfigError
from insetgan_batch.text import printable

if TYPE_CHECKING:
    from insetgan_batch.data.commits import RunStore
    from insetgan_batch.data.damage import Checked

SHOWN_REASONS = 5
_SAY_EVERY_S = 2.0

Where = Annotated[str, typer.Argument(help="Where the run lives.")]
Manifest = Annotated[str | None, typer.Option(help="The Parquet manifest: a path or URI.")]
Seeds = Annotated[
    str | None,
    typer.Option(help="Instead of a manifest: 0-999; or 'NAME=0-9 OTHER=0-99' for all pairs."),
]
RunId = Annotated[str | None, typer.Option(help="A name for the run.")]
MaxActors = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="So that several runs can share a cluster."),
]
MetricsAddress = Annotated[
    str,
    typer.Option(metavar="HOST:PORT", help="Where Prometheus finds the run's metrics, or off."),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="JSON lines on the output: steps, items, progress, summary.")
]


def one_of(manifest: str | None, seeds: str | None) -> str:
    """The URI of the rows; raises `ConfigError`."""
    if (manifest is None) == (seeds is None):
        raise ConfigError("give either --manifest or --seeds")
    return manifest if manifest is not None else f"seeds:{seeds}"


def open_store(uri: str) -> RunStore:
    """The records of the run that lives there."""
    from insetgan_batch.data.commits import RunStore
    from insetgan_batch.data.storage import open_storage

    return RunStore(open_storage(uri))


class Hashed:
    """Counts what has been read, and says it now and then."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.files = self.bytes = 0
        self._say = now_and_then(say)

    def count(self, checked: Checked) -> None:
        """Some more."""
        self.files += checked.files
        self.bytes += checked.bytes
        self._say(f"hashing: {self.files} files, {self.bytes / 1e9:.2f} GB")


def now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """For what would be said a thousand times a second."""
    again_at_s = 0.0

    def say_sometimes(what: str) -> None:
        nonlocal again_at_s
        if time.monotonic() >= again_at_s:
            say(what)
            again_at_s = time.monotonic() + _SAY_EVERY_S

    return say_sometimes


def print_lines(lines: Iterable[str], file: TextIO | None = None) -> None:
    """What stores and files of others say: on lines of their own, whatever is in them."""
    for line in lines:
        print(printable(line), file=file)


def leave_if_damaged(uri: str, lines: Sequence[str]) -> None:
    """Say what is damaged and how it is mended, and leave with exit code 1, if anything is."""
    if not lines:
        return
    many = f"{len(lines)} items are" if len(lines) > 1 else "1 item is"
    print(f"{many} damaged and left out:", file=sys.stderr)
    print_lines([f"  {line}" for line in lines[:SHOWN_REASONS]], file=sys.stderr)
    if len(lines) > SHOWN_REASONS:
        print("  and more; `insetgan-batch verify` names each", file=sys.stderr)
    print(
        f"insetgan-batch retry {shlex.quote(printable(uri))} --damaged, then the run's own command,"
        " does them again",
        file=sys.stderr,
    )
    raise typer.Exit(1)
