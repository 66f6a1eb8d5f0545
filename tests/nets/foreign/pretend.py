"""Pickles that name programs which are not installed.

pickle writes the name of a class, and looks it up to be sure. So the modules exist while a pickle
is written, and are gone again when it is read.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SOURCE = "raise SystemExit('the source in a checkpoint was run')\n" + "# filler\n" * 4000


class EasyDict(dict[str, Any]):
    """A dict whose keys are attributes."""

    __module__ = "dnnlib.util"

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as err:
            raise AttributeError(name) from err


class Network:
    """A network of dnnlib.tflib: pickle finds its state in `__dict__`."""

    __module__ = "dnnlib.tflib.network"

    def __init__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Persistent(nn.Module):
    """Holds attributes, tensors and children; pickles as a record with its source."""


def persistent(kind: str, **attributes: Any) -> Persistent:
    """An empty module of a class of that name; tensors among the attributes are buffers."""
    module: Persistent = type(kind, (Persistent,), {})()
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            module.register_buffer(name, value)
        else:
            setattr(module, name, value)
    return module


def pickled(
    obj: object, protocol: int = 4, *, old_numpy: bool = True, old_torch: bool = True
) -> bytes:
    """The object under the names of the programs that would have written it, with numpy 1 and
    torch 1.7 or those of today.
    """
    file = io.BytesIO()
    with installed([EasyDict, Network, _reconstruct_persistent_obj, *_OLD_NUMPY.values()]):
        _Pickler(file, protocol, old_numpy, old_torch).dump(obj)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, protocol: int, old_numpy: bool, old_torch: bool) -> None:
        super().__init__(file, protocol)
        self._protocol, self._old_numpy, self._old_torch = protocol, old_numpy, old_torch

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Persistent):
            meta = {
                "type": "class",
                "version": 6,
                "module_src": SOURCE,
                "class_name": type(obj).__name__,
                "state": _old_state(obj.__dict__) if self._old_torch else obj.__dict__,
            }
            return _reconstruct_persistent_obj, (meta,)
        if self._old_numpy and isinstance(obj, np.ndarray | np.generic):
            reduced: Any = obj.__reduce_ex__(self._protocol)
            return (_OLD_NUMPY[reduced[0].__name__], *reduced[1:])
        return NotImplemented


def _old_state(state: dict[str, Any]) -> dict[str, Any]:
    """Without what younger versions of torch keep in a module, and dicts as they were then."""
    newer = set(nn.Module().__dict__) - {
        "training",
        "_parameters",
        "_buffers",
        "_non_persistent_buffers_set",
        "_backward_hooks",
        "_forward_hooks",
        "_forward_pre_hooks",
        "_state_dict_hooks",
        "_load_state_dict_pre_hooks",
        "_modules",
    }
    ordered = {name: OrderedDict(state[name]) for name in ("_parameters", "_buffers", "_modules")}
    return {name: ordered.get(name, value) for name, value in state.items() if name not in newer}


def _function(module: str, name: str) -> Callable[..., None]:
    def function(*_: Any) -> None:
        raise AssertionError("only its name is used")

    function.__module__, function.__name__, function.__qualname__ = module, name, name
    return function


_reconstruct_persistent_obj = _function("torch_utils.persistence", "_reconstruct_persistent_obj")
# What numpy 1 called the functions in its pickles.
_OLD_NUMPY = {
    "_reconstruct": _function("numpy.core.multiarray", "_reconstruct"),
    "scalar": _function("numpy.core.multiarray", "scalar"),
    "_frombuffer": _function("numpy.core.numeric", "_frombuffer"),
}


@contextlib.contextmanager
def installed(things: list[Any]) -> Iterator[None]:
    """For a moment, modules exist that hold these classes and functions under their names."""
    before = dict(sys.modules)
    for thing in things:
        parts = thing.__module__.split(".")
        for i in range(1, len(parts) + 1):
            name = ".".join(parts[:i])
            module = sys.modules.get(name)
            # Packages that exist stay; what is pretended never goes into a real module.
            if module is None or (i == len(parts) and module is before.get(name)):
                sys.modules[name] = ModuleType(name)
        setattr(sys.modules[thing.__module__], thing.__name__, thing)
    try:
        yield
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def stored_on(location: str) -> Iterator[None]:
    """For a moment, `torch.save` believes that all tensors live on that device."""
    registry = torch.serialization._package_registry
    entry = (0, lambda _: location, lambda *_: None)
    registry.insert(0, entry)
    try:
        yield
    finally:
        registry.remove(entry)
