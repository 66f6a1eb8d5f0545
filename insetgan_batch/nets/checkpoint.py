"""A file → weights of a generator, and back. Checkpoints are data: nothing in a file is executed.

This format is safetensors whose header holds one JSON text under `insetgan_batch`: `format` (1),
`architecture` (the fields of `stylegan2.Architecture`) and `about` (where the weights come from; free).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.stylegan2 import Architecture, Generator

_HEADER_KEY = "insetgan_batch"
_FORMAT = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A generator as it was read. sha256: of the whole file, hexadecimal."""

    generator: Generator
    about: dict[str, Any]
    sha256: str


def load(path: Path) -> Checkpoint:
    """Read a generator; raises `CheckpointError` for anything that is not one.

    The weights are fixed (`Generator.freeze`) and live on the CPU, float32.
    """
    data = _read(path)
    header = _header(path)
    try:
        fields = dict(header["architecture"])
        fields["base"], fields["channels"] = tuple(fields["base"]), tuple(fields["channels"])
        generator = Generator(Architecture(**fields))
    except (KeyError, TypeError, ValueError) as err:
        raise CheckpointError(f"{path}: the header's architecture is not valid: {err}") from err
    try:
        generator.load_state_dict(safetensors.torch.load(data))
    except RuntimeError as err:
        detail = " ".join(str(err).split())
        raise CheckpointError(f"{path}: the tensors do not fit the header: {detail}") from err
    return Checkpoint(generator.freeze(), header.get("about", {}), hashlib.sha256(data).hexdigest())


def save(path: Path, generator: Generator, about: dict[str, Any]) -> str:
    """Write a generator with where it comes from; returns the file's sha256. Never leaves half a file."""
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror}") from err


def _header(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as err:
        raise CheckpointError(
            f"{path}: not a safetensors file ({err}); expected a generator saved by this package"
        ) from err
    if _HEADER_KEY not in metadata:
        raise CheckpointError(
            f"{path}: safetensors without the header `{_HEADER_KEY}`; expected a generator saved by"
            " this package"
        )
    header: dict[str, Any] = json.loads(metadata[_HEADER_KEY])
    if header.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: format {header.get('format')}, expected {_FORMAT}")
    return header
