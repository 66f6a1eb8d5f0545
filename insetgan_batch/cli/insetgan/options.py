"""The options that InsetGAN adds to commands of every method."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insetgan_batch.cli.insetgan import faces
from insetgan_batch.cli.insetgan.faces import ConsentNote
from insetgan_batch.cli.shared import one_of
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods import names

if TYPE_CHECKING:
    from insetgan_batch.config import RunConfig

Film = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Keep every N-th step of each item as film.webp."),
]


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigOptions:
    """Those that change a configuration."""

    recipe: Annotated[
        str | None,
        typer.Option(help="The recipe of a configuration that names none.", show_default="montage"),
    ] = None
    film: Film = None

    def change(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a file with these changes; raises `ConfigError`."""
        if self == ConfigOptions():
            return fields
        if fields.get("method", names.DEFAULT) != "insetgan":
            raise ConfigError("--recipe and --film are for runs of InsetGAN")
        recipe = fields.get("recipe", {})
        if self.recipe is not None and isinstance(recipe, dict):
            fields = fields | {"recipe": {"preset": self.recipe} | recipe}
        return fields if self.film is None else fields | {"film_every": self.film}


@dataclasses.dataclass(frozen=True, slots=True)
class RowOptions:
    """Those that make rows of photographs."""

    faces: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Instead of a manifest: photographs, whose faces become rows."
        ),
    ] = None
    bodies: Annotated[
        int, typer.Option(min=1, metavar="K", help="With --faces: rows for each face.")
    ] = 1
    consent_note: ConsentNote = None

    def rows(self, config: RunConfig, out: str, manifest: str | None, seeds: str | None) -> str:
        """The URI of a run's rows; for a folder of photographs their manifest is made first."""
        if [manifest, seeds, self.faces].count(None) != 2:
            raise ConfigError("give one of --manifest, --seeds and --faces")
        if self.faces is not None:
            return faces.manifest_in(config, out, self.faces, self.bodies, self.consent_note)
        if self != RowOptions():
            raise ConfigError("--bodies and --consent-note are for --faces: give --faces FOLDER")
        return one_of(manifest, seeds)
