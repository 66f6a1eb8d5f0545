"""What a machine of a cluster runs beside the job: `spot-watch`."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command("spot-watch")
def spot_watch() -> None:
    """Wait for the cloud's notice that this machine goes away, and drain its Ray node then."""
    from insetgan_batch.runtime import spot

    left_s = spot.watch(spot.drain_this_node)
    print(f"drained: this machine will be gone in {left_s:.0f} s")
