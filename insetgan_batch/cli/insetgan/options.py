"""The options that InsetGAN adds to the commands of every method."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from insetgan_batch.config import RunConfig

RecipeName = Annotated[str, typer.Option(help="The recipe of a configuration that names none.")]
Film = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Keep every N-th step of each item as film.webp."),
]
Faces = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER", help="Instead of a manifest: photographs, whose faces become rows."
    ),
]
Bodies = Annotated[int, typer.Option(min=1, metavar="K", help="With --faces: rows for each face.")]
ConsentNote = Annotated[
    str | None,
    typer.Option(help="Who agreed to what; kept with every result, see docs/faces.md."),
]


def with_film(config: RunConfig, film: int | None) -> RunConfig:
    """With what the command line says of the film, if it does."""
    return config if film is None else dataclasses.replace(config, film_every=film)
