"""The state of an item as bytes: safetensors, with everything that is no tensor as JSON in its
header.

Numbers of JSON are exact for Python's floats, so an item goes on with the very numbers it had.
"""

from __future__ import annotations

import json
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError

_HEADER = "state"
_TENSOR = "tensor"  # the one key of what stands for a tensor


def to_bytes(state: dict[str, Any]) -> bytes:
    """What `from_bytes` gives back; state: of `Slot.state_dict`."""
    tensors: dict[str, Tensor] = {}
    plain = _without_tensors(state, "", tensors)
    return safetensors.torch.save(tensors, {_HEADER: json.dumps(plain)})


def from_bytes(data: bytes, device: torch.device) -> dict[str, Any]:
    """A state, its tensors on the device; raises `CheckpointError` for anything else."""
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"][_HEADER]
        state = _with_tensors(json.loads(header), tensors, device)
    except (safetensors.SafetensorError, LookupError, ValueError, TypeError) as err:
        raise CheckpointError(f"found no state of an item in {len(data)} bytes: {err}") from err
    if not isinstance(state, dict):
        raise CheckpointError(f"found {type(state).__name__}, expected the state of an item")
    return state


def _without_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The same with names for tensors, which go to `tensors`."""
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
