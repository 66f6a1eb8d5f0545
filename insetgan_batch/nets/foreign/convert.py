"""A checkpoint of another program → a file of this package, or one in rosinality's layout."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Literal

import torch

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.foreign import rosinality
from insetgan_batch.nets.foreign.outline import Found
from insetgan_batch.nets.foreign.reader import Contents
from insetgan_batch.nets.stylegan2 import StyleGAN2

Format = Literal["safetensors", "rosinality"]
_SUFFIXES = {"safetensors": ".safetensors", "rosinality": ".pt"}


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """A file that was written. left_out: what its format cannot say, one sentence each."""

    path: Path
    size_bytes: int
    left_out: tuple[str, ...]


def write(contents: Contents, out: Path, network: str | None, format_: Format) -> Written:
    """Write one generator of a file into a directory, under the name of the file.

    network: its name in the file, None for the default one. Raises `CheckpointError`; nothing is
    left half written.
    """
    found = contents.choose(network)
    name = contents.path.stem + (f"-{network}" if network not in (None, contents.default) else "")
    path = out / f"{name}{_SUFFIXES[format_]}"
    left_out: tuple[str, ...] = ()
    try:
        if path.exists() and path.samefile(contents.path):
            raise CheckpointError(f"{path}: this is the file to read; choose another directory")
        generator = found.build()
        if format_ == "safetensors":
            checkpoint.save(path, generator, _about(contents, network, found))
        else:
            left_out = tuple(rosinality.left_out(generator.architecture))
            checkpoint.write_whole(path, _for_rosinality(generator, contents.path))
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be written: {err.strerror or err}") from err
    return Written(path, path.stat().st_size, left_out)


def describe(found: Found) -> list[str]:
    """What a generator is, in lines for people."""
    a = found.architecture
    height, width = a.image_size
    colours = {1: "gray", 3: "RGB", 4: "RGBA"}.get(a.image_channels, f"{a.image_channels} channels")
    classes = f", {a.c_dim} classes" if a.c_dim else ""
    clamp = "not clamped" if a.conv_clamp is None else f"clamped to ±{a.conv_clamp:g}"
    weights = sum(tensor.numel() for tensor in found.tensors.values())
    lines = [
        f"image      {height} x {width}, {colours}; base {a.base[0]} x {a.base[1]}",
        f"mapping    z {a.z_dim} to w {a.w_dim} in {a.mapping_layers} layers{classes}",
        f"synthesis  {a.synthesis}, {a.num_ws} latents, channels {' '.join(map(str, a.channels))}",
        f"numbers    {weights:,}; activations {clamp}; trained in float16 at the"
        f" {a.num_fp16_res} highest resolutions",
    ]
    return lines + [f"assumed    {sentence}" for sentence in found.assumed]


def _for_rosinality(generator: StyleGAN2, source: Path) -> bytes:
    """The bytes of a file in that layout; raises `CheckpointError` that names the source."""
    stream = io.BytesIO()
    try:
        torch.save(rosinality.write(generator), stream)
    except CheckpointError as err:
        raise CheckpointError(f"{source}: {err}") from err
    return stream.getvalue()


def _about(contents: Contents, network: str | None, found: Found) -> dict[str, object]:
    """Where the weights come from: what the header keeps."""
    return {
        "source": {
            "file": contents.path.name,
            "sha256": contents.sha256,
            "layout": contents.layout,
            "network": network or contents.default,
        },
        "assumed": list(found.assumed),
    }
