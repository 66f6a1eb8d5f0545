"""Single generators: `generate` paints with one, `import` brings one in from another program."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from insetgan_batch.cli.shared import print_lines
from insetgan_batch.errors import ConfigError

app = typer.Typer()


@app.command()
def generate(
    model: Annotated[str, typer.Option(help="demo:canvas, demo:face, a path or a URI.")],
    out: Annotated[Path, typer.Option(help="Directory for the images.")],
    seeds: Annotated[str, typer.Option(help="Like 0-15,20.")] = "0-15",
    psi: Annotated[
        str, typer.Option(help="Truncation: 1 none, 0 average; or one per layer: 1,1,0.7,0.5,...")
    ] = "0.7",
    label: Annotated[
        int | None, typer.Option("--class", help="The class, of a generator with classes.")
    ] = None,
    noise: Annotated[
        Literal["const", "none", "random"], typer.Option(help="What every layer adds.")
    ] = "const",
    file_format: Annotated[
        Literal["png", "webp", "npy"], typer.Option("--format", help="npy: floats [C H W], -1..1.")
    ] = "png",
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Of the highest resolutions; float32 is exact."),
    ] = "float32",
) -> None:
    """Paint the images of seeds with one generator, and a sheet of them."""
    from insetgan_batch.data.seeds import parse_seeds
    from insetgan_batch.methods.insetgan import generate as painting

    look = painting.PaintSettings(
        psi=_parse_psi(psi), label=label, noise=noise, file_format=file_format, precision=precision
    )
    for path in painting.generate(model, parse_seeds(seeds), look, out):
        print(path)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The checkpoint: .pkl, .pt or .safetensors.")],
    out: Annotated[Path | None, typer.Option(help="Directory for what is written.")] = None,
    inspect: Annotated[bool, typer.Option(help="Say what is in the file; write nothing.")] = False,
    network: Annotated[
        str | None, typer.Option(help="One of the file's generators, else the averaged one (EMA).")
    ] = None,
    layout: Annotated[
        Literal["safetensors", "rosinality"],
        typer.Option("--format", help="Ours, or a .pt in rosinality's layout."),
    ] = "safetensors",
) -> None:
    """Bring a StyleGAN2 checkpoint of another program in, without executing anything in it."""
    if (out is None) == (not inspect):
        raise ConfigError("give either --out DIR, to write there, or --inspect")
    from insetgan_batch.nets.foreign import convert, reader

    contents = reader.read(file)
    contents.choose(network)
    print_lines([f"{file}: {contents.layout}", f"sha256     {contents.sha256}"])
    if contents.others:
        print_lines([f"left       {', '.join(contents.others)}"])
    for name, found in contents.networks.items():
        is_wanted = name == (network or contents.default)
        if inspect or is_wanted:
            is_it = " (the one to import)" if inspect and is_wanted else ""
            print_lines([f"generator  {name}{is_it}"])
            print_lines([f"  {line}" for line in convert.describe(found)])
    if out is not None:
        written = convert.write(contents, out, network, layout)
        print(f"wrote      {written.path} ({written.size_bytes / 1e6:.1f} MB)")
        print_lines([f"left out   {sentence}" for sentence in written.left_out])
        if layout == "safetensors":
            print(f"look       insetgan-batch generate --model {written.path} --out out/look")


def _parse_psi(text: str) -> float | list[float]:
    """One truncation, or one per layer; raises `ConfigError`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as err:
        raise ConfigError(
            f"--psi {text!r}: expected a number, or one per layer: 1,0.7,..."
        ) from err
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"--psi {text!r}: expected finite numbers")
    return values[0] if len(values) == 1 else values
