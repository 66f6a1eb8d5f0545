"""The state of an item as bytes: the sha256 of the rest, then safetensors, with everything that is
no tensor as JSON in its header, and a label that says what it is the state of.

Numbers of JSON are exact for Python's floats, so an item goes on with the very numbers it had. A
state that is damaged, or of another item, recipe, file of weights or version of this package, is no
state of the item and is refused: its numbers would be taken for another item's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError

_HEADER, _LABEL = "state", "label"
_TENSOR = "tensor"  # the one key of what stands for a tensor
_DIGEST_BYTES = hashlib.sha256().digest_size

Label = Mapping[str, str]
"""What a state is the state of, by name: all that has to be the same where it goes on."""


def to_bytes(state: dict[str, Any], label: Label) -> bytes:
    """A state of tensors, numbers, texts, lists and dictionaries as bytes, for `from_bytes`."""
    tensors: dict[str, Tensor] = {}
    plain = _without_tensors(state, "", tensors)
    header = {_HEADER: json.dumps(plain), _LABEL: json.dumps(dict(label))}
    data = safetensors.torch.save(tensors, header)
    return hashlib.sha256(data).digest() + data


def from_bytes(data: bytes, label: Label, device: torch.device) -> dict[str, Any]:
    """A state, its tensors on the device.

    Raises `CheckpointError` for anything but a whole state with this label and finite numbers.
    """
    digest, data = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise CheckpointError(
            f"found no state of an item in {len(digest) + len(data)} bytes: it is damaged, cut off,"
            " or of another version"
        )
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        _check_label(json.loads(header[_LABEL]), label)
        plain = json.loads(header[_HEADER], parse_constant=_refuse_constant)
    except (safetensors.SafetensorError, LookupError, ValueError, TypeError) as err:
        raise CheckpointError(f"found no state of an item: {err}") from err
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"the state's {name} holds NaN or infinity")
    state: dict[str, Any] = _with_tensors(plain, tensors, device)
    return state


def _check_label(found: Label, expected: Label) -> None:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise CheckpointError(
                f"a state of {name} {found.get(name)}, expected {name} {expected.get(name)}"
            )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"a number of it is {name}")


def _without_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The value with paths in place of its tensors, which are added to `tensors` by path."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: path}
    if isinstance(value, dict):
        return {k: _without_tensors(entry, f"{path}/{k}", tensors) for k, entry in value.items()}
    return value


def _with_tensors(value: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    if isinstance(value, dict) and value.keys() == {_TENSOR}:
        return tensors[value[_TENSOR]].to(device)
    if isinstance(value, dict):
        return {k: _with_tensors(entry, tensors, device) for k, entry in value.items()}
    return value
