"""A file → weights of a generator, and back. Checkpoints are data: nothing in a file is executed.

This format is safetensors whose header holds one JSON text under `insetgan_batch`: `format` (1),
`architecture` (the fields of `stylegan2.Architecture`) and `about` (where the weights come from;
free).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from insetgan_batch.errors import CheckpointError, one_line
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2

_HEADER_KEY = "insetgan_batch"
_FORMAT = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A generator as it was read. sha256: of the whole file, hexadecimal."""

    network: StyleGAN2
    about: dict[str, Any]
    sha256: str


def load(path: Path) -> Checkpoint:
    """Read a generator from a file; raises `CheckpointError` for anything that is not one."""
    try:
        data = path.read_bytes()
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror}") from err
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Checkpoint:
    """A generator from the bytes of a file; `name` stands for it in a `CheckpointError`.

    The weights are fixed (`StyleGAN2.freeze`) and live on the CPU, float32.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, LookupError, RuntimeError, OverflowError) as err:
        # The last three: element types and shapes that the format allows and torch has not.
        raise CheckpointError(
            f"{name}: not a safetensors file ({one_line(err)}); expected a generator saved by"
            " this package"
        ) from err
    header = _header(data, name)
    try:
        fields = dict(header["architecture"])
        fields["base"], fields["channels"] = tuple(fields["base"]), tuple(fields["channels"])
        architecture = Architecture(**fields)
        with torch.device("meta"):  # shapes without memory: a header may ask for terabytes
            outline = StyleGAN2(architecture)
    except (KeyError, TypeError, ValueError, RuntimeError) as err:
        raise CheckpointError(
            f"{name}: the header's architecture is not valid: {one_line(err)}"
        ) from err
    try:
        outline.load_state_dict(tensors, assign=True)
    except RuntimeError as err:
        raise CheckpointError(
            f"{name}: the tensors do not fit the header: {one_line(err)}"
        ) from err
    generator = StyleGAN2(architecture)
    generator.load_state_dict(tensors)
    return Checkpoint(generator.freeze(), header.get("about", {}), hashlib.sha256(data).hexdigest())


def save(path: Path, generator: StyleGAN2, about: dict[str, Any]) -> str:
    """Write a generator with where it comes from; returns the file's sha256. Never leaves half a
    file.
    """
    header = {
        "format": _FORMAT,
        "architecture": dataclasses.asdict(generator.architecture),
        "about": about,
    }
    tensors = {name: t.detach().contiguous() for name, t in generator.state_dict().items()}
    data = safetensors.torch.save(tensors, {_HEADER_KEY: json.dumps(header)})
    temporary = path.with_suffix(".part")
    temporary.write_bytes(data)
    temporary.replace(path)
    return hashlib.sha256(data).hexdigest()


def _header(data: bytes, name: str) -> dict[str, Any]:
    """Our part of the header; the file as such has been checked by then."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    try:
        header = json.loads(metadata[_HEADER_KEY])
    except (KeyError, ValueError, RecursionError) as err:
        raise CheckpointError(
            f"{name}: safetensors without a header `{_HEADER_KEY}`; expected a generator saved"
            " by this package"
        ) from err
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise CheckpointError(f"{name}: format {found!r}, expected {_FORMAT}")
    return header
