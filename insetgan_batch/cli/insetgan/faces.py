"""Manifests of photographs: `manifest faces`, and `run --faces`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from insetgan_batch.cli.shared import SHOWN_REASONS, now_and_then, print_lines
from insetgan_batch.errors import ConfigError
from insetgan_batch.screen import open_screen

if TYPE_CHECKING:
    from insetgan_batch.config import RunConfig

ConsentNote = Annotated[
    str | None,
    typer.Option(help="Who agreed to what; kept with every result, see docs/faces.md."),
]
app = typer.Typer(no_args_is_help=True, help="Make manifests.")


@app.command("faces")
def manifest_faces(
    folder: Annotated[str, typer.Argument(help="A folder or s3://bucket/prefix of photographs.")],
    out: Annotated[str, typer.Option(help="The manifest to write: a path or URI, NAME.parquet.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The generator that will paint them: cut out as its own faces, at its size.",
            show_default="as FFHQ, 1024 px",
        ),
    ] = None,
    which: Annotated[
        Literal["all", "largest"], typer.Option("--faces", help="Of each photograph.")
    ] = "all",
    bodies: Annotated[int, typer.Option(min=1, metavar="K", help="Rows for each face.")] = 1,
    landmarks: Annotated[
        str | None,
        typer.Option(help="Your own: Parquet with `image` and `landmarks`, 10 numbers each."),
    ] = None,
    consent_note: ConsentNote = None,
) -> None:
    """Make a manifest of the faces in photographs: found, cut out as a generator's own, shown."""
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.data import landmarks as given
        from insetgan_batch.methods.insetgan import faces

        order = faces.FaceSelection(
            which=which,
            bodies=bodies,
            landmarks={} if landmarks is None else given.read(landmarks),
            consent_note=consent_note,
        )
        cut = faces.FaceCrop() if model is None else faces.cut_for(model)
        made = faces.make_manifest(folder, out, cut, order, now_and_then(screen.say))
    print(f"{made.faces} faces in {made.pictures} pictures, {made.rows} rows: {made.manifest}")
    if made.skipped:
        print(f"{len(made.skipped)} pictures skipped, for example:")
        print_lines([f"  {why}" for why in list(made.skipped.values())[:SHOWN_REASONS]])
    print(f"look: {made.preview}")


def manifest_in(
    config: RunConfig, out: str, folder: str, bodies: int, consent_note: str | None
) -> str:
    """The URI of the manifest of a folder's faces, beside the results."""
    from insetgan_batch.methods.insetgan.settings import Settings

    settings = config.settings
    if not isinstance(settings, Settings):
        raise ConfigError("--faces is for runs of InsetGAN")
    if "face" not in settings.insets:
        raise ConfigError(f"--faces: the recipe `{settings.recipe.name}` has no inset `face`")
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.methods.insetgan import faces

        order = faces.FaceSelection(bodies=bodies, consent_note=consent_note)
        return faces.manifest_in(
            out, folder, settings.insets["face"], order, now_and_then(screen.say)
        )
