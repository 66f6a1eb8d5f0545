"""Make the demo generators: render people, train, check what was promised.

    python jobs/train_demo.py render --people 6000      (needs `pip install insetgan-batch[people]`)
    python jobs/train_demo.py train canvas
    python jobs/train_demo.py train face
    python jobs/train_demo.py check

Each command can be stopped and called again; it goes on where it was.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from insetgan_batch.data.models import demo_path
from insetgan_batch.demo.models import MODELS
from insetgan_batch.errors import InsetGanError

app = typer.Typer(no_args_is_help=True, add_completion=False)
Work = Annotated[Path, typer.Option(help="Directory for pictures, checkpoints and samples.")]


@app.command()
def render(
    people: Annotated[
        int, typer.Option(min=1, help="How many; rounded up to whole shards.")
    ] = 6000,
    work: Work = Path("out/train"),
) -> None:
    """Render the training pictures, on all cores."""
    from insetgan_batch.demo import pictures

    pictures.render_all(work / "pictures", people, workers=os.cpu_count() or 1)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="canvas or face")],
    work: Work = Path("out/train"),
) -> None:
    """Train one generator to the end, then replace the bundled weights."""
    from insetgan_batch.demo import pictures
    from insetgan_batch.demo import train as training

    if model not in MODELS:
        raise typer.BadParameter(f"{model!r} is none of {', '.join(MODELS)}")
    data = pictures.load(work / "pictures", MODELS[model].view)
    done = training.train(MODELS[model], data, work)
    about = {
        "name": f"demo:{model}",
        "licence": "Apache-2.0",
        "data": f"{len(data.z)} people rendered by insetgan_batch.demo.people,"
        f" seeds {pictures.TRAIN_SEED} to {pictures.TRAIN_SEED + len(data.z) - 1}",
        "steps": done.step,
        "command": f"python jobs/train_demo.py train {model}",
    }
    sha256 = training.export(done, demo_path(model), about)
    typer.echo(f"{demo_path(model)} sha256 {sha256}")


@app.command()
def check() -> None:
    """Print what must hold of the bundled weights; exit code 1 if it does not."""
    from insetgan_batch.demo import check as promises

    results = promises.check_all()
    for result in results:
        typer.echo(
            f"{result.name}: MTCNN finds a face in {result.found} of {result.images} fresh seeds"
            f" at psi {promises.PSI} (at least {result.least_share:.0%}: {_verdict(result.holds)});"
            f" {result.megabytes:.1f} MB, sha256 {result.sha256}"
        )
    total = sum(result.megabytes for result in results)
    fits = total <= promises.MOST_MEGABYTES
    typer.echo(
        f"all weights: {total:.1f} MB (at most {promises.MOST_MEGABYTES:.0f}: {_verdict(fits)})"
    )
    if not (fits and all(result.holds for result in results)):
        raise typer.Exit(1)


def _verdict(holds: bool) -> str:
    return "holds" if holds else "FAILS"


if __name__ == "__main__":
    try:
        app()
    except InsetGanError as err:
        sys.exit(f"train_demo: {err}")
