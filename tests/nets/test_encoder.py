"""Our encoder: from images to latents and back, its file, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from insetgan_batch.data.models import demo_path
from insetgan_batch.errors import CheckpointError
from insetgan_batch.methods.insetgan import images
from insetgan_batch.nets import encoder
from insetgan_batch.nets.encoder import EncoderNetwork
from insetgan_batch.nets.generator import Generator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def face() -> Generator:
    return Generator.load(demo_path("face"), CPU)


def error(generator: Generator, latents: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of each picture, `[n]`."""
    with torch.no_grad():
        painted = generator.synthesise(generator.ws_of(latents))
    return (painted.clamp(-1, 1) - target).abs().mean(dim=(1, 2, 3))


def test_what_the_demo_face_paints_is_found_again(face: Generator) -> None:
    """Of seeds that nobody trained on; nearer than the average is by far."""
    painted = face.images_of_seeds(list(range(12)), 0.8).clamp(-1, 1)
    latents = encoder.load(demo_path("encoder"), CPU).encode(painted)
    around = face.latents_of(face.w_avg).expand(12, -1, -1)
    assert float(error(face, latents, painted).mean()) < 0.4 * float(
        error(face, around, painted).mean()
    )


def test_a_picture_of_any_size_is_taken(face: Generator) -> None:
    network = encoder.load(demo_path("encoder"), CPU)
    painted = face.images_of_seeds([3], 0.8).clamp(-1, 1)
    pixels = Image.fromarray(images.to_pixels(painted)[0].numpy()).resize((300, 300))
    large = torch.from_numpy(np.array(pixels))[None]
    found = network.encode(images.from_pixels(large))
    assert found.shape == (1, 1 + face.num_ws, len(face.w_avg))
    near = network.encode(painted)
    assert float((found - near).abs().max()) < 0.1 * float(near.abs().max())


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = EncoderNetwork(6, 16, (8, 16)).eval()
    network.w_avg.normal_()
    network.w_std.uniform_(0.5, 2)
    path = tmp_path / "e.safetensors"
    encoder.save(path, network, {"from": "a test"})
    loaded = encoder.load(path, CPU)
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    assert (loaded.num_ws, loaded.w_dim) == (6, 16)
    with torch.no_grad():
        assert torch.allclose(loaded.encode(picture), network(picture), atol=5e-3)


def test_it_begins_at_the_average_of_the_generator() -> None:
    network = EncoderNetwork(4, 8, (8,)).eval()
    for layer in (network.to_w, network.to_offsets):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    network.w_avg.copy_(torch.arange(8.0))
    latents = network.encode(torch.zeros(1, 3, 40, 40))
    assert (latents[0, 0] == torch.arange(8.0)).all()
    assert (latents[0, 1:] == 0).all()


@pytest.mark.parametrize("name", ["face", "parts"])
def test_another_network_of_ours_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors: .*expected .*'encoder'"):
        encoder.load(demo_path(name), CPU)


@pytest.mark.parametrize(
    ("field", "value"),
    [("channels", []), ("channels", [7]), ("channels", [1 << 20]), ("num_ws", 0), ("w_dim", "8")],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, field: str, value: object) -> None:
    network = EncoderNetwork(4, 8, (8,))
    path = tmp_path / "e.safetensors"
    setattr(network, field, value)
    encoder.save(path, network, {})
    with pytest.raises(CheckpointError, match="its header is not valid"):
        encoder.load(path, CPU)


def test_a_header_for_other_tensors_is_refused(tmp_path: Path) -> None:
    network = EncoderNetwork(4, 8, (8,))
    network.num_ws = 5
    path = tmp_path / "e.safetensors"
    encoder.save(path, network, {})
    with pytest.raises(CheckpointError, match="the tensors do not fit the header"):
        encoder.load(path, CPU)
