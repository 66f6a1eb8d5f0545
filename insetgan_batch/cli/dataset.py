"""What is committed as a dataset, and whether it is still what it was: `pack`, `verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from insetgan_batch.cli.shared import (
    Hashed,
    Where,
    leave_if_damaged,
    now_and_then,
    open_store,
    print_lines,
)
from insetgan_batch.data.formats import FORMATS
from insetgan_batch.screen import open_screen

app = typer.Typer()


@app.command()
def pack(
    uri: Where,
    file_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"{', '.join(FORMATS)}; again for several.",
            show_default="parquet",
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only items of which this holds, like 'score < 0.2'.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Shares, drawn by the item's id: train=0.9,test=0.1.")
    ] = "train=1",
    losses_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Keep the losses of every N-th step.")
    ] = 1,
    licence: Annotated[
        str, typer.Option("--license", help="For the card, like cc-by-4.0.")
    ] = "unknown",
) -> None:
    """Make a dataset of what is committed: images, results, losses, and a card."""
    from insetgan_batch.data import shards
    from insetgan_batch.data.where import Where as Condition

    formats = shards.parse_formats(file_format or ["parquet"])
    condition = None if where is None else Condition(where)
    settings = shards.PackSettings(formats, condition, shards.parse_splits(split), losses_every)
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.runtime import pack as packing

        say = now_and_then(screen.say)
        packed = packing.pack(uri, settings, licence=licence, on_step=say)
    splits = ", ".join(f"{name} {count}" for name, count in packed.splits.items())
    print(
        f"{sum(packed.splits.values())} items packed ({splits}), {packed.left_out} left out,"
        f" {packed.quarantined} quarantined: {packed.files} files, {packed.bytes / 1e6:.1f} MB"
    )
    print(f"dataset: {packed.uri}")
    leave_if_damaged(uri, list(packed.damaged.values()))


@app.command()
def verify(
    uri: Where,
    redo: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Also make N random items again, on this machine."),
    ] = 0,
) -> None:
    """Hash every committed file and the latest dataset again; a line for each difference."""
    from insetgan_batch.runtime import verify as verifying

    store = open_store(uri)
    differences = 0
    with open_screen() as screen:
        hashed = Hashed(screen.say)
        for checked in verifying.check(store):
            hashed.count(checked)
            differences += len(checked.differences)
            print_lines(checked.differences)
        if redo:
            again = verifying.redo(store, redo, on_step=now_and_then(screen.say))
            differences += len(again)
            print_lines(again)
    print(f"{hashed.files} files, {hashed.bytes / 1e6:.1f} MB, {redo} items made again: ", end="")
    print("all as it was" if not differences else f"{differences} differences")
    if differences:
        raise typer.Exit(1)
