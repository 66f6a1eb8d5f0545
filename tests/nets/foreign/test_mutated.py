"""Files with random damage are read or refused; and what a fuzzer found."""

from __future__ import annotations

import pickle
import pickletools
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import convert, reader, torchfile
from tests.nets.foreign.attack import (
    again,
    integer,
    laughs,
    legacy_file,
    little_memory,
    little_work,
    pickled,
    storage_id,
    text,
    zip_file,
)
from tests.nets.foreign.hostile import (
    LAUGH,
    VALID,
    checked,
    networks,
    refusal_of,
    snapshot,
    variable,
)

# Whoever hangs does so in C, where the usual timeout does not reach.
pytestmark = pytest.mark.timeout(method="thread")

# Anything


EDITS = st.tuples(
    st.sampled_from(["replace", "insert", "delete", "copy", "cut"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=9),
)
Edit = tuple[str, float, float, bytes]


def edited(data: bytes, edits: list[Edit]) -> bytes:
    changed = bytearray(data)
    for kind, where, other, new in edits:
        place, source = int(where * len(changed)), int(other * len(changed))
        if kind == "replace":
            changed[place : place + len(new)] = new
        elif kind == "insert":
            changed[place:place] = new
        elif kind == "delete":
            del changed[place : place + len(new)]
        elif kind == "copy":
            changed[place:place] = changed[source : source + 40]
        elif other > 0.8:
            del changed[place:]
    return bytes(changed)


def read_or_refuse(data: bytes) -> None:
    """Damage may be harmless; whatever is raised is one line."""
    directory = Path(tempfile.mkdtemp())
    try:
        path = directory / "people.bin"
        path.write_bytes(data)
        with little_work():
            try:
                contents = reader.read(path)
                convert.describe(contents.choose(None))
            except CheckpointError as err:
                checked(str(err), path)
        assert list(directory.iterdir()) == [path]
    finally:
        shutil.rmtree(directory)


@given(st.sampled_from(sorted(VALID)), st.lists(EDITS, min_size=1, max_size=4))
@settings(max_examples=150)
def test_damaged_files_are_read_or_refused(layout: str, edits: list[Edit]) -> None:
    read_or_refuse(edited(VALID[layout], edits))


VALUES = st.recursive(
    st.sampled_from([b"N", b"\x88", b")", b"]", b"}", b"\x8f", laughs(), again(3), b"h\x07", b"0"])
    | st.integers(-(2**70), 2**70).map(integer)
    | st.floats().map(lambda value: b"G" + struct.pack(">d", value))
    | st.text(max_size=8).map(text)
    | st.binary(max_size=8).map(lambda value: b"C" + bytes([len(value)]) + value),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: b"(" + b"".join(parts) + b"t"),
    max_leaves=6,
)


def opcodes_of(data: bytes) -> list[bytes]:
    """A pickle, cut into its opcodes."""
    places = [place for _, _, place in pickletools.genops(data) if place is not None]
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


OPCODES = {
    layout: opcodes_of(VALID[layout])
    for layout in ("nvidia, protocol 2", "tensorflow", "tensorflow, protocol 5")
}
PLAIN_VALUES = tuple(b"N\x88\x89KMJG\x8cXCB)]}")


@given(st.sampled_from(sorted(OPCODES)), st.data())
@settings(max_examples=100)
def test_pickles_with_other_values_are_read_or_refused(layout: str, data: st.DataObject) -> None:
    opcodes = list(OPCODES[layout])
    places = [i for i, opcode in enumerate(opcodes) if opcode[0] in PLAIN_VALUES]
    for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        opcodes[place] = data.draw(VALUES)
    read_or_refuse(b"".join(opcodes))


@given(VALUES, st.sampled_from([pickled, zip_file, legacy_file]))
@settings(max_examples=60)
def test_any_value_is_refused(value: bytes, make: Callable[[bytes], bytes]) -> None:
    read_or_refuse(make(value))


# What a fuzzer found in the first version of the readers: it hung, took gigabytes, raised something
# else, or said it in more than one plain line


def older_torch_file(*pickles: bytes) -> bytes:
    """After the number that such a file begins with: version, system, data, keys of storages."""
    return torchfile.LEGACY_START + b"".join(pickles)


VERSION, SYSTEM = pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)
FOUND: dict[str, tuple[bytes, str]] = {
    "an activation that doubles itself": (
        snapshot(lambda g: setattr(g.synthesis.b8.conv1, "activation", LAUGH)),
        "has activation a tuple, expected 'lrelu'",
    ),
    "a key that doubles itself": (legacy_file(b"}" + laughs() + b"Ns"), "a tuple as a key"),
    "a version that doubles itself": (
        older_torch_file(pickled(laughs()), SYSTEM, pickled(b"N"), pickled(b"]")),
        "another version",
    ),
    "a key of a storage that doubles itself": (
        older_torch_file(VERSION, SYSTEM, pickled(b"N"), pickled(b"]" + laughs() + b"a")),
        "a tuple as a key",
    ),
    "a kernel with two axes": (
        networks(variable("8x8/Conv1/weight", np.ones((3, 2)))),
        "the variables are not those of a StyleGAN2 generator",
    ),
    "an order of bytes with control characters": (
        zip_file(b"N", order=b"littl\x1b\x00"),
        "the highest byte first",
    ),
    "a name with zero bytes": (
        pickled(text("dnnlib.util") + text("EasyD\x00\x00t") + b"\x93"),
        "found the name `dnnlib.util.EasyD??t`",
    ),
    "a storage of minus four bytes": (
        legacy_file(storage_id("0", -1)),
        "a storage of less than no numbers",
    ),
    "a text of two gigabytes": (
        older_torch_file(VERSION, SYSTEM, b"\x80\x02X" + struct.pack("<I", 1_866_673_976) + b"x."),
        "expected 1866673976 bytes",
    ),
    "a key of 5,000 digits": (
        snapshot(lambda g: g.mapping.fc0._parameters.update({10**4999: torch.ones(1)})),
        "a int as a key",
    ),
    "a clamp that is a text": (
        networks(lambda state: state["static_kwargs"].update(conv_clamp="4x4/Conv/bias")),
        "found conv_clamp '4x4/Conv/bias', expected a number",
    ),
}


@pytest.mark.parametrize("found", FOUND)
def test_what_a_fuzzer_found_is_refused(found: str, tmp_path: Path) -> None:
    data, message = FOUND[found]
    with little_work():
        with little_memory():
            assert message in refusal_of(data, tmp_path)
