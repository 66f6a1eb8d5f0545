"""Checkpoints of e4e and pSp: fabricated in their layout, compared with the network as written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import encoder
from insetgan_batch.nets.foreign import psp

CPU = torch.device("cpu")
LAYERS = 8
UNITS = [(64, 64, 2), *[(64, 64, 1)] * 2, (64, 128, 2), *[(128, 128, 1)] * 3]
UNITS += [(128, 256, 2), *[(256, 256, 1)] * 13, (256, 512, 2), *[(512, 512, 1)] * 2]

# Of a checkpoint whose other weights nobody comes to look at: they are 400 MB.
STYLES = {f"styles.{i}.linear.bias": torch.zeros(512) for i in range(LAYERS)}


def norm(weights: dict[str, Tensor], name: str, channels: int) -> None:
    weights[f"{name}.weight"] = torch.rand(channels) + 0.5
    weights[f"{name}.bias"] = torch.randn(channels) * 0.1
    weights[f"{name}.running_mean"] = torch.randn(channels) * 0.1
    weights[f"{name}.running_var"] = torch.rand(channels) + 0.5
    weights[f"{name}.num_batches_tracked"] = torch.tensor(7)


def drawn(*shape: int) -> Tensor:
    """Weights whose output is about as large as their input."""
    return torch.randn(shape) / math.sqrt(math.prod(shape[1:]) or 1)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """The encoder's part of a checkpoint, under its own names."""
    torch.manual_seed(0)
    w = {"input_layer.0.weight": drawn(64, 3, 3, 3), "input_layer.2.weight": torch.rand(64)}
    norm(w, "input_layer.1", 64)
    for i, (before, here, _) in enumerate(UNITS):
        name = f"body.{i}"
        if before != here:
            w[f"{name}.shortcut_layer.0.weight"] = drawn(here, before, 1, 1)
            norm(w, f"{name}.shortcut_layer.1", here)
        norm(w, f"{name}.res_layer.0", before)
        w[f"{name}.res_layer.1.weight"] = drawn(here, before, 3, 3)
        w[f"{name}.res_layer.2.weight"] = torch.rand(here) * 0.3
        w[f"{name}.res_layer.3.weight"] = drawn(here, here, 3, 3)
        norm(w, f"{name}.res_layer.4", here)
        w[f"{name}.res_layer.5.fc1.weight"] = drawn(here // 16, here, 1, 1)
        w[f"{name}.res_layer.5.fc2.weight"] = drawn(here, here // 16, 1, 1)
    for i in range(LAYERS):
        for j in range(4 if i < 3 else 5 if i < 7 else 6):
            w[f"styles.{i}.convs.{2 * j}.weight"] = drawn(512, 512, 3, 3)
            w[f"styles.{i}.convs.{2 * j}.bias"] = torch.randn(512) * 0.1
        w[f"styles.{i}.linear.weight"] = torch.randn(512, 512)
        w[f"styles.{i}.linear.bias"] = torch.randn(512) * 0.1
    for name, channels in (("latlayer1", 256), ("latlayer2", 128)):
        w[f"{name}.weight"] = drawn(512, channels, 1, 1)
        w[f"{name}.bias"] = torch.randn(512) * 0.1
    return w


@pytest.fixture(scope="module")
def average() -> Tensor:
    return torch.randn(LAYERS, 512, generator=torch.Generator().manual_seed(2))


def save(path: Path, weights: dict[str, Tensor], average: Tensor, options: Any) -> None:
    decoder = {"decoder.input.input": torch.zeros(1, 512, 4, 4)}
    state = {f"encoder.{name}": tensor for name, tensor in weights.items()}
    torch.save({"state_dict": state | decoder, "latent_avg": average, "opts": options}, path)


def literally(w: dict[str, Tensor], image: Tensor) -> Tensor:
    """The vectors of all layers `[n l 512]`, before they are summed, in float64."""
    w = {name: tensor.double() for name, tensor in w.items()}

    def normed(x: Tensor, name: str) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        scale = w[f"{name}.weight"] / (var + 1e-5).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + w[f"{name}.bias"][:, None, None]

    def parametric(x: Tensor, name: str) -> Tensor:
        return torch.where(x > 0, x, x * w[f"{name}.weight"][:, None, None])

    x = F.conv2d(image.double(), w["input_layer.0.weight"], padding=1)
    x = parametric(normed(x, "input_layer.1"), "input_layer.2")
    taken = {}
    for i, (before, here, stride) in enumerate(UNITS):
        r = f"body.{i}.res_layer"
        y = F.conv2d(normed(x, f"{r}.0"), w[f"{r}.1.weight"], padding=1)
        y = F.conv2d(parametric(y, f"{r}.2"), w[f"{r}.3.weight"], stride=stride, padding=1)
        y = normed(y, f"{r}.4")
        squeezed = F.conv2d(y.mean(dim=(2, 3), keepdim=True), w[f"{r}.5.fc1.weight"]).clamp(min=0)
        y = y * torch.sigmoid(F.conv2d(squeezed, w[f"{r}.5.fc2.weight"]))
        short = x[:, :, ::stride, ::stride]
        if before != here:
            s = f"body.{i}.shortcut_layer"
            short = normed(F.conv2d(short, w[f"{s}.0.weight"]), f"{s}.1")
        x = y + short
        taken[i] = x

    def added(x: Tensor, side: Tensor, name: str) -> Tensor:
        lateral = F.conv2d(side, w[f"{name}.weight"], w[f"{name}.bias"])
        size = lateral.shape[2:]
        return F.interpolate(x, size, mode="bilinear", align_corners=True) + lateral

    middle = added(taken[23], taken[20], "latlayer1")
    fine = added(middle, taken[6], "latlayer2")
    vectors = []
    for i in range(LAYERS):
        x = taken[23] if i < 3 else middle if i < 7 else fine
        j = 0
        while x.shape[2] > 1:
            name = f"styles.{i}.convs.{2 * j}"
            x = F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1)
            x, j = torch.where(x > 0, x, 0.01 * x), j + 1
        linear = w[f"styles.{i}.linear.weight"] / math.sqrt(512)
        vectors.append(x.flatten(1) @ linear.T + w[f"styles.{i}.linear.bias"])
    return torch.stack(vectors, dim=1)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.fixture(scope="module")
def vectors(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    return literally(weights, image)


def ws_of(latents: Tensor) -> Tensor:
    return (latents[:, :1] + latents[:, 1:]).double()


@pytest.fixture(scope="module")
def latents_of_e4e(
    weights: dict[str, Tensor],
    average: Tensor,
    image: Tensor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tensor:
    path = tmp_path_factory.mktemp("psp") / "e4e_ffhq.pt"
    save(path, weights, average, {"encoder_type": "Encoder4Editing", "lr": 1e-4, "ids": None})
    loaded = encoder.load(path, CPU)
    assert (loaded.num_ws, loaded.w_dim) == (LAYERS, 512)
    return loaded.encode(image)


def test_e4e_adds_offsets_to_one_w(
    latents_of_e4e: Tensor, vectors: Tensor, average: Tensor
) -> None:
    expected = vectors.clone()
    expected[:, 1:] += vectors[:, :1]
    found = ws_of(latents_of_e4e)
    assert float((found - expected - average).abs().max()) < 1e-3 * float(expected.abs().max())


def test_w_is_the_mean_of_the_layers(latents_of_e4e: Tensor) -> None:
    assert torch.allclose(latents_of_e4e[:, 1:].mean(dim=1), torch.zeros(1, 512), atol=1e-4)


def test_psp_has_a_vector_of_its_own_for_each_layer_and_one_average_may_serve_all(
    weights: dict[str, Tensor],
    average: Tensor,
    vectors: Tensor,
    image: Tensor,
    tmp_path: Path,
) -> None:
    path = tmp_path / "psp_ffhq.pt"
    save(path, weights, average[0], {"encoder_type": "GradualStyleEncoder"})
    found = ws_of(encoder.load(path, CPU).encode(image))
    assert float((found - vectors - average[0]).abs().max()) < 1e-3 * float(vectors.abs().max())


def test_a_checkpoint_without_its_average_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "without.pt"
    torch.save({"state_dict": {f"encoder.{k}": v for k, v in STYLES.items()}}, path)
    with pytest.raises(CheckpointError, match=r"without\.pt: no `latent_avg`"):
        psp.load(path, CPU)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {"encoder.conv.weight": torch.zeros(2)}}, path)
    with pytest.raises(CheckpointError, match="found 0 layers of style; expected a checkpoint of"):
        psp.load(path, CPU)


def test_a_checkpoint_with_a_tensor_less_is_refused(
    weights: dict[str, Tensor], average: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "less.pt"
    some = {k: v for k, v in weights.items() if k != "body.5.res_layer.3.weight"}
    save(path, some, average, {})
    with pytest.raises(CheckpointError, match=r"body\.5\.res_layer\.3\.weight"):
        psp.load(path, CPU)


def test_nothing_in_a_checkpoint_is_executed(average: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    save(path, STYLES, average, {"encoder_type": Evil()})
    with pytest.raises(CheckpointError, match=r"evil\.pt: .*print"):
        psp.load(path, CPU)
