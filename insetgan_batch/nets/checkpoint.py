"""A file → weights of a generator, and back. Checkpoints are data: nothing in a file is executed.

This format is safetensors whose header holds one JSON text under `insetgan_batch`: `format` (1),
`architecture` (the fields of `stylegan2.Architecture`) and `about` (where the weights come from;
free).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2

HEADER_KEY = "insetgan_batch"
_FORMAT = 1
# A generator has some 200.
_MOST_TENSORS = 10_000
_EXPECTED = (
    "expected a generator saved by this package; bring other checkpoints in with `insetgan-batch"
    " import FILE --out DIR`"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A generator as it was read. sha256: of the whole file, hexadecimal."""

    network: StyleGAN2
    about: dict[str, Any]
    sha256: str


def load(path: Path) -> Checkpoint:
    """Read a generator that this package saved; raises `CheckpointError` for anything else.

    The weights are fixed (`StyleGAN2.freeze`), on the CPU and float32. They are a view of the file
    in memory: processes of one machine that load the same file share its pages.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as tensors_of_file:
            header = _header(tensors_of_file.metadata() or {}, str(path))
            names = tensors_of_file.keys()
            if len(names) > _MOST_TENSORS:
                raise CheckpointError(f"{path}: found {len(names)} tensors; {_EXPECTED}")
            tensors = {name: tensors_of_file.get_tensor(name) for name in names}
        with path.open("rb") as file:  # after it was read: of what was read
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror or err}") from err
    except (safetensors.SafetensorError, LookupError, RuntimeError, OverflowError) as err:
        # The last three: element types and shapes that the format allows and torch has not.
        raise CheckpointError(
            f"{path}: not a safetensors file ({printable(str(err))}); {_EXPECTED}"
        ) from err
    return Checkpoint(_network(header, tensors, str(path)), header.get("about", {}), sha256)


def save(path: Path, generator: StyleGAN2, about: dict[str, Any]) -> str:
    """Write a generator with where it comes from; returns the file's sha256. Never leaves half a
    file.
    """
    data = packed(generator, about)
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def packed(generator: StyleGAN2, about: dict[str, Any]) -> bytes:
    """The bytes of such a file."""
    header = {
        "format": _FORMAT,
        "architecture": dataclasses.asdict(generator.architecture),
        "about": about,
    }
    tensors = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    return safetensors.torch.save(tensors, {HEADER_KEY: json.dumps(header)})


def printable(text: str, most: int = 400) -> str:
    """What a file says, for people: one line, cut, and nothing in it that a terminal obeys."""
    words = " ".join(text[: 4 * most].split())
    return "".join(letter if letter.isprintable() else "?" for letter in words[:most])


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file; a reader never finds half of it, also when this fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _header(metadata: dict[str, str], name: str) -> dict[str, Any]:
    """Our part of the header."""
    try:
        header = json.loads(metadata[HEADER_KEY])
    except (KeyError, ValueError, RecursionError) as err:
        raise CheckpointError(
            f"{name}: safetensors without a header `{HEADER_KEY}`; {_EXPECTED}"
        ) from err
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise CheckpointError(f"{name}: format {found!r:.60}, expected {_FORMAT}")
    return header


def _network(header: dict[str, Any], tensors: dict[str, Tensor], name: str) -> StyleGAN2:
    """The generator that the header describes, with these weights and no copy of them."""
    try:
        fields = dict(header["architecture"])
        fields["base"], fields["channels"] = tuple(fields["base"]), tuple(fields["channels"])
        architecture = Architecture(**fields)
        if architecture.mapping_layers > len(tensors):
            raise ValueError(f"{architecture.mapping_layers} layers, and {len(tensors)} tensors")
        with torch.device("meta"):  # shapes without memory: a header may ask for terabytes
            network = StyleGAN2(architecture)
    except (KeyError, TypeError, ValueError, RuntimeError) as err:
        raise CheckpointError(
            f"{name}: the header's architecture is not valid: {printable(str(err))}"
        ) from err
    try:
        if whole := [key for key, tensor in tensors.items() if not tensor.is_floating_point()]:
            raise RuntimeError(f'"{whole[0]}" holds whole numbers')
        network.load_state_dict({key: t.float() for key, t in tensors.items()}, assign=True)
    except RuntimeError as err:
        raise CheckpointError(
            f"{name}: the tensors do not fit the header: {printable(str(err))}"
        ) from err
    return network.freeze()
