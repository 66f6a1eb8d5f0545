"""To see how a run stands, from storage alone: `report`, `status`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer

from insetgan_batch.cli.shared import Where, leave_if_damaged, open_store
from insetgan_batch.screen import clock
from insetgan_batch.text import printable

app = typer.Typer()


@app.command()
def report(uri: Where) -> None:
    """Make the page of a run anew."""
    from insetgan_batch.report import page

    written = page.write(open_store(uri))
    print(written.uri)
    leave_if_damaged(uri, written.damaged)


@app.command()
def status(
    uri: Where,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="A line every few seconds, until nothing is left.")
    ] = False,
) -> None:
    """Say what of a run is done, failed and left: from storage alone, on any machine."""
    from insetgan_batch.runtime.status import Watcher

    watcher = Watcher(open_store(uri))
    for found in watcher.watch() if watch else [watcher.poll()]:
        fields = dataclasses.asdict(found) | {"damaged": len(found.damaged)}
        if watch:
            fields |= dataclasses.asdict(watcher.pace)
        _say_status(fields, as_json=as_json)
    leave_if_damaged(uri, list(found.damaged.values()))


def _say_status(fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(fields), flush=True)
    elif "seconds_left" in fields:
        left_s = fields["seconds_left"]
        print(
            f"{fields['items'] - fields['left']}/{fields['items']} items,"
            f" {fields['quarantined']} quarantined, {fields['damaged']} damaged,"
            f" {fields['left']} left, {fields['items_per_minute']} items/min,"
            f" {'nothing ended lately' if left_s is None else f'about {clock(left_s)} to go'}",
            flush=True,
        )
    else:
        print("\n".join(f"{key:12} {printable(value)}" for key, value in fields.items()))
