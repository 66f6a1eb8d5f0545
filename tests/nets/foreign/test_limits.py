"""Small files that ask for much time or memory, and do not get it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets.foreign import originals, pretend
from tests.nets.foreign.attack import (
    again,
    call,
    keep,
    legacy_file,
    little_memory,
    little_work,
    mapping,
    pickled,
    stored,
    tensor,
    text,
    zip_file,
)
from tests.nets.foreign.hostile import (
    SMALL,
    TENSORS,
    VALID,
    networks,
    refusal_of,
    saved,
    snapshot,
)
from tests.nets.foreign.nvidia_parts import nvidia_generator, nvidia_tensors
from tests.nets.foreign.pretend import persistent

# Whoever hangs does so in C, where the usual timeout does not reach.
pytestmark = pytest.mark.timeout(method="thread")

# Time and memory

SELF_HOLDING = (
    b"}r\x00\x00\x00\x00(" + b"".join(text(f"{i}") + again(0) for i in range(2000)) + b"u"
)


@pytest.mark.parametrize("make", [pickled, zip_file, legacy_file])
def test_dictionaries_that_hold_themselves(make: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """2,000 entries, seven levels deep: 10 to the power of 23."""
    assert "found more than 100,000 entries" in refusal_of(make(SELF_HOLDING), tmp_path)


def test_modules_that_hold_each_other(tmp_path: Path) -> None:
    def change(generator: Any) -> None:
        child = generator.synthesis.b4.conv1.affine
        for _ in range(4):
            parent = persistent("Module")
            for i in range(90):
                parent._modules[f"m{i}"] = child
            child = parent
        generator._modules["x"] = child

    assert "found more than 1000 modules" in refusal_of(snapshot(change), tmp_path)


def test_modules_that_are_their_own_children(tmp_path: Path) -> None:
    """Composed by hand: pickle itself does not write records that hold themselves."""
    children = keep(0, b"}") + b"(" + text("mapping") + b"N" + text("synthesis")
    function = "torch_utils.persistence._reconstruct_persistent_obj"
    state = mapping({"_modules": b"j" + struct.pack("<I", 0)})
    record = call(function, mapping({"class_name": text("G"), "state": state}))
    data = pickled(children + record + b"u0" + record)
    assert "nested deeper" in refusal_of(data, tmp_path)


@pytest.mark.parametrize("count", [101, 5000])
def test_modules_with_too_many_entries(count: int, tmp_path: Path) -> None:
    def change(generator: Any) -> None:
        generator._modules.update({f"m{i}": None for i in range(count)})

    assert "is not one of a generator" in refusal_of(snapshot(change), tmp_path)


def test_names_of_modules_are_not_longer_than_the_file(tmp_path: Path) -> None:
    def change(generator: Any) -> None:
        generator._modules["x" * 100_000] = persistent("Module")

    assert "is not one of a generator" in refusal_of(snapshot(change), tmp_path)


@pytest.mark.parametrize("in_torch", [True, False])
def test_a_file_of_many_generators(in_torch: bool, tmp_path: Path) -> None:
    """Each of them takes a moment, and each costs an attacker five bytes."""
    if in_torch:
        state = {f"g{i}.input.input": torch.ones(1) for i in range(300)}
        assert "found 300 networks" in refusal_of(saved(state), tmp_path)
    else:
        generator = nvidia_generator(SMALL, TENSORS)
        data = pretend.pickled({f"G{i}": generator for i in range(300)})
        assert "found 300 networks, expected 16 at the most" in refusal_of(data, tmp_path)


def test_one_row_of_numbers_is_not_many_tensors(tmp_path: Path) -> None:
    """A megabyte that 60 layers share would be 60 times as large as float32 of its own."""
    numbers = torch.ones(512, 512, dtype=torch.float16)
    state: dict[str, Any] = {f"mapping.fc{i}.weight": numbers for i in range(60)}
    state["synthesis.b4.const"] = torch.ones(1, 4, 4)
    state["synthesis.b4.conv1.weight"] = torch.ones(1, 1, 3, 3)
    state["synthesis.b4.torgb.weight"] = torch.ones(3, 1, 1, 1)
    for zipped in (True, False):
        message = refusal_of(saved(state, zipped=zipped), tmp_path)
        assert "the same numbers are used for several tensors" in message


def test_one_array_is_not_many_variables(tmp_path: Path) -> None:
    array = np.ones((256, 256), dtype="f2")

    def change(state: dict[str, Any]) -> None:
        state["variables"].extend((f"mapping/Dense{i}/weight", array) for i in range(500))

    with little_memory():
        message = refusal_of(networks(change), tmp_path)
    assert "the same numbers are used for several variables" in message


def test_a_generator_without_noise_does_not_ask_for_gigabytes(tmp_path: Path) -> None:
    """Fifteen blocks of one channel: 2 kB in the file, 3 GB of noise."""
    a = Architecture((1, 1), (1,) * 13, z_dim=1, w_dim=1, mapping_layers=1)
    wide = dict(nvidia_tensors(a, use_noise=False))
    wide["synthesis.b1.const"] = torch.ones(1, 1, 4)
    with little_memory():
        message = refusal_of(saved(wide), tmp_path)
    assert "without noise constants that paints huge images" in message


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({f"synthesis.b{i}.conv1.weight": 1 for i in range(2000)}, "found 2000 blocks"),
        ({f"mapping.fc{i}.weight": 1 for i in range(900)}, "found 902 mapping layers"),
        ({f"synthesis.b{'9' * 150}.const": 1}, "unknown `synthesis.b999"),
        ({f"mapping.fc{'9' * 150}.weight": 1}, "unknown `mapping.fc999"),
    ],
)
def test_names_that_count_too_far(tensors: dict[str, int], found: str, tmp_path: Path) -> None:
    state = {**TENSORS, **{name: torch.ones(1) for name in tensors}}
    state["synthesis.b4.const"] = torch.ones(3, 4, 4)
    if "mapping layers" in found:
        state = {n: t for n, t in state.items() if n not in ("mapping.fc0.weight",)} | {
            f"mapping.fc{i}.weight": torch.ones(1) for i in range(902)
        }
    with little_work():
        assert found in refusal_of(safetensors.torch.save(state), tmp_path)


# In a process of its own: what torch takes is seen from outside only, and a hook stays for ever.
WATCH = """
import resource, sys
from pathlib import Path
from insetgan_batch.nets.foreign import reader
files = sorted(Path(sys.argv[1]).iterdir(), key=lambda path: path.stat().st_size)
for path in files:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader.read(path)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if path.name.startswith("large"):
        print("memory", more * 1024 < 6 * path.stat().st_size)
seen = []
sys.addaudithook(lambda event, values: seen.append((event, str(values))))
for path in files:
    reader.read(path)
bad = ("exec", "compile", "import", "os.", "subprocess", "socket", "ctypes", "pickle", "shutil")
print([event for event in seen if event[0].startswith(bad)])
print([values for event, values in seen if event == "open" and sys.argv[1] not in values])
"""


def test_reading_starts_nothing_opens_nothing_else_and_takes_little_memory(tmp_path: Path) -> None:
    a = Architecture((4, 4), (256, 256), z_dim=256, w_dim=256, mapping_layers=4)
    large = {
        "large nvidia": originals.nvidia(a).data,
        "large rosinality": originals.rosinality(a).data,
    }
    for layout, data in (VALID | large).items():
        (tmp_path / layout).write_bytes(data)
    command = [sys.executable, "-c", WATCH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "memory True\nmemory True\n[]\n[]\n"


# Safetensors


def raw_safetensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


F4 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "data",
    [
        (1 << 62).to_bytes(8, "little") + b"{}",
        (99 << 20).to_bytes(8, "little") + b'{"a":',
        bytes(8) + b"{",
        raw_safetensors(b"{"),
        raw_safetensors(b"{}"),
        raw_safetensors(b'{"a":' * 5000),
        raw_safetensors({"a": F4, "b": F4 | {"data_offsets": [2, 6]}}, bytes(6)),
        raw_safetensors({"a": F4}, bytes(8)),
        raw_safetensors({"a": F4}, bytes(3)),
        raw_safetensors({"a": F4 | {"data_offsets": [4, 0]}}, bytes(4)),
        raw_safetensors({"a": F4 | {"shape": [1 << 62]}}, bytes(4)),
        raw_safetensors({"a": F4 | {"shape": [-1]}}, bytes(4)),
        raw_safetensors({"a": F4 | {"dtype": "OBJ"}}, bytes(4)),
        raw_safetensors({"a": F4 | {"dtype": "F4", "shape": [8]}}, bytes(4)),
        raw_safetensors({"__metadata__": {"insetgan_batch": "{}"}}),
        raw_safetensors({"__metadata__": {"insetgan_batch": "[" * 100_000}}),
        raw_safetensors({"__metadata__": {"insetgan_batch": 1}}),
    ],
)
def test_safetensors_that_are_not_whole(data: bytes, tmp_path: Path) -> None:
    with little_memory():
        message = refusal_of(data, tmp_path)
    assert "memory" not in message.lower()


@pytest.mark.parametrize("layers", [16_384, 5000])
def test_a_header_that_asks_for_thousands_of_layers(layers: int, tmp_path: Path) -> None:
    fields = {"base": [4, 4], "channels": [3], "mapping_layers": layers}
    header = {"__metadata__": {"insetgan_batch": json.dumps({"format": 1, "architecture": fields})}}
    with little_work():
        refusal_of(raw_safetensors(header), tmp_path)


def test_a_header_of_a_million_tensors(tmp_path: Path) -> None:
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header: dict[str, Any] = {f"{i}": nothing for i in range(110_000)}
    assert "found more than 100,000 entries" in refusal_of(raw_safetensors(header), tmp_path)
    ours_only = {"__metadata__": {"insetgan_batch": json.dumps({"format": 1})}}
    header = ours_only | {f"{i}": nothing for i in range(10_001)}
    ours = tmp_path / "ours.safetensors"
    ours.write_bytes(raw_safetensors(header))
    with pytest.raises(CheckpointError, match="found 10001 tensors"):
        checkpoint.load(ours)


def test_stored_numbers_are_what_they_say(tmp_path: Path) -> None:
    """The attacks above would be worth little if even the honest form was refused."""
    numbers = np.arange(4, dtype="<f4").tobytes()
    data = pickled(mapping({"x": tensor(stored(numbers), (4,), (1,))}))
    assert "found x; expected a StyleGAN2 generator" in refusal_of(data, tmp_path)
