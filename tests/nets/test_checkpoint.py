"""Files of weights: what is saved comes back, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import Architecture
from tests.conftest import random_generator

SMALL = Architecture((4, 2), (3, 2), z_dim=4, w_dim=3, mapping_layers=1, conv_clamp=256.0)
LARGE = Architecture((4, 4), (64, 64), z_dim=64, w_dim=64, mapping_layers=2)
FIELDS: dict[str, Any] = dataclasses.asdict(SMALL)
HEADER: dict[str, Any] = {"format": 1, "architecture": FIELDS, "about": {"name": "small"}}


def tensors() -> dict[str, Tensor]:
    return {key: t.contiguous() for key, t in random_generator(SMALL).state_dict().items()}


def file_of(header: object, weights: dict[str, Tensor] | None = None) -> bytes:
    metadata = {"insetgan_batch": header if isinstance(header, str) else json.dumps(header)}
    return safetensors.torch.save(tensors() if weights is None else weights, metadata)


def raw_file(header: dict[str, Any]) -> bytes:
    """A safetensors file without data, from the JSON of its header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


GOOD = file_of(HEADER)


def load(data: bytes) -> checkpoint.Checkpoint:
    """What is read from a file of these bytes."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "face.safetensors"
        path.write_bytes(data)
        return checkpoint.load(path)


def refusal_of(data: bytes) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load(data)
    message = str(caught.value)
    assert "/face.safetensors: " in message
    assert "\n" not in message
    return message


# Round trip


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    generator = random_generator(SMALL)
    path = tmp_path / "small.safetensors"
    digest = checkpoint.save(path, generator, {"name": "small", "steps": 3})
    loaded = checkpoint.load(path)
    assert loaded.network.architecture == SMALL
    assert loaded.about == {"name": "small", "steps": 3}
    assert loaded.sha256 == digest == hashlib.sha256(path.read_bytes()).hexdigest()
    for key, tensor in generator.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], tensor)
    ws = torch.randn(1, SMALL.num_ws, SMALL.w_dim)
    assert torch.equal(loaded.network.synthesis(ws), generator.freeze().synthesis(ws))


def test_a_loaded_generator_stands_still() -> None:
    generator = load(GOOD).network
    assert not any(p.requires_grad for p in generator.parameters())
    assert {p.dtype for p in generator.parameters()} == {torch.float32}


def test_weights_are_pages_of_the_file_that_processes_share(tmp_path: Path) -> None:
    """No copy: the numbers of a loaded generator lie where the file is mapped."""
    path = tmp_path / "large.safetensors"
    checkpoint.save(path, random_generator(LARGE), {})
    network = checkpoint.load(path).network
    ranges = mapped_ranges(path)
    for name in ("synthesis.b8.conv0.weight", "synthesis.b4.const", "mapping.fc0.weight"):
        address = network.state_dict()[name].data_ptr()
        assert any(first <= address < last for first, last in ranges)


def mapped_ranges(path: Path) -> list[tuple[int, int]]:
    """The addresses at which this process has mapped a file."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    found = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return [(int(first, 16), int(last, 16)) for first, last in found]


def test_half_precision_files_load_as_float32() -> None:
    halves = {key: tensor.half() for key, tensor in tensors().items()}
    generator = load(file_of(HEADER, halves)).network
    assert {p.dtype for p in generator.parameters()} == {torch.float32}


def test_saving_a_generator_in_another_memory_layout_changes_nothing(tmp_path: Path) -> None:
    plain, turned = random_generator(SMALL), random_generator(SMALL)
    turned.to(memory_format=torch.channels_last)
    assert checkpoint.save(tmp_path / "a.safetensors", plain, {}) == checkpoint.save(
        tmp_path / "b.safetensors", turned, {}
    )


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    checkpoint.save(path, random_generator(SMALL, 1), {})
    digest = checkpoint.save(path, random_generator(SMALL, 2), {})
    assert checkpoint.load(path).sha256 == digest
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    checkpoint.save(path, random_generator(SMALL), {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(path, random_generator(SMALL, 2), {"when": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_take_its_name_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    path.mkdir()  # so that the rename fails
    with pytest.raises(OSError, match="directory"):
        checkpoint.save(path, random_generator(SMALL, 2), {})
    assert list(tmp_path.iterdir()) == [path]


# Refusals


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: cannot be read: No such"):
        checkpoint.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        GOOD[:4],
        GOOD[:100],
        GOOD[:-1],
        GOOD + b"x",
        b"\x80\x02cos\nsystem\n(S'true'\ntR.",
        b"PK\x03\x04" + bytes(60),
    ],
    ids=["empty", "short", "cut-length", "cut-header", "cut-data", "longer", "pickle", "zip"],
)
def test_what_is_no_safetensors_file_is_refused(data: bytes) -> None:
    assert "not a safetensors file" in refusal_of(data)


@pytest.mark.parametrize(
    "header",
    [
        {"__metadata__": None},
        {"__metadata__": {}},
        {"__metadata__": {"format": "pt"}},
        {"__metadata__": {"insetgan_batch": "{"}},
        {"__metadata__": {"insetgan_batch": "[" * 100_000}},
        {"__metadata__": {"insetgan_batch": "9" * 5_000}},
        {},
    ],
)
def test_safetensors_without_our_header_are_refused(header: dict[str, Any]) -> None:
    assert "without a header `insetgan_batch`" in refusal_of(raw_file(header))


@pytest.mark.parametrize("header", [{**HEADER, "format": 2}, {"architecture": FIELDS}, [1], 7])
def test_another_format_is_refused(header: object) -> None:
    assert "expected 1" in refusal_of(file_of(header))


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": None},
        {"architecture": []},
        {"architecture": {}},
        {"architecture": {**FIELDS, "base": 4}},
        {"architecture": {**FIELDS, "base": [4]}},
        {"architecture": {**FIELDS, "base": [-4, 2]}},
        {"architecture": {**FIELDS, "base": [4.0, 2]}},
        {"architecture": {**FIELDS, "channels": []}},
        {"architecture": {**FIELDS, "channels": [3, 0]}},
        {"architecture": {**FIELDS, "channels": [3] * 70}},
        {"architecture": {**FIELDS, "z_dim": "4"}},
        {"architecture": {**FIELDS, "w_dim": 10**30}},
        {"architecture": {**FIELDS, "mapping_layers": 10**9}},
        {"architecture": {**FIELDS, "mapping_lr_multiplier": 0}},
        {"architecture": {**FIELDS, "conv_clamp": "256"}},
        {"architecture": {**FIELDS, "flavour": "vanilla"}},
    ],
)
def test_an_architecture_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    assert "architecture is not valid" in refusal_of(file_of(HEADER | wrong))


@pytest.mark.parametrize(
    "changes", [{"channels": [3, 4]}, {"channels": [16_384] * 2}, {"base": [4, 4]}, {"w_dim": 4}]
)
def test_tensors_of_another_architecture_are_refused_without_taking_its_memory(
    changes: dict[str, Any],
) -> None:
    header = {**HEADER, "architecture": FIELDS | changes}
    assert "size mismatch" in refusal_of(file_of(header))


def test_missing_extra_and_wrong_tensors_are_named() -> None:
    weights = tensors()
    const = weights.pop("synthesis.b4.const")
    assert '"synthesis.b4.const"' in refusal_of(file_of(HEADER, weights))
    assert '"hat"' in refusal_of(file_of(HEADER, tensors() | {"hat": const}))
    message = refusal_of(file_of(HEADER, tensors() | {"synthesis.b4.const": const[:2]}))
    assert "size mismatch for synthesis.b4.const" in message


def test_whole_numbers_are_no_weights() -> None:
    weights = {key: tensor.to(torch.int32) for key, tensor in tensors().items()}
    assert "do not fit" in refusal_of(file_of(HEADER, weights))


@pytest.mark.parametrize(
    ("kind", "shape"), [("F8_E8M0", [0]), ("F4", [0]), ("F32", [0, 1 << 62, 1 << 62])]
)
def test_tensors_that_torch_does_not_know_are_refused(kind: str, shape: list[int]) -> None:
    odd = {"dtype": kind, "shape": shape, "data_offsets": [0, 0]}
    refusal_of(raw_file({"__metadata__": {"insetgan_batch": json.dumps(HEADER)}, "odd": odd}))


def parse_or_refuse(data: bytes) -> None:
    """Damage may be harmless (a changed `about`); whatever is raised is one line."""
    try:
        load(data)
    except CheckpointError:
        refusal_of(data)


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    parse_or_refuse(data)
    parse_or_refuse(len(data).to_bytes(8, "little") + data)


@given(st.integers(0, len(GOOD) - 1))
@settings(max_examples=40)
def test_a_truncated_file_is_refused(length: int) -> None:
    refusal_of(GOOD[:length])


HEADER_END = 8 + int.from_bytes(GOOD[:8], "little")


@given(
    st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=3)
)
@settings(max_examples=100)
def test_damage_in_the_header_raises_nothing_else(damage: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for position, value in damage:
        data[position] = value
    parse_or_refuse(bytes(data))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(FIELDS)), JSON_VALUES)
@settings(max_examples=100)
def test_any_value_in_any_field_of_the_architecture_raises_nothing_else(
    field: str, value: object
) -> None:
    parse_or_refuse(file_of({**HEADER, "architecture": {**FIELDS, field: value}}))
