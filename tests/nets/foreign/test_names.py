"""The short table of names, and what stands for them: records, arrays, tensors."""

from __future__ import annotations

import io
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import names, unpickle
from insetgan_batch.nets.foreign.names import Array, Record
from tests.nets.foreign import pretend
from tests.nets.foreign.attack import (
    binary,
    call,
    integer,
    laughs,
    listing,
    little_memory,
    little_work,
    name,
    pickled,
    row,
    stored,
    tensor,
    text,
)

# Whoever hangs does so in C, where the usual timeout does not reach.
pytestmark = pytest.mark.timeout(method="thread")

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3, 4, 5])


def load(data: bytes) -> Any:
    return unpickle.load(io.BytesIO(data), names.find_class)


def through(value: object, protocol: int, **numpy_and_torch: bool) -> Any:
    """The value, written by pickle and read by the machine."""
    return load(pretend.pickled(value, protocol, **numpy_and_torch))


def refusal_of(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(data)
    return str(caught.value)


# What real pickles hold

ARRAYS = {
    "float32": np.arange(6, dtype="<f4").reshape(2, 3),
    "float64": np.arange(6, dtype="<f8").reshape(2, 3),
    "float16": np.arange(6, dtype="<f2").reshape(2, 3),
    "highest byte first": np.arange(6, dtype=">f4").reshape(2, 3),
    "int8": np.arange(-3, 3, dtype="i1"),
    "uint64": np.arange(6, dtype="u8") + 2**63,
    "int16, highest byte first": np.arange(6, dtype=">i2"),
    "bool": np.array([True, False]),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24, dtype="f4").reshape(2, 3, 4).transpose(2, 0, 1),
    "every second": np.arange(10, dtype="f4")[::2],
    "backwards": np.arange(10, dtype="f4")[::-1],
    "no axis": np.array(2.5, dtype="f4"),
    "large": np.arange(40_000, dtype="f4").reshape(200, 200),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_come_back(kind: str) -> None:
    array = ARRAYS[kind]
    for protocol, old_numpy in itertools.product([2, 3, 4, 5], [True, False]):
        found = through(array, protocol, old_numpy=old_numpy)
        assert isinstance(found, Array)
        assert found.value.shape == array.shape
        assert found.value.dtype == array.dtype
        np.testing.assert_array_equal(found.value, array)


@pytest.mark.parametrize(
    "scalar", [np.float32(0.5), np.float64(-1.5), np.float16(2), np.int64(-7), np.bool_(True)]
)
def test_numpys_scalars_become_plain_numbers(scalar: np.generic) -> None:
    for protocol, old_numpy in itertools.product([2, 3, 4, 5], [True, False]):
        found = through(scalar, protocol, old_numpy=old_numpy)
        assert found == scalar.item()
        assert type(found) is type(scalar.item())


TENSORS = {
    "float32": torch.arange(6.0).reshape(2, 3),
    "float16": torch.arange(6.0).half(),
    "bfloat16": torch.arange(6.0).bfloat16(),
    "float64": torch.arange(6.0).double(),
    "int64": torch.arange(6),
    "bool": torch.tensor([True, False]),
    "no axis": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "transposed": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "part of a storage": torch.arange(20.0)[5:15:2],
    "channels last": torch.arange(24.0)
    .reshape(1, 2, 3, 4)
    .contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_and_parameters_come_back(kind: str) -> None:
    tensor_ = TENSORS[kind]
    for protocol in (2, 3, 4, 5):
        found = through(tensor_, protocol)
        assert type(found) is Tensor
        assert found.dtype == tensor_.dtype
        assert torch.equal(found, tensor_)
        parameter = nn.Parameter(tensor_, requires_grad=tensor_.is_floating_point())
        found = through(parameter, protocol)
        assert type(found) is Tensor
        assert torch.equal(found, tensor_)


@PROTOCOLS
def test_tensors_saved_on_a_gpu_come_back_on_the_cpu(protocol: int) -> None:
    with pretend.stored_on("cuda:1"):
        data = pretend.pickled(torch.arange(3.0), protocol)
    assert b"cuda:1" in data
    assert torch.equal(load(data), torch.arange(3.0))


@PROTOCOLS
def test_modules_are_records_and_their_source_stays_behind(protocol: int) -> None:
    module = pretend.persistent("Generator", z_dim=4, w_avg=torch.ones(2))
    module.add_module("mapping", pretend.persistent("Mapping", names={"a"}))
    found = through(module, protocol)
    assert isinstance(found, Record)
    assert found.class_name == "Generator"
    assert found.state["z_dim"] == 4
    assert torch.equal(found.state["_buffers"]["w_avg"], torch.ones(2))
    inner = found.state["_modules"]["mapping"]
    assert (inner.class_name, inner.state["names"]) == ("Mapping", {"a"})
    assert "was run" not in repr(found)


@PROTOCOLS
def test_networks_of_tensorflow_are_records(protocol: int) -> None:
    network = pretend.Network({"name": "G", "variables": [("lod", np.zeros(()))]})
    found = through(network, protocol)
    assert found.class_name == "dnnlib.tflib.network.Network"
    assert found.state["variables"][0][0] == "lod"


# Names


@pytest.mark.parametrize(
    "dotted",
    [
        *("os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr"),
        *(
            "subprocess.Popen",
            "functools.partial",
            "torch.load",
            "torch.hub.load",
            "runpy._run_code",
        ),
        *("copyreg._reconstructor", "numpy.load", "operator.attrgetter", "__main__.x"),
        *(
            "collections.OrderedDict.fromkeys",
            "torch.nn.modules.linear.Linear",
            "builtins.bytearray",
        ),
    ],
)
def test_a_name_outside_of_the_table_is_named(dotted: str) -> None:
    module, _, attribute = dotted.rpartition(".")
    for data in (
        name(dotted),
        text(module) + text(attribute) + b"\x93",
        call(dotted, text("x")),
        listing(name(dotted)),
    ):
        message = refusal_of(pickled(data))
        assert f"found the name `{dotted}`" in message
        assert "Nothing was executed" in message


def test_the_table_is_short_and_knows_nothing_that_acts() -> None:
    assert len(names._TABLE) < 40
    for maker in names._TABLE.values():
        for function in (maker.reduce, maker.new):
            assert function is None or function.__module__ == names.__name__


def test_a_long_name_is_cut() -> None:
    assert len(refusal_of(pickled(text("m" * 10_000) + text("x") + b"\x93"))) < 500


def test_what_is_in_the_bytes_of_a_tensor_may_name_types_of_numbers_only() -> None:
    inner = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
    start = b"".join([pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), inner])
    nested = start + pickled(stored(bytes(4)), 2) + pickled(b"]", 2)
    message = refusal_of(pickled(call("torch.storage._load_from_bytes", binary(nested))))
    assert "`torch.storage._load_from_bytes` in the bytes of a tensor" in message


# Tensors and arrays

NUMBERS = stored(np.arange(12, dtype="<f4").tobytes())


@pytest.mark.parametrize(
    ("size", "stride", "offset", "numbers"),
    [
        ((12,), (1,), 0, range(12)),
        ((3, 2), (4, 2), 1, [1, 3, 5, 7, 9, 11]),
        ((), (), 11, 11),
        ((2, 0), (7, 7), 0, []),
        ((1, 1), (99, 99), 11, 11),
    ],
)
def test_views_of_a_storage(
    size: tuple[int, ...], stride: tuple[int, ...], offset: int, numbers: Any
) -> None:
    found = load(pickled(tensor(NUMBERS, size, stride, offset)))
    assert torch.equal(found, torch.tensor(numbers, dtype=torch.float32).reshape(size))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((13,), (1,), 0),
        ((12,), (1,), 1),
        ((2,), (12,), 0),
        ((4, 4), (1, 1), 0),
        ((1 << 40,), (0,), 0),
        ((2, 12), (0, 1), 0),
        ((3,), (-1,), 2),
        ((-3,), (1,), 0),
        ((3,), (1,), -1),
        ((1 << 32, 1 << 32), (0, 0), 0),
        ((1 << 62,) * 4, (0,) * 4, 0),
        ((0, 1 << 62), (1, 1), 0),
        ((10**400,), (1,), 0),
        ((1,), (10**400,), 0),
        ((1,), (1,), 1 << 63),
        ((2, 2), (1,), 0),
        ((1,) * 9, (1,) * 9, 0),
    ],
)
def test_a_tensor_never_reaches_beyond_its_storage(
    size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    with little_memory():
        message = refusal_of(pickled(tensor(NUMBERS, size, stride, offset)))
    assert "(a tensor " in message


def rebuilt(*arguments: bytes) -> bytes:
    return call(
        "torch._utils._rebuild_tensor_v2", *arguments, b"\x89", call("collections.OrderedDict")
    )


@pytest.mark.parametrize(
    "data",
    [
        rebuilt(b"N", b"K\x00", row(b"K\x01"), row(b"K\x01")),
        rebuilt(NUMBERS, b"N", row(b"K\x01"), row(b"K\x01")),
        rebuilt(NUMBERS, b"K\x00", b"K\x01", b"K\x01"),
        rebuilt(NUMBERS, b"K\x00", row(text("1")), row(b"K\x01")),
        rebuilt(NUMBERS, b"K\x00", row(laughs()), row(b"K\x01", b"K\x01")),
        rebuilt(NUMBERS, b"K\x00", row(laughs()), row(laughs())),
        rebuilt(NUMBERS, b"K\x00", laughs(), laughs()),
        rebuilt(tensor(NUMBERS, (3, 4), (4, 1)), b"K\x00", row(b"K\x01"), row(b"K\x01")),
        rebuilt(NUMBERS, b"K\x00", row(b"K\x01")),
    ],
)
def test_tensors_of_wrong_things_are_refused_at_once(data: bytes) -> None:
    with little_work():
        assert "not a whole pickle" in refusal_of(pickled(data))


def test_tensors_that_stand_for_more_numbers_than_there_are() -> None:
    """torch stores an expanded tensor as one number."""
    assert "over 1 numbers" in refusal_of(pretend.pickled(torch.ones(1).expand(1 << 30)))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "not in torch's older format"),
        (b"PK\x03\x04" + bytes(50), "not in torch's older format"),
        (pickle.dumps([1, 2]), "not in torch's older format"),
        (stored(bytes(8))[50:60], "not in torch's older format"),
    ],
)
def test_other_bytes_of_a_tensor_are_refused(data: bytes, found: str) -> None:
    message = refusal_of(pickled(call("torch.storage._load_from_bytes", binary(data))))
    assert found in message


def test_the_bytes_of_a_tensor_must_be_bytes() -> None:
    assert "a str in the place" in refusal_of(
        pickled(call("torch.storage._load_from_bytes", text("x")))
    )


def dtype(code: str, order: bytes = text("<")) -> bytes:
    made = call("numpy.dtype", text(code), b"\x89", b"\x88")
    return made + row(b"K\x03", order, b"N", b"N", b"N", integer(-1), integer(-1), b"K\x00") + b"b"


def array(shape: bytes, code: str, data: bytes, *, is_fortran: bytes = b"\x89") -> bytes:
    function = "numpy.core.multiarray._reconstruct"
    made = call(function, name("numpy.ndarray"), row(b"K\x00"), binary(b"b"))
    return made + row(b"K\x01", shape, dtype(code), is_fortran, data) + b"b"


@pytest.mark.parametrize(
    "code",
    [
        *("O", "O8", "|O", "V8", "S5", "U4", "M8", "m8[ns]", "c8", "c16", "f16", "f0", "", "f4,f4"),
        *("(1000000000,)f4", "{'names': ['a'], 'formats': ['O']}", " " * 50_000 + "!", "i4, O"),
        *("4f4", "f4:", "float32", "object", ",".join(["f4"] * 10_000), "f4\n", "٤"),
    ],
)
def test_only_numbers_are_types_of_arrays(code: str) -> None:
    with little_work():
        message = refusal_of(pickled(array(row(b"K\x01"), code, binary(bytes(8)))))
        assert "found numpy data of type" in message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.array([object], dtype=object),
        np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.zeros(2, dtype="c8"),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
    ids=["object", "structured", "text", "bytes", "complex", "time"],
)
def test_arrays_of_other_things_are_refused(value: np.ndarray, protocol: int) -> None:
    refusal_of(pretend.pickled(value, protocol))


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        (row(b"K\x03"), binary(bytes(8))),
        (row(b"K\x02", b"K\x02"), binary(bytes(8))),
        (row(integer(1 << 62), integer(4)), binary(bytes(8))),
        (row(integer(10**400)), binary(bytes(8))),
        (row(*[b"K\x01"] * 100), binary(bytes(4))),
        (row(text("2")), binary(bytes(8))),
        (row(laughs()), binary(bytes(8))),
        (row(b"K\x02"), binary(bytes(7))),
        (b"N", binary(bytes(8))),
        (b"K\x02", binary(bytes(8))),
        (row(b"K\x02"), text("12345678")),
        (row(b"K\x02"), listing(text("a"), text("b"))),
        (row(b"K\x02"), b"N"),
    ],
)
def test_arrays_whose_data_does_not_fit(shape: bytes, data: bytes) -> None:
    with little_memory():
        assert "not a whole pickle" in refusal_of(pickled(array(shape, "f4", data)))


@pytest.mark.parametrize("order", [b"N", text(""), text("x"), laughs(), b"K\x01"])
def test_byte_orders_that_cannot_be(order: bytes) -> None:
    with little_work():
        assert "not a whole pickle" in refusal_of(pickled(dtype("f4", order)))


@pytest.mark.parametrize("state", [b"N", b")", row(b"K\x01"), b"}", row(*[b"N"] * 5), laughs()])
@pytest.mark.parametrize(
    "target",
    [
        call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), row(b"K\x00"), b"N"),
        call("numpy.dtype", text("f4"), b"\x89", b"\x88"),
    ],
)
def test_arrays_and_types_with_wrong_attributes(target: bytes, state: bytes) -> None:
    assert "not a whole pickle" in refusal_of(pickled(target + state + b"b"))
