"""To do a manifest, and to plan that: `run`, `plan`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insetgan_batch.cli.expanding import expanded
from insetgan_batch.cli.insetgan.options import ConfigOptions, RowOptions
from insetgan_batch.cli.shared import (
    JsonLines,
    Manifest,
    MaxActors,
    MetricsAddress,
    RunId,
    Seeds,
    leave_if_damaged,
    one_of,
    print_lines,
)
from insetgan_batch.errors import ConfigError
from insetgan_batch.metrics_server import DEFAULT_ADDRESS
from insetgan_batch.screen import open_screen
from insetgan_batch.text import printable

if TYPE_CHECKING:
    from insetgan_batch.config import RunConfig

app = typer.Typer()
ConfigFile = Annotated[Path, typer.Argument(help="The run configuration, YAML.")]
_AS_GIVEN, _SAME = RowOptions(), ConfigOptions()
Out = Annotated[str, typer.Option(help="Where the run lives: a directory or s3://bucket/prefix.")]


@app.command()
@expanded
def run(
    config: ConfigFile,
    out: Out,
    manifest: Manifest = None,
    seeds: Seeds = None,
    rows: RowOptions = _AS_GIVEN,
    run_id: RunId = None,
    changes: ConfigOptions = _SAME,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.")
    ] = None,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="With --limit: N rows drawn at random."),
    ] = False,
    max_actors: MaxActors = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Show the plan first, and start without asking.")
    ] = False,
    metrics_address: MetricsAddress = DEFAULT_ADDRESS,
    as_json: JsonLines = False,
) -> None:
    """Do everything in a manifest. The same command again resumes, and finds everything done."""
    from insetgan_batch.config import load

    if sample and limit is None:
        raise ConfigError("--sample draws as many rows as --limit says: give --limit N too")
    chosen = load(config, changes.change)
    uri = rows.rows(chosen, out, manifest, seeds)
    if max_actors is not None:
        chosen = chosen.on(max_actors=max_actors)
    if yes:
        _show_plan(chosen, uri, out, None, as_json=False)
    some = None if limit is None else (limit, sample)
    execute(chosen, uri, out, run_id, some, metrics_address=metrics_address, as_json=as_json)


@app.command()
@expanded
def plan(
    config: ConfigFile,
    out: Out,
    manifest: Manifest = None,
    seeds: Seeds = None,
    changes: ConfigOptions = _SAME,
    price: Annotated[
        float | None,
        typer.Option("--price-per-gpu-hour", min=0, help="Of one GPU, or actor: adds the cost."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check the whole manifest and the weights, try a few items, and say what a run will take."""
    from insetgan_batch.config import load

    rows = one_of(manifest, seeds)
    _show_plan(load(config, changes.change), rows, out, price, as_json=as_json)


def execute(
    config: RunConfig,
    manifest: str,
    out: str,
    run_id: str | None = None,
    subset: tuple[int, bool] | None = None,
    *,
    metrics_address: str,
    as_json: bool,
) -> None:
    """Run with a screen, say how it ended, and leave with the right code.

    subset: how many of the rows, and whether they are drawn at random.
    """
    with open_screen(as_json=as_json) as screen:
        screen.say("loading")
        from insetgan_batch.runtime import driver

        screen.say("starting Ray and the generators")
        summary = driver.run(
            config,
            manifest,
            out,
            run_id=run_id,
            subset=None if subset is None else driver.Subset(*subset),
            on_progress=screen.update,
            on_step=screen.say,
            metrics_address=metrics_address,
        )
    if as_json:
        print(json.dumps({"event": "summary"} | dataclasses.asdict(summary)))
    else:
        print(
            f"{summary.committed} of {summary.items} items are committed,"
            f" {summary.quarantined} quarantined ({summary.seconds:.0f} s)"
        )
        print(f"page: {printable(summary.report_uri)}")
    leave_if_damaged(out, summary.damaged)
    if summary.committed < summary.items:
        raise typer.Exit(1)


def _show_plan(
    config: RunConfig, manifest: str, out: str, price: float | None, *, as_json: bool
) -> None:
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.runtime import plan as planning

        made = planning.make(config, manifest, out, price_per_hour=price, on_step=screen.say)
    if as_json:
        print(json.dumps(dataclasses.asdict(made)))
        return
    print_lines(planning.describe(made))
