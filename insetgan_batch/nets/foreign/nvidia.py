"""Modules as NVIDIA's PyTorch code pickles them → a generator.

Every module is a record of its attributes; its tensors are in `_parameters` and `_buffers`, its
children in `_modules`. Names are this package's own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign.names import Record
from insetgan_batch.nets.foreign.outline import (
    Found,
    Settings,
    Tensors,
    check_generation,
    find,
    number,
    shown,
)

_DEEPEST = 6
# Modules may hold each other. A generator has some 100; none of them has more than 20 entries.
_MOST_MODULES = 1000
_MOST_ENTRIES = 100
_LONGEST_NAME = 80
_CONV = re.compile(r"synthesis\.b\d+\.conv[01]")
_CLAMPED = re.compile(r"synthesis\.b\d+\.(conv[01]|torgb)")
_FC = re.compile(r"mapping\.fc\d+")


def is_generator(record: Record) -> bool:
    """Whether a record looks like one; other networks of a snapshot do not."""
    modules = record.state.get("_modules")
    return isinstance(modules, dict) and {"mapping", "synthesis"} <= modules.keys()


def read(record: Record) -> Found:
    """The generator of a record; raises `CheckpointError`."""
    modules: dict[str, Record] = {}
    for name, module in _walk(record, "", 0):
        modules[name] = module
        if len(modules) > _MOST_MODULES:
            raise CheckpointError(f"found more than {_MOST_MODULES} modules; no generator has")
    tensors: Tensors = {}
    for name, module in modules.items():
        for kind in ("_parameters", "_buffers"):
            for key, tensor in _dictionary(module, kind).items():
                if isinstance(tensor, Tensor):  # None stands for a bias that a layer has not
                    tensors[f"{name}.{key}".lstrip(".")] = tensor
    check_generation(tensors)
    _check_activations(modules)
    settings = Settings(
        conv_clamp=_agreed(modules, _CLAMPED, "conv_clamp"),
        mapping_lr_multiplier=number("bias_gain", _agreed(modules, _FC, "bias_gain")),
        num_fp16_res=sum(module.state.get("use_fp16") is True for module in modules.values()),
    )
    return find(tensors, settings)


def _walk(record: Record, name: str, depth: int) -> Iterator[tuple[str, Record]]:
    """A module and all below it, by their full names."""
    if depth > _DEEPEST:
        raise CheckpointError(f"found modules nested deeper than {_DEEPEST}; no generator is")
    yield name, record
    for key, child in _dictionary(record, "_modules").items():
        if isinstance(child, Record):
            yield from _walk(child, f"{name}.{key}".lstrip("."), depth + 1)


def _dictionary(record: Record, key: str) -> dict[str, Any]:
    value = record.state.get(key, {})
    if not isinstance(value, dict):
        raise CheckpointError(f"`{key}` of {record.class_name} is a {type(value).__name__}")
    for name in itertools.islice(value, _MOST_ENTRIES + 1):
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or len(value) > _MOST_ENTRIES:
            raise CheckpointError(f"`{key}` of {record.class_name} is not one of a generator")
    return value


def _check_activations(modules: dict[str, Record]) -> None:
    for name, module in modules.items():
        is_bent = _CONV.fullmatch(name) or _FC.fullmatch(name)
        expected = "lrelu" if is_bent else "linear"
        found = module.state.get("activation", expected)
        if not isinstance(found, str) or found != expected:
            raise CheckpointError(f"`{name}` has activation {shown(found)}, expected {expected!r}")


def _agreed(modules: dict[str, Record], names: re.Pattern[str], attribute: str) -> float | None:
    """A number or None that all modules of these names share as an attribute."""
    found = [m.state.get(attribute) for name, m in modules.items() if names.fullmatch(name)]
    values = {None if value is None else number(attribute, value) for value in found}
    if len(values) != 1:
        distinct = ", ".join(sorted(shown(value) for value in values)) or "nowhere"
        raise CheckpointError(
            f"found {attribute} {distinct} in {names.pattern}, expected one for all"
        )
    return values.pop()
