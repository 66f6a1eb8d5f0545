"""Make the demo generators: render people, train, check what was promised.

    python jobs/train_demo.py render --people 6000      (needs `pip install insetgan-batch[people]`)
    python jobs/train_demo.py train canvas
    python jobs/train_demo.py train face
    python jobs/train_demo.py train shoes
    python jobs/train_demo.py train parts
    python jobs/train_demo.py train encoder             (needs the face generator)
    python jobs/train_demo.py check

Each command can be stopped and called again; it goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insetgan_batch.data.models import demo_path
from insetgan_batch.demo.models import MODELS, PICTURE_SIZES
from insetgan_batch.errors import InsetGanError, MissingPackageError

if TYPE_CHECKING:
    from insetgan_batch.demo.check import PartsCheck

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
    from insetgan_batch.people import pictures

    pictures.render_all(work / "pictures", people, PICTURE_SIZES, os.cpu_count() or 1)


@app.command()
def train(
    model: Annotated[
        str,
        typer.Argument(
            help="canvas, face, shoes; parts: what says where those are; encoder: of faces."
        ),
    ],
    work: Work = Path("out/train"),
) -> None:
    """Train one network to the end, then replace its bundled weights."""
    if model == "parts":
        _train_parts(work)
    elif model == "encoder":
        _train_encoder(work)
    elif model in MODELS:
        _train_generator(model, work)
    else:
        raise typer.BadParameter(f"{model!r} is none of {', '.join(MODELS)}, parts, encoder")


def _train_generator(model: str, work: Path) -> None:
    from insetgan_batch.demo import train_generator as training
    from insetgan_batch.people import pictures

    data = pictures.load(work / "pictures", MODELS[model].view)
    done = training.train(MODELS[model], data, work)
    about = _about(model, len(data.z), done.step)
    sha256 = training.export(done.network, demo_path(model), about)
    typer.echo(f"{demo_path(model)} sha256 {sha256}")


def _train_parts(work: Path) -> None:
    from insetgan_batch.demo import train_parts as training
    from insetgan_batch.nets import parts

    examples = training.load(work / "pictures", training.PEOPLE)
    done = training.train(examples, work)
    path = demo_path("parts")
    parts.save(path, done.network, _about("parts", len(examples["body"].rgb), done.step))
    typer.echo(f"{path} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


def _train_encoder(work: Path) -> None:
    import torch

    from insetgan_batch.demo import train_encoder as training
    from insetgan_batch.nets import encoder
    from insetgan_batch.nets.generator import Generator
    from insetgan_batch.people import pictures

    data = pictures.load(work / "pictures", MODELS["face"].view)
    generator = Generator.load(demo_path("face"), torch.device("cpu"))
    done = training.train(generator, data, work)
    path = demo_path("encoder")
    encoder.save(path, done.network, _about("encoder", len(data.z), done.step))
    typer.echo(f"{path} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


def _about(model: str, people: int, steps: int) -> dict[str, object]:
    """Where bundled weights come from."""
    from insetgan_batch.people import pictures

    first = pictures.TRAIN_SEED
    return {
        "name": f"demo:{model}",
        "licence": "Apache-2.0",
        "data": f"{people} people rendered by insetgan_batch.people,"
        f" seeds {first} to {first + people - 1}",
        "steps": steps,
        "command": f"python jobs/train_demo.py train {model}",
    }


@app.command()
def check() -> None:
    """Print what must hold of the bundled weights; exit code 1 if it does not."""
    from insetgan_batch.demo import check as promises

    results = promises.check_all()
    for result in results:
        found = ", ".join(f"{what} in {count}" for what, count in result.found.items())
        typer.echo(
            f"{result.name}: of {result.images} fresh seeds at psi {promises.PSI} found {found}"
            f" ({_verdict(result.holds)}); {result.megabytes:.1f} MB, sha256 {result.sha256}"
        )
    total = sum(result.megabytes for result in results)
    fits = total <= promises.MOST_MEGABYTES
    typer.echo(
        f"all generators: {total:.1f} MB (at most {promises.MOST_MEGABYTES:.0f}: {_verdict(fits)})"
    )
    try:
        known = promises.check_parts()
    except MissingPackageError as err:
        typer.echo(f"parts: not measured on rendered people: {err}")
    else:
        for line in _lines(known):
            typer.echo(f"parts: {line}")
        fits = fits and known.holds
    if not (fits and all(result.holds for result in results)):
        raise typer.Exit(1)


def _lines(known: PartsCheck) -> Iterator[str]:
    """What `check` says of the network of parts."""
    for view, iou in known.iou.items():
        each = ", ".join(f"{name} {value:.3f}" for name, value in iou.items())
        yield f"IoU on {known.people} rendered people, {view}: {each}"
    for part, (median, most) in known.box_error_px.items():
        yield f"worst side of the box of {part} on the canvas: {median:.2f} px, 95 %: {most:.2f} px"
    times = ", ".join(f"{view} {value:.1f}" for view, value in known.milliseconds.items())
    yield f"milliseconds per picture on one core: {times}"
    yield f"{known.megabytes:.2f} MB ({_verdict(known.holds)})"


def _verdict(holds: bool) -> str:
    return "holds" if holds else "FAILS"


if __name__ == "__main__":
    try:
        app()
    except InsetGanError as err:
        sys.exit(f"train_demo: {err}")
