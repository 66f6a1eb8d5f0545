"""Every layout, read, paints what its own program would have painted, to 1e-4."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from insetgan_batch.nets.foreign import reader
from insetgan_batch.nets.foreign.reader import Contents
from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets.foreign import originals
from tests.nets.foreign.originals import Original
from tests.nets.literal import assert_close, relative_difference

# Tiny, and no two sizes equal, so that no axis can stand in for another. 16x16 pixels.
SMALL = Architecture((4, 4), (5, 4, 3), z_dim=6, w_dim=7, mapping_layers=2)
# Rosinality has one width for z and w.
EVEN = dataclasses.replace(SMALL, w_dim=6)

ANYWHERE: dict[str, dict[str, Any]] = {
    "skip": {},
    "1 mapping layer": {"mapping_layers": 1},
    "3 mapping layers": {"mapping_layers": 3},
    "8 mapping layers": {"mapping_layers": 8},
    "base 4x2": {"base": (4, 2)},
    "base 4x3": {"base": (4, 3)},
    "one block": {"channels": (5,)},
    "four blocks": {"channels": (4, 6, 3, 2), "base": (4, 2)},
    "wider upwards": {"channels": (2, 4, 5)},
    "gray": {"image_channels": 1},
}
NVIDIA: dict[str, dict[str, Any]] = {
    "resnet": {"synthesis": "resnet"},
    "resnet, clamped": {"synthesis": "resnet", "conv_clamp": 0.8},
    "resnet, gray, base 4x2": {"synthesis": "resnet", "image_channels": 1, "base": (4, 2)},
    "orig": {"synthesis": "orig"},
    "orig, clamped, gray": {"synthesis": "orig", "conv_clamp": 0.8, "image_channels": 1},
    "transparent": {"image_channels": 4},
    "clamped": {"conv_clamp": 0.8},
    "float16": {"conv_clamp": 256.0, "num_fp16_res": 1},
    "float16 everywhere": {"conv_clamp": 256.0, "num_fp16_res": 2},
    "labels": {"c_dim": 3},
    "one class": {"c_dim": 1},
    "labels, clamped resnet": {"c_dim": 3, "synthesis": "resnet", "conv_clamp": 0.8},
    "labels of another width": {"c_dim": 3, "embed_features": 4},
    "mapping of another width": {"layer_features": 9, "mapping_layers": 4},
    "both widths": {"layer_features": 9, "embed_features": 4, "c_dim": 2},
    "mapping rate": {"mapping_lr_multiplier": 0.1},
}
JOINT: dict[str, dict[str, Any]] = {
    # The first TensorFlow version embeds the label in as many numbers as z has.
    "joint labels": {"c_dim": 3, "label_norm": "joint", "embed_features": 6},
    "joint labels, resnet": {
        **{"c_dim": 2, "label_norm": "joint", "embed_features": 6, "synthesis": "resnet"}
    },
}
BASES: dict[str, dict[str, Any]] = {
    "base 3x5": {"base": (3, 5), "channels": (5, 4)},
    "base 4x6": {"base": (4, 6), "channels": (5, 4)},
}


def read(original: Original, path: Path) -> Contents:
    path.write_bytes(original.data)
    return reader.read(path)


def check(original: Original, contents: Contents, expected: Architecture) -> None:
    """The default network is the one that was meant: sizes, w, image."""
    found = contents.networks[contents.default]
    network = found.build()
    assert found.architecture == expected
    assert network.architecture == expected
    source = torch.Generator().manual_seed(11)
    z = torch.randn(3, expected.z_dim, generator=source)
    c = torch.eye(expected.c_dim)[[0, -1, 0]] if expected.c_dim else None
    ws = torch.randn(2, expected.num_ws, expected.w_dim, generator=source)
    assert_close(network.mapping(z, c), original.map_to_w(z, c), 1e-4)
    image = network.synthesis(ws)
    assert image.shape == (2, expected.image_channels, *expected.image_size)
    assert_close(image, original.paint(ws), 1e-4)
    # The noise constants are worth comparing: without them it is another image.
    assert relative_difference(network.synthesis(ws, noise="none"), image) > 1e-2
    if original.w_avg is not None:
        assert torch.equal(network.mapping.w_avg, original.w_avg)


# NVIDIA, PyTorch


@pytest.mark.parametrize("changes", (ANYWHERE | NVIDIA | BASES).values(), ids=str)
def test_nvidia_pickles(changes: dict[str, Any], tmp_path: Path) -> None:
    a = dataclasses.replace(SMALL, **changes)
    contents = read(originals.nvidia(a), tmp_path / "network.pkl")
    assert list(contents.networks) == ["G", "G_ema"]
    assert contents.default == "G_ema"
    assert contents.networks["G_ema"].assumed == ()
    check(originals.nvidia(a), contents, a)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old", [True, False])
def test_nvidia_pickles_of_all_protocols_and_times(
    protocol: int, old: bool, tmp_path: Path
) -> None:
    a = dataclasses.replace(SMALL, c_dim=2, conv_clamp=256.0, num_fp16_res=1)
    original = originals.nvidia(a, protocol=protocol, old_numpy=old, old_torch=old)
    check(original, read(original, tmp_path / "network.pkl"), a)


@pytest.mark.parametrize("content", ["G_ema", "bare"])
def test_nvidia_pickles_of_a_generator_alone(content: Any, tmp_path: Path) -> None:
    original = originals.nvidia(SMALL, content=content)
    contents = read(original, tmp_path / "network.pkl")
    assert list(contents.networks) == ["G_ema" if content == "G_ema" else "G"]
    check(original, contents, SMALL)


def test_snapshots_without_options_and_augmentation(tmp_path: Path) -> None:
    original = originals.nvidia(SMALL, content="converted")
    contents = read(original, tmp_path / "network.pkl")
    assert list(contents.networks) == ["G", "G_ema"]
    check(original, contents, SMALL)


def test_a_network_built_without_noise_paints_none(tmp_path: Path) -> None:
    original = originals.nvidia(SMALL, use_noise=False)
    network = read(original, tmp_path / "network.pkl").networks["G_ema"].build()
    ws = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(1))
    assert_close(network.synthesis(ws), original.paint(ws), 1e-4)
    assert torch.equal(network.synthesis(ws), network.synthesis(ws, noise="none"))


def test_more_float16_resolutions_than_blocks_are_all_but_the_base(tmp_path: Path) -> None:
    original = originals.nvidia(dataclasses.replace(SMALL, conv_clamp=256.0, num_fp16_res=4))
    expected = dataclasses.replace(SMALL, conv_clamp=256.0, num_fp16_res=2)
    check(original, read(original, tmp_path / "network.pkl"), expected)


def test_the_other_networks_of_a_snapshot_are_themselves(tmp_path: Path) -> None:
    contents = read(originals.nvidia(SMALL, seed=3), tmp_path / "network.pkl")
    running = originals.nvidia(SMALL, seed=4)  # G of a snapshot has the next seed
    ws = torch.randn(1, 6, 7, generator=torch.Generator().manual_seed(1))
    assert_close(contents.networks["G"].build().synthesis(ws), running.paint(ws), 1e-4)
    assert any("D" in other for other in contents.others)


# NVIDIA, TensorFlow


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("changes", (ANYWHERE | NVIDIA | JOINT).values(), ids=str)
def test_tensorflow_pickles(version: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    a = dataclasses.replace(SMALL, **changes)
    original = originals.tensorflow(a, version=version)
    contents = read(original, tmp_path / "network.pkl")
    assert list(contents.networks) == ["G", "Gs"]
    assert contents.default == "Gs"
    assert contents.networks["Gs"].assumed == ()
    check(original, contents, a)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old_numpy", [True, False])
@pytest.mark.parametrize("content", ["tuple", "list"])
def test_tensorflow_pickles_of_all_protocols_and_times(
    protocol: int, old_numpy: bool, content: Any, tmp_path: Path
) -> None:
    original = originals.tensorflow(
        SMALL, protocol=protocol, old_numpy=old_numpy, content=content, version=5
    )
    check(original, read(original, tmp_path / "network.pkl"), SMALL)


@pytest.mark.parametrize("scalars", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_variables_without_axes_are_scalars_or_arrays(
    scalars: bool, protocol: int, tmp_path: Path
) -> None:
    original = originals.tensorflow(SMALL, scalars=scalars, protocol=protocol)
    check(original, read(original, tmp_path / "network.pkl"), SMALL)


def test_a_tensorflow_pickle_of_one_network(tmp_path: Path) -> None:
    original = originals.tensorflow(SMALL, content="Gs")
    contents = read(original, tmp_path / "network.pkl")
    assert len(contents.networks) == 1
    check(original, contents, SMALL)


def test_colours_by_level_of_detail(tmp_path: Path) -> None:
    a = dataclasses.replace(SMALL, synthesis="orig")
    original = originals.tensorflow(a, version=4, colours_by_lod=True)
    check(original, read(original, tmp_path / "network.pkl"), a)


# Rosinality


@pytest.mark.parametrize("changes", (ANYWHERE | BASES).values(), ids=str)
def test_rosinality_files(changes: dict[str, Any], tmp_path: Path) -> None:
    a = dataclasses.replace(EVEN, **changes)
    original = originals.rosinality(a)
    contents = read(original, tmp_path / "network.pt")
    assert list(contents.networks) == ["g_ema"]
    check(original, contents, a)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("location", ["cpu", "cuda:0"])
@pytest.mark.parametrize("training", [True, False])
def test_rosinality_files_of_all_formats(
    zipped: bool, location: str, training: bool, tmp_path: Path
) -> None:
    original = originals.rosinality(EVEN, training=training, zipped=zipped, location=location)
    contents = read(original, tmp_path / "network.pt")
    assert set(contents.networks) == ({"g", "g_ema"} if training else {"g_ema"})
    assert contents.default == "g_ema"
    check(original, contents, EVEN)


def test_where_w_avg_is_missing_it_is_measured_and_that_is_said(tmp_path: Path) -> None:
    original = originals.rosinality(EVEN, training=True)
    found = read(original, tmp_path / "network.pt").networks["g_ema"]
    assert any("w_avg" in sentence for sentence in found.assumed)
    z = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(5))
    w = original.map_to_w(z, None)
    difference = found.build().mapping.w_avg - w.mean(dim=0)
    assert (difference.abs() < 0.05 * w.std(dim=0)).all()
    known = read(originals.rosinality(EVEN), tmp_path / "known.pt").networks["g_ema"]
    assert not any("w_avg" in sentence for sentence in known.assumed)


# Plain state dicts


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("prefix", ["", "G_ema.", "module.", "model.generator."])
@pytest.mark.parametrize("names", ["nvidia", "rosinality"])
def test_state_dicts(container: Any, prefix: str, names: Any, tmp_path: Path) -> None:
    original = originals.state_dict(EVEN, names=names, container=container, prefix=prefix)
    contents = read(original, tmp_path / "network")
    assert len(contents.networks) == 1
    check(original, contents, EVEN)


@pytest.mark.parametrize(
    "name",
    ["resnet", "orig", "transparent", "labels", "both widths", "mapping of another width"],
)
def test_state_dicts_of_all_shapes(name: str, tmp_path: Path) -> None:
    a = dataclasses.replace(SMALL, **NVIDIA[name])
    original = originals.state_dict(a, container="safetensors")
    check(original, read(original, tmp_path / "network"), a)


def test_state_dicts_in_half_precision_become_float32(tmp_path: Path) -> None:
    whole = originals.state_dict(SMALL, container="safetensors")
    halves = {n: t.half() for n, t in safetensors.torch.load(whole.data).items()}
    contents = read(
        dataclasses.replace(whole, data=safetensors.torch.save(halves)), tmp_path / "network"
    )
    network = contents.networks[contents.default].build()
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    ws = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(1))
    assert_close(network.synthesis(ws), whole.paint(ws), 1e-2)


def test_what_a_state_dict_does_not_say_is_said_to_be_assumed(tmp_path: Path) -> None:
    contents = read(originals.state_dict(SMALL), tmp_path / "network.pt")
    said = " ".join(contents.networks[contents.default].assumed)
    assert "conv_clamp" in said
    assert "mapping_lr_multiplier" in said


# All


ALL: dict[str, Callable[[], Original]] = {
    "nvidia": lambda: originals.nvidia(EVEN),
    "tensorflow": lambda: originals.tensorflow(EVEN),
    "rosinality": lambda: originals.rosinality(EVEN),
    "state dict": lambda: originals.state_dict(EVEN),
    "safetensors": lambda: originals.state_dict(EVEN, container="safetensors"),
}


@pytest.mark.parametrize("layout", ALL)
def test_contents_name_the_file_and_its_digest(layout: str, tmp_path: Path) -> None:
    original = ALL[layout]()
    contents = read(original, tmp_path / "network")
    assert contents.sha256 == hashlib.sha256(original.data).hexdigest()
    assert contents.layout


@pytest.mark.parametrize("layout", ALL)
def test_what_is_built_stands_still_in_float32(layout: str, tmp_path: Path) -> None:
    contents = read(ALL[layout](), tmp_path / "network")
    network = contents.networks[contents.default].build()
    assert not network.training
    for tensor in (*network.parameters(), *network.buffers()):
        assert not tensor.requires_grad
        assert tensor.dtype == torch.float32


@pytest.mark.parametrize("layout", ALL)
def test_reading_imports_nothing(layout: str, tmp_path: Path) -> None:
    original = ALL[layout]()
    read(original, tmp_path / "network")
    before = set(sys.modules)
    read(original, tmp_path / "network")
    assert set(sys.modules) == before
    assert not {"dnnlib", "torch_utils"} & before


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    layouts = [read(make(), tmp_path / "network").layout for make in ALL.values()]
    assert len(set(layouts[:4])) == 4
