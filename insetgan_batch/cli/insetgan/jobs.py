"""What the files of `jobs/` do: a demo or a run, handed to the cluster if there is one."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from insetgan_batch.cli.insetgan.demo import default_out
from insetgan_batch.cli.insetgan.options import Film
from insetgan_batch.cli.main import main
from insetgan_batch.cli.shared import Manifest, MaxActors, RunId, Seeds
from insetgan_batch.errors import ConfigError, InsetGanError
from insetgan_batch.methods.insetgan import demos

_Config = Annotated[str | None, typer.Option(help="The run configuration, YAML.")]
_Out = Annotated[str | None, typer.Option(help="Where the run lives: directory or s3://...")]
_Foreground = Annotated[bool, typer.Option("--foreground", help="Right here, not as a job of Ray.")]


def launch(*recipes: str) -> None:
    """The demo of a recipe, or a run by it; the first by default."""
    job = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    recipe_option = typer.Option(recipes[0], help=f"One of {', '.join(recipes)}.")

    @job.command(help=f"The demo: {demos.find(recipes[0]).about}. With --config: your own run.")
    def _start(
        context: typer.Context,
        config: _Config = None,
        manifest: Manifest = None,
        seeds: Seeds = None,
        out: _Out = None,
        run_id: RunId = None,
        max_actors: MaxActors = None,
        film: Film = None,
        recipe: str = recipe_option,
        foreground: _Foreground = False,
    ) -> None:
        given = {k: str(v) for k, v in context.params.items() if v is not None}
        del given["foreground"]
        if config is None and out is None:
            given["out"] = default_out(recipe)
        try:
            if recipe not in recipes:
                raise ConfigError(f"--recipe {recipe}: expected one of {', '.join(recipes)}")
            command = _command(given)
            _hand_over(command, given, foreground=foreground)
        except InsetGanError as err:
            print(f"insetgan-batch: {err}", file=sys.stderr)
            raise typer.Exit(2) from err
        main(command)

    job()


def _command(given: Mapping[str, str]) -> list[str]:
    """What `insetgan-batch` is called with; given: the job's own options by their names."""
    options = dict(given)
    if options.keys() <= {"out", "film", "recipe"}:
        command = ["demo"]
    elif {"config", "out"} <= options.keys() and ("manifest" in options) != ("seeds" in options):
        command = ["run", options.pop("config")]
    else:
        raise ConfigError(
            "give --config, --out and either --manifest or --seeds, or none of them for the demo"
        )
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", value]
    return command


def _hand_over(command: list[str], given: Mapping[str, str], *, foreground: bool) -> None:
    """Where there is a cluster, let it do the command as a job, and leave with its exit code."""
    from insetgan_batch.runtime import submit

    address = submit.find_cluster()
    if address is None:
        return
    os.environ["RAY_ADDRESS"] = address
    if foreground:
        return
    name = submit.name_of(given.get("run_id"), given["out"])
    write = functools.partial(print, end="", flush=True)
    code = submit.hand_over(submit.connect(address), name, submit.entrypoint_of(command), write)
    raise typer.Exit(code)
