"""A small network of this package ↔ its safetensors file, with a header that says what it is.

The header holds one JSON text under `insetgan_batch`: `format` (1), `kind` (what the network
does), the fields that fix its shapes, and `about` (where the weights come from; free). Weights are
float16.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint

_FORMAT = 1
_Network = TypeVar("_Network", bound=nn.Module)


def load(
    path: Path, kind: str, build: Callable[[dict[str, Any]], _Network], device: torch.device
) -> _Network:
    """Read a network that `save` wrote, frozen; raises `CheckpointError` for anything else.

    build: makes the network of the header's fields, on the device `meta`; `ValueError` where they
    are not valid.
    """
    expected = f"expected a network of kind {kind!r} saved by insetgan_batch"
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = _header(file.metadata() or {}, kind, f"{path}: ", expected)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror or err}") from err
    except (safetensors.SafetensorError, LookupError, RuntimeError, OverflowError) as err:
        raise CheckpointError(
            f"{path}: not a safetensors file ({checkpoint.printable(str(err))}); {expected}"
        ) from err
    try:
        with torch.device("meta"):  # shapes without memory: a header may ask for terabytes
            network = build(header)
    except (LookupError, TypeError, ValueError, RuntimeError) as err:
        raise CheckpointError(
            f"{path}: its header is not valid: {checkpoint.printable(str(err))}; {expected}"
        ) from err
    try:
        network.load_state_dict({key: t.float() for key, t in tensors.items()}, assign=True)
    except RuntimeError as err:
        raise CheckpointError(
            f"{path}: the tensors do not fit the header: {checkpoint.printable(str(err))}"
        ) from err
    return network.requires_grad_(False).eval().to(device)


def save(
    path: Path, kind: str, network: nn.Module, fields: dict[str, Any], about: dict[str, Any]
) -> None:
    """Write a network with the fields that fix its shapes; never half a file."""
    header = {"format": _FORMAT, "kind": kind, **fields, "about": about}
    tensors = {name: t.detach().half().contiguous() for name, t in network.state_dict().items()}
    metadata = {checkpoint.HEADER_KEY: json.dumps(header)}
    checkpoint.write_whole(path, safetensors.torch.save(tensors, metadata))


def _header(metadata: dict[str, str], kind: str, name: str, expected: str) -> dict[str, Any]:
    """Our part of the header."""
    try:
        header: dict[str, Any] = json.loads(metadata[checkpoint.HEADER_KEY])
        found = header["kind"], header["format"]
    except (KeyError, TypeError, ValueError, RecursionError) as err:
        raise CheckpointError(f"{name}no header of such a network; {expected}") from err
    if found != (kind, _FORMAT):
        raise CheckpointError(
            f"{name}found kind {found[0]!r:.60} in format {found[1]!r:.60},"
            f" expected {kind!r} in format {_FORMAT}"
        )
    return header
