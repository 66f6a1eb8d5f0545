"""The machine that reads pickles: all that real ones use comes back, all else is refused."""

from __future__ import annotations

import io
import pickle
import pickletools
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import names, unpickle
from insetgan_batch.nets.foreign.names import Record
from tests.nets.foreign import pretend
from tests.nets.foreign.attack import (
    again,
    bombs,
    call,
    integer,
    keep,
    laughs,
    listing,
    little_memory,
    little_work,
    mapping,
    name,
    opcode_bombs,
    pickled,
    row,
    storage_bytes,
    storage_id,
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


# What real pickles are made of

PLAIN: list[Any] = [
    None,
    True,
    False,
    *(0, 1, -1, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, -(2**31), 2**63, -(2**63)),
    *(10**30, -(10**300), 10**3000),
    *(0.0, -0.5, 1e308, 1e-320, float("inf")),
    *("", "g_ema", "ü → 日本 😀", "x" * 255, "x" * 256, "x" * 70_000, "\ud800"),
    *(b"", b"\x00\xff", b"x" * 255, b"x" * 256, b"x" * 70_000),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ((),)), tuple(range(1000))),
    *([], [1], list(range(3000)), [[], [[]]]),
    *({}, {"a": 1}, {str(i): i for i in range(3000)}, {1: "x", None: "y", b"k": "z"}),
    *(set(), {"a"}, {"a", "b", "c"}),
    {"list": [1, (2, {"x": [None]})], "text": "…"},
]


@PROTOCOLS
def test_plain_values_come_back(protocol: int) -> None:
    for value in PLAIN:
        if protocol == 2 and value == b"":
            continue  # the only value for which protocol 2 calls `bytes`; no weights are empty
        found = through(value, protocol)
        assert found == value
        assert type(found) is type(value)


@PROTOCOLS
def test_dictionaries_of_other_kinds_come_back_as_plain_ones(protocol: int) -> None:
    ordered = OrderedDict([("b", 1), ("a", OrderedDict())])
    assert list(through(ordered, protocol).items()) == [("b", 1), ("a", {})]
    easy = pretend.EasyDict(a=1, b=pretend.EasyDict(c=(2,)))
    assert through(easy, protocol) == {"a": 1, "b": {"c": (2,)}}


@PROTOCOLS
def test_attributes_of_a_dictionary_are_left_out(protocol: int) -> None:
    """A state dict has `_metadata`."""
    state = nn.Linear(2, 1).state_dict()
    found = through(state, protocol)
    assert list(found) == ["weight", "bias"]


@PROTOCOLS
def test_what_is_the_same_object_stays_the_same_object(protocol: int) -> None:
    shared = [1]
    first, second = through((shared, {"again": shared}), protocol)
    assert first is second["again"]
    ring: list[Any] = []
    ring.append(ring)
    found = through(ring, protocol)
    assert found[0] is found


def test_bytearrays_are_bytes() -> None:
    assert through(bytearray(b"ab"), 5) == b"ab"


def test_the_first_protocols_texts_and_numbers_are_understood() -> None:
    """Files that were written by hand have them."""
    data = b"(lp0\nI7\naI01\naL-8L\naF0.5\naVa\\u00fc\np1\nag1\na."
    assert load(data) == [7, True, -8, 0.5, "aü", "aü"]
    assert load(b"(I1\n(VK\nI2\ndt.") == (1, {"K": 2})


# What nobody executes


@pytest.mark.parametrize("kind", bombs(Path()))
def test_nothing_is_executed(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    bomb = pickle.dumps(bombs(marker)[kind], 4)
    refusal_of(bomb)
    refusal_of(pickletools.optimize(bomb))
    assert not marker.exists()
    explode(bomb, marker)


@pytest.mark.parametrize("kind", opcode_bombs(Path()))
def test_nothing_is_executed_by_unusual_opcodes(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    bomb = pickled(opcode_bombs(marker)[kind])
    refusal_of(bomb)
    assert not marker.exists()
    explode(bomb, marker)


def explode(bomb: bytes, marker: Path) -> None:
    """That the test is worth something: pickle itself does execute it."""
    pickle.loads(bomb)
    until_s = time.monotonic() + 250
    while not marker.exists():
        assert time.monotonic() < until_s
        time.sleep(0.01)


# Opcodes and calls that checkpoints do not have


@pytest.mark.parametrize(
    ("opcode", "data"),
    [
        ("INST", b"(icollections\nOrderedDict\n"),
        ("OBJ", b"(" + name("collections.OrderedDict") + b"o"),
        ("PERSID", b"P0\n"),
        ("BINPERSID", text("0") + b"Q"),
        ("EXT1", b"\x82\x01"),
        ("EXT2", b"\x83\x01\x00"),
        ("EXT4", b"\x84\x01\x00\x00\x00"),
        ("NEWOBJ_EX", name("dnnlib.util.EasyDict") + b")}\x92"),
        ("NEXT_BUFFER", b"\x97"),
        ("READONLY_BUFFER", b"N\x98"),
        ("FROZENSET", b"(\x91"),
        ("DUP", b"N2"),
        ("SHORT_BINSTRING", b"U\x01x"),
        ("BINSTRING", b"T\x01\x00\x00\x00x"),
        ("STRING", b"S'x'\n"),
    ],
)
def test_opcodes_that_checkpoints_do_not_use_are_named(opcode: str, data: bytes) -> None:
    assert f"found opcode {opcode} at byte" in refusal_of(pickled(data))


ORDERED = call("collections.OrderedDict")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (text("x") + b")R", "a call of a str"),
        (ORDERED + b")R", "a call of a dict"),
        (call("torch._utils._rebuild_parameter", b"N", b"N", b"N"), "a NoneType in the place"),
        (name("collections.OrderedDict") + b"NR", "a call of a Maker"),
        (name("collections.OrderedDict") + b")\x81", "in a place where checkpoints do not have"),
        (name("numpy.ndarray") + b")R", "in a place where checkpoints do not have"),
        (name("torch.FloatStorage") + b")R", "in a place where checkpoints do not have"),
        (name("dnnlib.tflib.network.Network") + b")R", "in a place where checkpoints do not have"),
        (call("collections.OrderedDict", listing(row(text("a"), b"N"))), "made of something"),
        (name("dnnlib.tflib.network.Network") + b"N\x85\x81", "takes 0 positional arguments"),
        (b")N" + b"b", "attributes for a tuple"),
        (name("collections.OrderedDict") + b"}b", "attributes for a Maker"),
        (b"]}b", "attributes for a list"),
        (name("dnnlib.tflib.network.Network") + b")\x81Nb", "a NoneType in the place of a dict"),
        (name("dnnlib.tflib.network.Network") + b")\x81}}\x86b", "a tuple in the place of a dict"),
        (call("builtins.set", text("abc")), "a str in the place of a list"),
        (call("builtins.set", listing(b")")), "a tuple as a key"),
        (call("_codecs.encode", text("x"), text("rot13")), "bytes in another encoding"),
        (call("_codecs.encode", text("x"), laughs()), "bytes in another encoding"),
        (call("_codecs.encode", text("Ω"), text("latin1")), "'latin-1' codec can't encode"),
        (b"NNa", "items for a NoneType"),
        (b")(NNu", "items for a tuple"),
        (b"](N\x90", "items for a list"),
        (b"}(Nu", "zip() argument"),
    ],
)
def test_calls_and_attributes_that_checkpoints_do_not_have(data: bytes, found: str) -> None:
    message = refusal_of(pickled(data))
    assert found in message
    assert "expected one as its program wrote it" in message


@pytest.mark.parametrize(
    "meta",
    [
        b"N",
        b"}",
        mapping({"class_name": text("G")}),
        mapping({"class_name": b"N", "state": b"}"}),
        mapping({"class_name": text("G"), "state": b"]"}),
    ],
)
def test_records_without_class_or_attributes(meta: bytes) -> None:
    refusal_of(pickled(call("torch_utils.persistence._reconstruct_persistent_obj", meta)))


# Keys: what is hashed


@pytest.mark.parametrize("how", ["dictionary", "set", "old set", "item"])
@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (b")", "tuple"),
        (laughs(), "tuple"),
        (b")" + b"\x85" * 50_000, "tuple"),
        (b"]", "list"),
        (b"G" + bytes(8), "float"),
        (integer(2**61 - 1), "int"),
        (integer(-(10**400)), "int"),
        (name("numpy.ndarray"), "Maker"),
        (name("dnnlib.tflib.network.Network") + b")\x81", "Record"),
    ],
)
def test_only_texts_and_small_numbers_are_keys(key: bytes, kind: str, how: str) -> None:
    data = {
        "dictionary": b"}(" + key + b"Nu",
        "item": b"}" + key + b"Ns",
        "set": b"\x8f(" + key + b"\x90",
        "old set": call("builtins.set", listing(key)),
    }[how]
    with little_work():
        assert f"a {kind} as a key" in refusal_of(pickled(data))


def test_numbers_that_all_have_the_same_hash_are_refused() -> None:
    """60,000 of them took 15 seconds, and it grows with the square."""
    keys = (integer(i * (2**61 - 1)) + b"N" for i in range(1, 60_000))
    with little_work():
        assert "a int as a key" in refusal_of(pickled(b"}(" + b"".join(keys) + b"u"))


# Sizes


def test_a_tuple_that_doubles_itself_is_one_small_thing() -> None:
    with little_memory():
        found = load(pickled(laughs()))
    assert len(found) == 2
    assert found[0] is found[1]


@pytest.mark.parametrize(
    "data",
    [
        b"\x8e" + (1 << 60).to_bytes(8, "little") + b"x",
        b"\x8d" + (1 << 60).to_bytes(8, "little") + b"x",
        b"\x96" + (1 << 60).to_bytes(8, "little") + b"x",
        b"\x8e" + (1 << 34).to_bytes(8, "little") + b"x",
        b"B" + (0xFFFF_FFFF).to_bytes(4, "little") + b"x",
        b"X" + (0xFFFF_FFFF).to_bytes(4, "little") + b"x",
        b"\x8b" + (0x7FFF_FFFF).to_bytes(4, "little") + b"x",
        b"C\xffx",
    ],
)
def test_a_length_beyond_the_end_takes_no_memory(data: bytes) -> None:
    with little_memory():
        message = refusal_of(pickled(data))
    assert "not a whole pickle" in message
    assert "MemoryError" not in message


def test_a_length_below_zero_is_refused() -> None:
    assert "not a whole pickle" in refusal_of(
        pickled(b"\x8b" + (0xFFFF_FFFF).to_bytes(4, "little"))
    )


def test_a_huge_number_in_the_memo_takes_no_memory() -> None:
    with little_memory():
        assert load(pickled(keep(2**31, text("x")) + b"0" + again(2**31))) == "x"
        assert load(pickled(b"Np4294967296\n0g4294967296\n")) is None


@pytest.mark.parametrize("opcode", [b"h\x05", again(2**31), b"g7\n"])
def test_what_was_never_kept_is_missing(opcode: bytes) -> None:
    assert "not a whole pickle" in refusal_of(pickled(opcode))


DEPTH = 100_000


@pytest.mark.parametrize(
    "data",
    [
        b")" + b"\x85" * DEPTH,
        b"]" * DEPTH + b"a" * (DEPTH - 1),
        (b"}" + text("x")) * DEPTH + b"N" + b"s" * DEPTH,
        b"(" * DEPTH + b"l" * DEPTH,
        b"(" * DEPTH + b"t" * DEPTH,
    ],
    ids=["tuples", "lists", "dictionaries", "old lists", "marked tuples"],
)
def test_deep_nesting_neither_crashes_nor_takes_long(data: bytes) -> None:
    with little_work():
        found = load(pickled(data))
        assert isinstance(found, tuple | list | dict)
        del found


def test_deeply_nested_records_neither_crash_nor_take_long() -> None:
    depth = 30_000
    function = name("torch_utils.persistence._reconstruct_persistent_obj")
    start = function + b"}(" + text("class_name") + text("G") + text("state") + b"}" + text("x")
    found = load(pickled(start * depth + b"N" + b"su\x85R" * depth))
    assert isinstance(found, Record)
    del found


@pytest.mark.parametrize("opcode", [b"N0", b"N", b"(", b")", b"\x80\x04", b"\x95" + bytes(8)])
def test_a_flood_of_opcodes_is_cut_off(opcode: bytes) -> None:
    with little_work():
        message = refusal_of(pickled(opcode * 600_000 + b"N"))
        assert "found more than 500000 opcodes" in message


@pytest.mark.parametrize(
    ("kept", "function"),
    [
        (storage_bytes(bytes(100_000)), "torch.storage._load_from_bytes"),
        (text("x" * 100_000), "_codecs.encode"),
        (listing(*[text(f"{i}") for i in range(10_000)]), "builtins.set"),
    ],
)
def test_large_things_are_not_handed_out_again_and_again(kept: bytes, function: str) -> None:
    """A copy each time: a file of 1 MB made terabytes."""
    more = text("latin1") if function == "_codecs.encode" else b""
    calls = call(function, again(0), more) * 20_000
    with little_memory(1 << 30):
        message = refusal_of(pickled(keep(0, kept) + calls))
    assert "the same data is used again and again" in message


# Streams that are not whole


def test_nothing_stops_in_the_middle() -> None:
    data = pretend.pickled({"a": np.arange(3.0), "b": torch.ones(2), "c": [(1, 2.0), {"x"}]}, 4)
    for length in range(len(data) - 1):
        refusal_of(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b".",
            b"\x80",
            b"\x80\x04",
            b"\x80\x04.",
            b"\x80\x04(.",
            b"0.",
            b"1.",
            b"N1.",
            b"(0.",
        ),
        *(
            b"\x85.",
            b"N\x86.",
            b"(\x85.",
            b"a.",
            b"]a.",
            b"(a.",
            b"s.",
            b"}s.",
            b"}(s.",
            b"u.",
            b"b.",
        ),
        *(b"R.", b"NR.", b")R.", b"\x81.", b"\x93.", b"NN\x93.", b"\x94.", b"q\x00.", b"c\n\n."),
        *(
            b"\xff.",
            b"Ix\n.",
            b"I9",
            b"F\n.",
            b"L1x\n.",
            b"V\\ud8\n.",
            b"G123.",
            b"X\x01\x00\x00\x00\xff.",
        ),
        *(b"I" + b"9" * 5000 + b"\n.", b"cos.", b"g\n.", b"p-1\n."),
    ],
)
def test_rubbish_is_refused(data: bytes) -> None:
    refusal_of(data)


def test_a_persistent_id_stands_for_what_the_caller_says_and_nothing_else() -> None:
    data = pickled(storage_id("7", 3))
    found = unpickle.load(io.BytesIO(data), names.find_class, lambda key: key[2])
    assert found == "7"
    assert "found opcode BINPERSID" in refusal_of(data)
