"""The demos of the recipes: `demo`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from insetgan_batch.cli.insetgan.options import ConfigOptions, Film
from insetgan_batch.cli.run import execute
from insetgan_batch.cli.shared import JsonLines, MetricsAddress
from insetgan_batch.methods.insetgan import demos
from insetgan_batch.metrics_server import DEFAULT_ADDRESS

app = typer.Typer()


@app.command()
def demo(
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(demos.DEMOS)}.")] = "montage",
    out: Annotated[
        str | None,
        typer.Option(help="Where the run lives.", show_default="out/demo, or out/demo-RECIPE"),
    ] = None,
    items: Annotated[
        int | None, typer.Option(min=1, help="Only so many of the results.", show_default="all")
    ] = None,
    film: Film = None,
    metrics_address: MetricsAddress = DEFAULT_ADDRESS,
    as_json: JsonLines = False,
) -> None:
    """Show what a recipe does with the demo generators, and make a page of it."""
    from insetgan_batch.config import parse
    from insetgan_batch.data import manifest
    from insetgan_batch.methods.insetgan.sources import schema

    chosen = demos.find(recipe)
    out = out or default_out(recipe)
    fields = ConfigOptions(film=film).change({"recipe": recipe, **chosen.fields})
    config = parse(fields, f"demo of {recipe}")
    rows = chosen.items[:items]
    manifest_uri = f"{out.rstrip('/')}/manifest-{len(rows)}.parquet"
    manifest.write(manifest_uri, rows, schema(chosen.insets))
    execute(config, manifest_uri, out, metrics_address=metrics_address, as_json=as_json)


def default_out(recipe: str) -> str:
    """Where the demo's run lives unless somebody says it; a cluster's machines say s3://..."""
    name = "demo" if recipe == "montage" else f"demo-{recipe}"
    return f"{os.environ.get('INSETGAN_BATCH_OUT', 'out').rstrip('/')}/{name}"
