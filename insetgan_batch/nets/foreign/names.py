"""The names that a checkpoint's pickle may use, and what stands for each: functions of our own.

None of them is the function of that name. Modules and TensorFlow networks become a `Record`, arrays
of numpy an `Array`, tensors a tensor. The bytes of a tensor are a torch file inside of the pickle,
with pickles of its own, which may name the types of numbers and nothing else.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import torchfile
from insetgan_batch.nets.foreign.unpickle import Buildable, Maker, checked_key

_T = TypeVar("_T")
_MOST_AXES = 8
_LARGEST = 1 << 48
_NUMBERS = re.compile("f2|f4|f8|[iu][1248]|b1")


@dataclasses.dataclass(slots=True)
class Record(Buildable):
    """An object whose class is not loaded: the class by name, and the attributes."""

    class_name: str
    state: dict[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, state: Any) -> None:
        """Take attributes."""
        self.state = _checked(state, dict)


@dataclasses.dataclass(slots=True)
class Dtype(Buildable):
    """A type of numbers."""

    value: np.dtype[Any]

    def build(self, state: Any) -> None:
        """Take the byte order: `(version, order, ...)`."""
        self.value = self.value.newbyteorder(_checked(state, tuple)[1])


@dataclasses.dataclass(slots=True)
class Array(Buildable):
    """An array of numbers, empty until its pickle has said what is in it."""

    value: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))

    def build(self, state: Any) -> None:
        """Take `(version, shape, dtype, is_fortran, data)`."""
        _, shape, dtype, is_fortran, data = _checked(state, tuple)
        self.value = _filled(data, dtype, shape, "F" if is_fortran else "C")


def find_class(module: str, name: str) -> Maker:
    """What stands for `module.name`: one of the short table, or a `CheckpointError` that names it.

    Nothing is imported to find out.
    """
    name = f"{module}.{name}"
    maker = _TABLE.get(name)
    if maker is None:
        raise CheckpointError(
            f"found the name `{name[:100]}`; expected only the {len(_TABLE)} names that"
            " StyleGAN2's checkpoints consist of (of a model that was saved whole, save the state"
            " dict). Nothing was executed; do not open this file with another program unless you"
            " trust where it comes from"
        )
    return maker


def _persistent_object(meta: Any) -> Record:
    """NVIDIA's record of a module: the source code of its class, which stays a text, and its
    attributes.
    """
    meta = _checked(meta, dict)
    return Record(_checked(meta["class_name"], str), _checked(meta["state"], dict))


def _dictionary(items: Any = ()) -> dict[Any, Any]:
    if items == ():
        return {}
    raise ValueError("a dictionary made of something")


def _set(items: Any) -> set[Any]:
    return {checked_key(item) for item in _checked(items, list)}


def _storage(data: Any) -> Tensor:
    """The numbers of a storage in one row."""
    data = _checked(data, bytes)
    if not data.startswith(torchfile.LEGACY_START):
        raise CheckpointError("the bytes of a tensor are not in torch's older format, as expected")
    return _checked(torchfile.load_rows(io.BytesIO(data), _find_numbers), Tensor)


def _find_numbers(module: str, name: str) -> Maker:
    """What stands for a name in the bytes of a tensor."""
    maker = find_class(module, name)
    if maker.name not in torchfile.DTYPES:
        raise CheckpointError(f"found the name `{maker.name}` in the bytes of a tensor")
    return maker


def _tensor(
    numbers: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any
) -> Tensor:
    """A view of a storage."""
    row, size, stride = _checked(numbers, Tensor), _checked(size, tuple), _checked(stride, tuple)
    if row.dim() != 1 or not len(size) == len(stride) <= _MOST_AXES:
        raise ValueError(f"a tensor of {len(size)} axes and {len(stride)} strides")
    for number in (offset, *size, *stride):
        if not 0 <= _checked(number, int) < _LARGEST:
            raise ValueError("a tensor whose size, stride or offset cannot be")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # A number stands at one place only: few bytes must not become a huge tensor.
    if count and max(count - 1, last) >= len(row):
        raise ValueError(f"a tensor of size {list(size)} over {len(row)} numbers")
    return row.as_strided(size, stride, offset) if count else row.new_empty(size)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Tensor:
    return _checked(tensor, Tensor)


def _dtype(code: Any, *_: Any) -> Dtype:
    # numpy's own parser of these texts knows a whole language.
    if not _NUMBERS.fullmatch(_checked(code, str)):
        raise CheckpointError(f"found numpy data of type {code[:40]!r}; expected numbers")
    return Dtype(np.dtype(code))


def _scalar(dtype: Any, data: Any) -> Any:
    return _filled(data, dtype, (), "C").item()


def _empty_array(*_: Any) -> Array:
    return Array()


def _array(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    """axes: since numpy 2.3, the order of the axes of an array that is not stored in theirs."""
    array = _filled(data, dtype, shape, order)
    return Array(array if axes is None else array.transpose(_checked(axes, tuple)))


def _filled(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """numpy checks that the data has the size that shape and type ask for."""
    flat = np.frombuffer(_checked(data, bytes), _checked(dtype, Dtype).value)
    return flat.reshape(_checked(shape, tuple), order="F" if order == "F" else "C")


def _encoded(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise ValueError("bytes in another encoding than latin1")
    return _checked(text, str).encode("latin1")


def _network() -> Record:
    return Record("dnnlib.tflib.network.Network")


def _checked(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


_TABLE = {
    maker.name: maker
    for maker in (
        Maker("argparse.Namespace", new=_dictionary),
        Maker("collections.OrderedDict", reduce=_dictionary),
        Maker("builtins.set", reduce=_set),
        Maker("__builtin__.set", reduce=_set),
        Maker("_codecs.encode", reduce=_encoded),
        Maker("dnnlib.util.EasyDict", reduce=_dictionary, new=_dictionary),
        Maker("torch_utils.persistence._reconstruct_persistent_obj", reduce=_persistent_object),
        Maker("torch._utils._rebuild_tensor_v2", reduce=_tensor),
        Maker("torch._utils._rebuild_parameter", reduce=_parameter),
        Maker("torch.storage._load_from_bytes", reduce=_storage),
        Maker("dnnlib.tflib.network.Network", new=_network),
        Maker("numpy.dtype", reduce=_dtype),
        Maker("numpy.ndarray"),
        *(Maker(name) for name in torchfile.DTYPES),
        *(
            Maker(f"numpy.{core}.{name}", reduce=function)
            for core in ("core", "_core")  # before and after numpy 2
            for name, function in (
                ("multiarray.scalar", _scalar),
                ("multiarray._reconstruct", _empty_array),
                ("numeric._frombuffer", _array),
            )
        ),
    )
}
