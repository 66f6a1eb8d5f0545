"""The discriminator against a literal twin, written out in loops and float64."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insetgan_batch.nets.discriminator import Discriminator, DiscriminatorArchitecture, deviation

Kind = Literal["resnet", "skip", "orig"]
FILTER = torch.outer(*[torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8] * 2)


def architecture(kind: Kind = "resnet", **fields: int) -> DiscriminatorArchitecture:
    return DiscriminatorArchitecture((4, 2), (6, 5, 4), kind, deviation_group=2, **fields)


def made(kind: Kind = "resnet", **fields: int) -> Discriminator:
    """With biases that are not 0, in float64."""
    torch.manual_seed(0)
    found = Discriminator(architecture(kind, **fields)).double()
    for name, value in found.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(value)
    return found


def noise(*shape: int, seed: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64)


# The twin: padding, filter and stride one after the other, no gains of a library


def filtered(x: Tensor, pad: int) -> Tensor:
    """Every 4x4 window of the padded image times the filter."""
    padded = F.pad(x, (pad,) * 4)
    windows = padded.unfold(2, 4, 1).unfold(3, 4, 1)
    return (windows * FILTER).sum(dim=(-2, -1))


def convolved(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    side = weight.shape[-1]
    windows = x.unfold(2, side, stride).unfold(3, side, stride)
    return torch.einsum("nchwij,ocij->nohw", windows, weight)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * 0.2) * math.sqrt(2)


class Twin:
    """kind: of the discriminator whose weights these are."""

    def __init__(self, kind: Kind, weights: dict[str, Tensor]) -> None:
        self.kind, self.weights = kind, weights

    def scaled(self, name: str) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return weight / math.sqrt(weight[0].numel())

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight = self.scaled(name)
        bias = self.weights[f"{name}.bias"][:, None, None]
        return leaky(convolved(F.pad(x, (weight.shape[-1] // 2,) * 4), weight) + bias)

    def conv_down(self, name: str, x: Tensor) -> Tensor:
        bias = self.weights[f"{name}.bias"][:, None, None]
        return leaky(convolved(filtered(x, 2), self.scaled(name), stride=2) + bias)

    def dense(self, name: str, x: Tensor) -> Tensor:
        return x @ self.scaled(name).T + self.weights[f"{name}.bias"]

    def scores(self, image: Tensor) -> Tensor:
        x = self.conv("b16.fromrgb", image)
        for height in (16, 8):
            before = x
            if height == 8 and self.kind == "skip":
                x = before = x + self.conv("b8.fromrgb", image)
            x = self.conv_down(f"b{height}.conv1", self.conv(f"b{height}.conv0", x))
            if self.kind == "resnet":
                half = filtered(before, 1)[:, :, ::2, ::2]
                x = (x + convolved(half, self.scaled(f"b{height}.skip"))) * math.sqrt(0.5)
            if self.kind == "skip":
                image = filtered(image, 1)[:, :, ::2, ::2]
        if self.kind == "skip":
            x = x + self.conv("b4.fromrgb", image)
        groups = len(x) // 2
        spread = torch.empty(len(x), 1, *x.shape[2:], dtype=x.dtype)
        for i in range(len(x)):
            own = x[i % groups :: groups]
            mean = own.mean(dim=0)
            spread[i] = ((own - mean) ** 2).mean(dim=0).add(1e-8).sqrt().mean()
        x = self.conv("b4.conv", torch.cat([x, spread], dim=1))
        x = leaky(self.dense("b4.fc", x.flatten(1)))
        return self.dense("b4.out", x)[:, 0]


@pytest.mark.parametrize("kind", ["resnet", "skip", "orig"])
def test_scores_are_those_of_the_formulas(kind: Kind) -> None:
    network, images = made(kind), noise(4, 3, 16, 8)
    expected = Twin(kind, network.state_dict()).scores(images)
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["resnet", "skip", "orig"])
def test_gradients_of_gradients_are_right(kind: Kind) -> None:
    """R1 is one."""
    network = made(kind)
    images = noise(2, 3, 16, 8).requires_grad_()
    assert torch.autograd.gradgradcheck(network, (images,), fast_mode=True)


def test_a_label_is_the_direction_that_features_are_compared_with() -> None:
    network, images = made(c_dim=3), noise(4, 3, 16, 8)
    labels = F.one_hot(torch.tensor([0, 1, 2, 0]), 3).double()
    scores = network(images, labels)
    assert scores.shape == (4,)
    other = network(images, labels.roll(1, dims=1))
    assert (scores != other).all()
    with pytest.raises(ValueError, match="give a label where there are classes"):
        network(images)
    with pytest.raises(ValueError, match="give a label where there are classes"):
        made()(images, labels)


def test_an_image_is_compared_with_those_of_its_group_only() -> None:
    x = noise(4, 3, 2, 2)
    before = deviation(x, 2)[:, 0, 0, 0]
    assert before[0] == before[2] != before[1] == before[3]
    x[0] += noise(3, 2, 2, seed=2)
    after = deviation(x, 2)[:, 0, 0, 0]
    assert after[1] == before[1]
    assert after[2] != before[2]


def test_equal_images_differ_by_nothing_and_a_small_batch_is_one_group() -> None:
    same = noise(1, 3, 2, 2).expand(4, -1, -1, -1)
    assert deviation(same, 4).max().item() == pytest.approx(1e-4)
    assert (deviation(noise(3, 3, 2, 2), 8) == deviation(noise(3, 3, 2, 2), 3)).all()
    with pytest.raises(ValueError, match="found a batch of 3 images, expected a multiple of 2"):
        deviation(noise(3, 3, 2, 2), 2)


def test_activations_are_clamped_where_that_is_asked_for() -> None:
    plain, clamped = made(), Discriminator(architecture(conv_clamp=1)).double()
    clamped.load_state_dict(plain.state_dict())
    images = noise(2, 3, 16, 8) * 100
    assert clamped(images).abs().max() < plain(images).abs().max()


def test_layers_are_frozen_from_the_image_on() -> None:
    network = made()
    network.freeze_layers(5)  # the first block, and one layer of the second
    frozen = {n.rsplit(".", 1)[0] for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"b16.fromrgb", "b16.conv0", "b16.conv1", "b16.skip", "b8.conv0"}
    network.freeze_layers(100)
    assert all(p.requires_grad for n, p in network.named_parameters() if n.startswith("b4."))
