"""The state of a training in one file: networks, optimisers, counters and random states.

A training whose next step depends on nothing else goes on from the file as if it had never stopped.
"""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint

Networks = Mapping[str, nn.Module]
Optimizers = Mapping[str, torch.optim.Optimizer]

_FORMAT = 1


def save(
    path: Path, *, networks: Networks, optimizers: Optimizers, counters: Mapping[str, int]
) -> None:
    """Write or replace the file; an interrupted write leaves the earlier one."""
    state = {
        "format": _FORMAT,
        "networks": {name: network.state_dict() for name, network in networks.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "counters": dict(counters),
        "random": _random_states(),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    checkpoint.write_whole(path, buffer.getvalue())


def load(path: Path, *, networks: Networks, optimizers: Optimizers) -> dict[str, int]:
    """Put a saved state into networks, optimisers and this process's random numbers; returns the
    counters.

    Raises `CheckpointError` for a file that cannot be read, or is of another training.
    """
    state = _read(path)
    try:
        for kind, targets in (("networks", networks), ("optimizers", optimizers)):
            if state[kind].keys() != targets.keys():
                raise ValueError(f"found the {kind} {[*state[kind]]}, expected {[*targets]}")
            for name, target in targets.items():
                target.load_state_dict(state[kind][name])
        _set_random_states(state["random"])
    except (LookupError, TypeError, ValueError, RuntimeError) as err:
        raise CheckpointError(
            f"{path}: the state of another training ({checkpoint.printable(str(err))}); move the"
            " file away to begin anew"
        ) from err
    return dict(state["counters"])


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror or err}") from err
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError) as err:
        raise CheckpointError(
            f"{path}: damaged, or no state of a training; move the file away to begin anew"
        ) from err
    found = state.get("format") if isinstance(state, dict) else None
    if found != _FORMAT:
        raise CheckpointError(
            f"{path}: the state of a training in format {found!r:.60}, expected {_FORMAT}; move the"
            " file away to begin anew"
        )
    return dict(state)


def _random_states() -> dict[str, Any]:
    """Of all that draws without a generator of its own, as plain data."""
    legacy = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "numpy": legacy | {"state": legacy["state"] | {"key": legacy["state"]["key"].tolist()}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_states(states: dict[str, Any]) -> None:
    """The states of GPUs that are not here are left out."""
    mersenne = states["numpy"]["state"]
    key = np.array(mersenne["key"], np.uint32)
    random.setstate(states["python"])
    np.random.set_state(states["numpy"] | {"state": mersenne | {"key": key}})
    torch.set_rng_state(states["torch"])
    for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
        torch.cuda.set_rng_state(state, device)
