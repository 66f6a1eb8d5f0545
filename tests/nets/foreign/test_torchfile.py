"""torch's files, both formats: what torch.save writes comes back, and nothing else is believed."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import torchfile
from insetgan_batch.nets.foreign.names import find_class
from tests.nets.foreign.attack import (
    call,
    integer,
    laughs,
    legacy_file,
    listing,
    little_memory,
    little_work,
    name,
    pickled,
    row,
    storage_id,
    tensor,
    text,
    zip_file,
)
from tests.nets.foreign.pretend import stored_on

pytestmark = pytest.mark.timeout(method="thread")

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
MADE = pytest.mark.parametrize("make", [zip_file, legacy_file], ids=["zip", "legacy"])
NUMBERS = np.arange(12, dtype="<f4").tobytes()


def load(data: bytes) -> Any:
    reads_zip = data.startswith(torchfile.ZIP_START)
    read: Callable[..., Any] = torchfile.load_zip if reads_zip else torchfile.load_rows
    return read(io.BytesIO(data), find_class)


def saved(value: object, *, zipped: bool, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def refusal_of(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(data)
    return str(caught.value)


# What torch.save writes

TENSORS = {
    **{f"{dtype}"[6:]: torch.arange(6).to(dtype) for dtype in torchfile.DTYPES.values()},
    "no axis": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "transposed": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "part": torch.arange(20.0)[5:15:2],
    "channels last": torch.ones(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    "parameter": nn.Parameter(torch.arange(3.0)),
}


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_come_back(protocol: int, zipped: bool) -> None:
    found = load(saved(TENSORS, zipped=zipped, protocol=protocol))
    assert found.keys() == TENSORS.keys()
    for kind, expected in TENSORS.items():
        assert type(found[kind]) is Tensor
        assert found[kind].dtype == expected.dtype
        assert torch.equal(found[kind], expected)


@FORMATS
def test_training_checkpoints_come_back(zipped: bool) -> None:
    model = nn.Linear(2, 1)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    options = argparse.Namespace(size=256, ckpt=None, augment=True)
    whole = {"g": model.state_dict(), "g_optim": optimiser.state_dict(), "args": options}
    found = load(saved(whole, zipped=zipped))
    assert torch.equal(found["g"]["weight"], model.weight)
    assert found["g_optim"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert "exp_avg" in found["g_optim"]["state"][0]
    assert found["args"] == {}  # nobody needs them


@FORMATS
def test_tensors_of_one_storage_share_it(zipped: bool) -> None:
    numbers = torch.arange(6.0)
    found = load(saved([numbers, numbers[2:], numbers.reshape(2, 3)], zipped=zipped))
    assert len({view.untyped_storage().data_ptr() for view in found}) == 1
    assert torch.equal(found[1], numbers[2:])


@FORMATS
def test_files_saved_on_a_gpu_are_read_without_one(zipped: bool) -> None:
    with stored_on("cuda:7"):
        data = saved({"x": torch.arange(3.0)}, zipped=zipped)
    assert b"cuda:7" in data
    assert load(data)["x"].device.type == "cpu"


def test_files_made_by_hand_are_read() -> None:
    """Else the refusals below would not mean much."""
    value = tensor(storage_id("0", 12), (3, 4), (4, 1))
    for make in (zip_file, legacy_file):
        assert torch.equal(load(make(value, {"0": NUMBERS})), torch.arange(12.0).reshape(3, 4))


def test_ids_of_optimisers_are_keys() -> None:
    """torch up to 1.5 counted parameters by their address."""
    address = 140_234_866_358_432
    assert load(legacy_file(b"}" + integer(address) + b"Ns")) == {address: None}


# Names


class Generator(nn.Module):
    """A model that somebody saves whole."""


@FORMATS
def test_a_model_that_was_saved_whole_is_named(zipped: bool) -> None:
    message = refusal_of(saved(Generator(), zipped=zipped))
    assert "`tests.nets.foreign.test_torchfile.Generator`" in message
    assert "save the state dict" in message


@MADE
@pytest.mark.parametrize(
    "dotted",
    [
        *("builtins.bytearray", "__builtin__.bytearray", "builtins.complex", "collections.Counter"),
        *("torch.Tensor", "torch.FloatTensor", "torch.sparse.FloatTensor", "torch.device"),
        *("torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_qtensor"),
        *("torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_wrapper_subclass"),
        *("torch._utils._rebuild_meta_tensor_no_storage", "torch.ComplexFloatStorage"),
        *("torch.storage.UntypedStorage", "torch.QInt8Storage", "torch.cuda.FloatStorage"),
    ],
)
def test_names_that_torch_allows_and_weights_do_not_need(
    make: Callable[..., bytes], dotted: str
) -> None:
    """Some make objects of any size; some make tensors that are not plain numbers."""
    with little_memory():
        message = refusal_of(make(call(dotted, integer(20 << 30))))
    assert f"found the name `{dotted}`" in message


@FORMATS
@pytest.mark.parametrize(
    "value",
    [
        torch.eye(3).to_sparse(),
        torch.ones(3, device="meta"),
        torch.ones(3, dtype=torch.complex64),
        torch.ones(3).to(torch.float8_e4m3fn),
    ],
    ids=["sparse", "meta", "complex", "float8"],
)
def test_tensors_that_are_not_plain_numbers_are_refused(value: Tensor, zipped: bool) -> None:
    assert "found the name `torch" in refusal_of(saved({"x": value}, zipped=zipped))


@FORMATS
def test_an_expanded_tensor_is_refused(zipped: bool) -> None:
    """One number that stands for a billion."""
    data = saved(torch.ones(1).expand(1 << 30), zipped=zipped)
    assert "over 1 numbers" in refusal_of(data)


# Time and memory


@MADE
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"}" + laughs() + b"Ns", "a tuple as a key"),
        (b"}" + b")" + b"\x85" * 50_000 + b"Ns", "a tuple as a key"),
        (b"}" + integer(1 << 61) + b"Ns", "a int as a key"),
    ],
)
def test_keys_that_torch_would_hash_for_ever(
    make: Callable[..., bytes], value: bytes, found: str
) -> None:
    """300 bytes keep torch.load(weights_only=True) busy for ever; deep tuples crash it."""
    with little_work():
        assert found in refusal_of(make(value))


@MADE
@pytest.mark.parametrize("count", [13, 11, 0, -1, 1 << 20, 1 << 33, 1 << 60, 1 << 90])
def test_a_storage_of_another_size_than_declared(make: Callable[..., bytes], count: int) -> None:
    value = tensor(storage_id("0", count), (1,), (1,))
    with little_memory():
        message = refusal_of(make(value, {"0": NUMBERS}))
    assert "expected one" in message
    assert "memory" not in message.lower()


def test_many_storages_are_not_larger_than_the_file_together() -> None:
    ids = [storage_id(f"{i}", 100_000) for i in range(1000)]
    numbers = {"0": bytes(400_000)}
    with little_memory():
        assert "more numbers are declared" in refusal_of(legacy_file(listing(*ids), numbers))


@MADE
def test_numbers_that_are_missing(make: Callable[..., bytes]) -> None:
    """torch leaves them as they were in memory."""
    value = listing(storage_id("0", 3), storage_id("1", 3))
    assert "not a whole" in refusal_of(make(value, {"0": bytes(12)}))


@pytest.mark.parametrize("keys", [{"1": bytes(4)}, {"0": bytes(4), "1": bytes(4)}])
def test_numbers_that_nobody_asked_for(keys: dict[str, bytes]) -> None:
    assert "not a whole torch file" in refusal_of(legacy_file(storage_id("0", 1), keys))


@MADE
def test_a_storage_of_two_types_or_sizes(make: Callable[..., bytes]) -> None:
    for other in (storage_id("0", 2), storage_id("0", 1, "torch.IntStorage")):
        value = listing(storage_id("0", 1), other)
        assert "a storage of two types or sizes" in refusal_of(make(value, {"0": bytes(4)}))


@MADE
@pytest.mark.parametrize(
    "persistent_id",
    [
        b"N",
        b")",
        text("0"),
        row(text("storage")),
        row(text("module"), name("torch.FloatStorage"), text("0"), text("cpu"), b"K\x01"),
        row(b"N", name("torch.FloatStorage"), text("0"), text("cpu"), b"K\x01"),
        row(laughs(), name("torch.FloatStorage"), text("0"), text("cpu"), b"K\x01"),
        row(text("storage"), text("FloatStorage"), text("0"), text("cpu"), b"K\x01"),
        row(text("storage"), name("numpy.ndarray"), text("0"), text("cpu"), b"K\x01"),
        row(text("storage"), name("torch.FloatStorage"), b"K\x00", text("cpu"), b"K\x01"),
        row(text("storage"), name("torch.FloatStorage"), text("0"), text("cpu"), b"G" + bytes(8)),
        row(text("storage"), name("torch.FloatStorage"), text("0"), text("cpu"), b"K\x01", b")"),
        row(text("storage"), name("torch.FloatStorage"), text("../x"), text("cpu"), b"K\x01"),
    ],
)
def test_persistent_ids_that_are_no_storages(
    make: Callable[..., bytes], persistent_id: bytes
) -> None:
    with little_work():
        assert "not a whole" in refusal_of(make(persistent_id + b"Q", {"0": bytes(4)}))


# Zip files


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries_are_refused_and_not_inflated(compression: int) -> None:
    value = tensor(storage_id("0", 20 << 18), (1,), (1,))
    data = zip_file(value, {"0": bytes(20 << 20)}, compression=compression)
    assert len(data) < 1 << 20
    with little_memory(16 << 20):
        assert "is compressed; expected a torch file" in refusal_of(data)


def test_entries_that_lie_over_each_other_are_refused() -> None:
    """One megabyte of zeros, which a thousand entries call their own."""
    data = bytearray(
        zip_file(b"N", {f"{i:04}": bytes(1 << 20 if i == 0 else 0) for i in range(1000)})
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start, first = archive.start_dir, archive.getinfo("archive/data/0000")
    place = start
    while data[place : place + 4] == b"PK\x01\x02":
        length, *more = (
            int.from_bytes(data[place + at : place + at + 2], "little") for at in (28, 30, 32)
        )
        if b"data/0" in data[place : place + 46 + length]:
            data[place + 20 : place + 28] = (1 << 20).to_bytes(4, "little") * 2
            data[place + 42 : place + 46] = first.header_offset.to_bytes(4, "little")
        place += 46 + length + sum(more)
    assert "its entries are larger than the file" in refusal_of(bytes(data))


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ({"a/version": b"3"}, "0 entries `data.pkl`"),
        ({"a/data.pkl": pickled(b"N"), "b/data.pkl": pickled(b"N")}, "2 entries `data.pkl`"),
        ({"a/data.pkl": pickled(b"N"), "a/byteorder": b"big"}, "the highest byte first"),
        ({"a/data.pkl": b""}, "not a whole pickle"),
        ({"a/data.pkl": pickled(call("__torch__.Model"))}, "found the name `__torch__.Model`"),
    ],
)
def test_zip_files_that_are_no_torch_files(entries: dict[str, bytes], found: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    assert found in refusal_of(file.getvalue())


def test_damaged_numbers_are_noticed() -> None:
    data = zip_file(tensor(storage_id("0", 12), (12,), (1,)), {"0": NUMBERS})
    place = data.index(NUMBERS)
    assert "Bad CRC" in refusal_of(data[: place + 5] + b"\xff" + data[place + 6 :])


# The older format


@pytest.mark.parametrize(
    "parts",
    [
        [pickle.dumps(1001, 2)],
        [
            pickle.dumps(1002, 2),
            pickle.dumps({"little_endian": True}, 2),
            pickled(b"N"),
            pickled(b"]"),
        ],
        [
            pickle.dumps(1001, 2),
            pickle.dumps({"little_endian": False}, 2),
            pickled(b"N"),
            pickled(b"]"),
        ],
        [pickle.dumps(1001, 2), pickle.dumps({}, 2), pickled(b"N"), pickled(b"]")],
        [pickle.dumps(1001, 2), pickle.dumps(None, 2), pickled(b"N"), pickled(b"]")],
        [pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), pickled(b"N")],
        [
            pickle.dumps(1001, 2),
            pickle.dumps({"little_endian": True}, 2),
            pickled(b"N"),
            pickled(b"K\x07"),
        ],
        [
            pickle.dumps(1001, 2),
            pickle.dumps({"little_endian": True}, 2),
            pickled(b"N"),
            pickled(b"])a"),
        ],
    ],
)
def test_other_rows_of_pickles(parts: list[bytes]) -> None:
    assert "not a whole" in refusal_of(torchfile.LEGACY_START + b"".join(parts))


@FORMATS
def test_nothing_is_read_from_a_cut_file(zipped: bool) -> None:
    data = saved(OrderedDict(x=torch.arange(50.0), y=torch.ones(2, 3)), zipped=zipped)
    for length in range(len(torchfile.LEGACY_START), len(data)):
        assert "not a whole" in refusal_of(data[:length])
