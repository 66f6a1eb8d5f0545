"""The program with all of its commands. Torch and Ray are imported by the commands that need them:
`--help` is quick.

Exit codes: 0 every item is committed; 1 some are quarantined; 2 the command, a file or the
configuration is wrong, or the store refuses; 3 the run stopped before its end (the same command
resumes it).
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from insetgan_batch import logs, stopping
from insetgan_batch.cli import cluster, dataset, keep, run, show
from insetgan_batch.cli.insetgan import demo, faces, generators
from insetgan_batch.errors import (
    CheckpointError,
    ConfigError,
    DamagedError,
    InsetGanError,
    ManifestError,
    MissingPackageError,
    NotFoundError,
    RefusedError,
    without_secrets,
)
from insetgan_batch.text import printable

_WRONG_INPUT = (
    ConfigError,
    ManifestError,
    CheckpointError,
    MissingPackageError,
    NotFoundError,
    DamagedError,
    RefusedError,
)


class _Explained(TyperGroup):
    """Commands whose errors of ours become one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Call the command that was chosen."""
        try:
            with stopping.interruptible():
                return super().invoke(ctx)
        except InsetGanError as err:
            print(f"insetgan-batch: {printable(err)}", file=sys.stderr)
            raise typer.Exit(2 if isinstance(err, _WRONG_INPUT) else 3) from err
        except OSError as err:
            print(f"insetgan-batch: {printable(without_secrets(str(err)))}", file=sys.stderr)
            raise typer.Exit(3) from err
        except KeyboardInterrupt as err:
            print(stopping.SAYING, file=sys.stderr)
            raise typer.Exit(stopping.EXIT_CODE) from err


app = typer.Typer(
    cls=_Explained, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
# In the order of `--help`.
for commands in (demo, run, keep, dataset, cluster, show, generators):
    app.add_typer(commands.app)
app.add_typer(faces.app, name="manifest")


@app.callback()
def _options(
    log_level: Annotated[
        logs.Level, typer.Option(help="What is logged on the standard error; info: every item.")
    ] = "warning",
    log_format: Annotated[
        logs.Format, typer.Option(help="json: an object a line, with run, item and attempt.")
    ] = "text",
) -> None:
    """InsetGAN as a batch job: faces sewn into bodies by the million."""
    logs.configure(log_level, log_format)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; arguments: None for the process' own."""
    stopping.listen()
    code: str | int | None = 0
    try:
        app(arguments)
    except SystemExit as ended:
        code = ended.code
    except Exception:  # noqa: BLE001 - the last door: a bug must not look like exit code 1
        code = stopping.EXIT_CODE
        said = stopping.SAYING if stopping.is_asked() else traceback.format_exc()
        with contextlib.suppress(OSError):  # nobody hears of it where the terminal has gone
            print(without_secrets(said), file=sys.stderr)
    if stopping.is_asked():
        stopping.leave(code if isinstance(code, int) else stopping.EXIT_CODE)
    sys.exit(code)
