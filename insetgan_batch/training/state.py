"""The state of a training in a store: everything that its next step depends on.

    checkpoints/<images>/state.safetensors     the tensors
    checkpoints/<images>/state.json            the numbers, and the tensors' sha256; written last

A state without its second file is none. What is damaged is passed over for the one before, and
said.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from insetgan_batch.data.storage import Storage
from insetgan_batch.errors import CheckpointError, NotFoundError
from insetgan_batch.text import one_line
from insetgan_batch.training.task import Task

ROOT = "checkpoints"
_TENSORS, _NUMBERS = "state.safetensors", "state.json"
_FORMAT = 1
_KEPT = 3
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is. iteration: steps done; images: pictures seen by then."""

    iteration: int = 0
    images: int = 0


def save(storage: Storage, task: Task, progress: Progress) -> str:
    """Write a state, then remove all but the last few; returns its key."""
    key = f"{ROOT}/{progress.images:012d}"
    tensors = {name: t.detach().cpu().contiguous() for name, t in task.tensors().items()}
    data = safetensors.torch.save(_apart(tensors))
    said = {
        "format": _FORMAT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "progress": dataclasses.asdict(progress),
        "numbers": task.numbers(),
    }
    storage.put(f"{key}/{_TENSORS}", data)
    storage.put(f"{key}/{_NUMBERS}", json.dumps(said).encode())
    for old in kept(storage)[:-_KEPT]:
        storage.delete(f"{old}/{_NUMBERS}")
        storage.delete(f"{old}/{_TENSORS}")
    return key


def kept(storage: Storage) -> list[str]:
    """The keys of all whole states, the oldest first."""
    found = [key for key in storage.list(ROOT) if key.endswith(f"/{_NUMBERS}")]
    return sorted(key.removesuffix(f"/{_NUMBERS}") for key in found)


def resume(storage: Storage, task: Task) -> Progress:
    """Go on from the last state that can be read; from the beginning where there is none.

    Raises `CheckpointError` where a state is of another task.
    """
    for key in reversed(kept(storage)):
        try:
            said, tensors = _read(storage, key)
        except (CheckpointError, NotFoundError) as err:
            _log.warning("%s; going on from the state before", err)
            continue
        try:
            task.load(tensors, said["numbers"])
        except (KeyError, TypeError, ValueError, RuntimeError) as err:
            raise CheckpointError(
                f"{storage.uri}/{key}: the state of another training ({one_line(err)}); choose"
                " another --out to begin anew"
            ) from err
        return Progress(**said["progress"])
    return Progress()


def _read(storage: Storage, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    where = f"{storage.uri}/{key}"
    try:
        said = json.loads(storage.get(f"{key}/{_NUMBERS}"))
        data = storage.get(f"{key}/{_TENSORS}")
        if said["format"] != _FORMAT:
            raise CheckpointError(f"{where}: format {said['format']!r:.40}, expected {_FORMAT}")
        if hashlib.sha256(data).hexdigest() != said["sha256"]:
            raise CheckpointError(f"{where}: damaged: the tensors have another sha256")
        return said, safetensors.torch.load(data)
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as err:
        raise CheckpointError(f"{where}: damaged: {one_line(err)}") from err


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share their memory."""
    seen = set[int]()
    found = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return found


# ---- parts of a task's tensors ------------------------------------------------------------------


def of_networks(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weights and buffers, by network and name."""
    return {
        f"{name}.{key}": tensor
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }


def load_networks(networks: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """The way back; raises `RuntimeError` where they do not fit."""
    for name, network in networks.items():
        own = {
            k.removeprefix(f"{name}."): t for k, t in tensors.items() if k.startswith(f"{name}.")
        }
        network.load_state_dict(own)


def of_optimizers(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Moments and steps, by optimiser, parameter and name."""
    return {
        f"{name}.{index}.{key}": tensor
        for name, optimizer in optimizers.items()
        for index, moments in optimizer.state_dict()["state"].items()
        for key, tensor in moments.items()
    }


def load_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """The way back; raises `ValueError` where they do not fit."""
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(f"{name}."):
                index, _, moment = key.removeprefix(f"{name}.").partition(".")
                state.setdefault(int(index), {})[moment] = tensor
        parameters = sum(len(group["params"]) for group in optimizer.param_groups)
        if state and state.keys() != set(range(parameters)):
            raise ValueError(f"{name}: moments of {len(state)} parameters, expected {parameters}")
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
