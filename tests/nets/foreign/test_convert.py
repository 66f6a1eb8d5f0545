"""From the file of another program to one of ours, or to rosinality's layout, and what is said."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.foreign import convert, reader
from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets.foreign import originals
from tests.nets.literal import assert_close

TALL = Architecture((4, 2), (6, 5, 4), z_dim=7, w_dim=7, mapping_layers=2)
CPU = torch.device("cpu")


def write(directory: Path, original: originals.Original, name: str = "people.pkl") -> Path:
    (directory / name).write_bytes(original.data)
    return directory / name


def some_ws(architecture: Architecture) -> Tensor:
    source = torch.Generator().manual_seed(3)
    return torch.randn(2, architecture.num_ws, architecture.w_dim, generator=source)


def test_a_written_file_paints_what_the_original_paints(tmp_path: Path) -> None:
    a = dataclasses.replace(TALL, conv_clamp=256.0, num_fp16_res=2)
    original = originals.nvidia(a)
    contents = reader.read(write(tmp_path, original))
    written = convert.write(contents, tmp_path / "out", None, "safetensors")
    assert written.path == tmp_path / "out" / "people.safetensors"
    assert written.size_bytes == written.path.stat().st_size
    loaded = checkpoint.load(written.path)
    assert loaded.network.architecture == a
    ws = some_ws(a)
    assert_close(loaded.network.synthesis(ws), original.paint(ws), 1e-4)


def test_the_header_says_from_where_the_weights_come(tmp_path: Path) -> None:
    original = originals.nvidia(TALL)
    contents = reader.read(write(tmp_path, original))
    written = convert.write(contents, tmp_path / "out", None, "safetensors")
    assert checkpoint.load(written.path).about == {
        "source": {
            "file": "people.pkl",
            "sha256": hashlib.sha256(original.data).hexdigest(),
            "layout": "pickle of NVIDIA's stylegan2-ada-pytorch",
            "network": "G_ema",
        },
        "assumed": [],
    }


def test_another_generator_of_the_file_gets_its_own_name(tmp_path: Path) -> None:
    contents = reader.read(write(tmp_path, originals.nvidia(TALL)))
    names = [
        convert.write(contents, tmp_path, network, "safetensors").path.name
        for network in ("G", "G_ema", None)
    ]
    assert names == ["people-G.safetensors", "people.safetensors", "people.safetensors"]
    running, averaged = (checkpoint.load(tmp_path / name).network for name in names[:2])
    ws = some_ws(TALL)
    assert not torch.allclose(running.synthesis(ws), averaged.synthesis(ws), atol=0.01)


def test_a_generator_that_is_not_there_is_refused(tmp_path: Path) -> None:
    contents = reader.read(write(tmp_path, originals.nvidia(TALL)))
    with pytest.raises(CheckpointError, match="found G, G_ema, expected `D` among them"):
        convert.write(contents, tmp_path / "out", "D", "safetensors")
    assert not (tmp_path / "out").exists()


def test_rosinalitys_layout_comes_back_as_it_was(tmp_path: Path) -> None:
    """Out of ours, read again: the same numbers bit for bit, under the same names."""
    first = reader.read(write(tmp_path, originals.rosinality(TALL), "people.pt"))
    ours = convert.write(first, tmp_path / "ours", None, "safetensors")
    theirs = convert.write(reader.read(ours.path), tmp_path / "theirs", None, "rosinality")
    assert theirs.left_out == ()
    before = torch.load(tmp_path / "people.pt", weights_only=True)
    after = torch.load(theirs.path, weights_only=True)
    assert before.keys() == after.keys() == {"g_ema", "latent_avg"}
    assert before["g_ema"].keys() == after["g_ema"].keys()
    for name, tensor in before["g_ema"].items():
        assert torch.equal(after["g_ema"][name], tensor), name
    assert torch.equal(after["latent_avg"], before["latent_avg"])


def test_what_rosinalitys_layout_leaves_out_is_said(tmp_path: Path) -> None:
    a = dataclasses.replace(TALL, conv_clamp=256.0)
    contents = reader.read(write(tmp_path, originals.nvidia(a)))
    written = convert.write(contents, tmp_path / "out", None, "rosinality")
    assert written.left_out == ("conv_clamp 256: this layout has no clamping",)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"c_dim": 3}, "classes"),
        ({"synthesis": "resnet"}, "`resnet` synthesis"),
        ({"synthesis": "orig"}, "`orig` synthesis"),
        ({"z_dim": 5}, "z and w of different widths"),
        ({"layer_features": 9}, "a mapping of its own width"),
        ({"image_channels": 1}, "1 image channels"),
    ],
)
def test_what_rosinalitys_layout_cannot_say_is_refused(
    tmp_path: Path, changes: dict[str, object], what: str
) -> None:
    a = dataclasses.replace(TALL, **changes)  # type: ignore[arg-type]
    contents = reader.read(write(tmp_path, originals.nvidia(a)))
    with pytest.raises(CheckpointError, match=what):
        convert.write(contents, tmp_path / "out", None, "rosinality")
    assert not (tmp_path / "out").exists()


def test_a_file_is_not_written_over_itself(tmp_path: Path) -> None:
    contents = reader.read(write(tmp_path, originals.nvidia(TALL)))
    ours = convert.write(contents, tmp_path, None, "safetensors").path
    before = ours.read_bytes()
    with pytest.raises(CheckpointError, match="this is the file to read"):
        convert.write(reader.read(ours), tmp_path, None, "safetensors")
    assert ours.read_bytes() == before


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    contents = reader.read(write(tmp_path, originals.nvidia(TALL)))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        convert.write(contents, tmp_path / "out", None, "safetensors")


def test_a_missing_average_is_measured_once_and_for_all(tmp_path: Path) -> None:
    contents = reader.read(write(tmp_path, originals.rosinality(TALL, training=True), "t.pt"))
    found = contents.choose(None)
    assert any("w_avg" in sentence for sentence in found.assumed)
    network = found.build()
    z = torch.randn(20_000, 7, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(
        network.mapping.w_avg, network.mapping(z).mean(dim=0), atol=0.05, rtol=0.05
    )
    assert torch.equal(network.mapping.w_avg, found.build().mapping.w_avg)


def test_a_description_names_what_one_wants_to_know(tmp_path: Path) -> None:
    a = dataclasses.replace(TALL, c_dim=3, conv_clamp=256.0, num_fp16_res=2)
    lines = "\n".join(
        convert.describe(reader.read(write(tmp_path, originals.nvidia(a))).choose(None))
    )
    for text in ("16 x 8, RGB; base 4 x 2", "3 classes", "skip, 6 latents, channels 6 5 4", "±256"):
        assert text in lines
