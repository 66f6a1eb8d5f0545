"""The losses against their formulas, written out, and against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from insetgan_batch.nets.discriminator import Discriminator, DiscriminatorArchitecture
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from insetgan_batch.training import losses

STEP = 1e-5


def numbers(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64)


def discriminator() -> Discriminator:
    torch.manual_seed(1)
    return Discriminator(DiscriminatorArchitecture((4, 2), (4, 4), deviation_group=2)).double()


def test_the_losses_are_the_formulas() -> None:
    real, fake = numbers(5), numbers(5, seed=1)
    of_fakes = sum(math.log1p(math.exp(x)) for x in fake.tolist()) / 5
    of_reals = sum(math.log1p(math.exp(-x)) for x in real.tolist()) / 5
    assert losses.of_discriminator(real, fake).item() == pytest.approx(of_reals + of_fakes)
    assert losses.of_discriminator(real, None).item() == pytest.approx(of_reals)
    assert losses.of_discriminator(None, fake).item() == pytest.approx(of_fakes)
    of_generator = sum(math.log1p(math.exp(-x)) for x in fake.tolist()) / 5
    assert losses.of_generator(fake).item() == pytest.approx(of_generator)


def test_r1_is_the_square_of_the_gradient_by_finite_differences() -> None:
    network, images = discriminator(), numbers(2, 3, 8, 4).requires_grad_()
    found = losses.r1(images, network(images))
    gradient = torch.empty(3 * 8 * 4, dtype=torch.float64)
    with torch.no_grad():
        for i in range(len(gradient)):
            moved = [images.clone() for _ in range(2)]
            moved[0].view(2, -1)[0, i] += STEP
            moved[1].view(2, -1)[0, i] -= STEP
            # All scores, since images of a group are compared with each other.
            gradient[i] = (network(moved[0]).sum() - network(moved[1]).sum()) / (2 * STEP)
    assert found[0].item() == pytest.approx(gradient.square().sum().item(), rel=1e-6)


def test_the_gradient_of_r1_is_right_too() -> None:
    network, images = discriminator(), numbers(2, 3, 8, 4).requires_grad_()
    weight = network.get_parameter("b8.conv0.weight")

    def penalty() -> Tensor:
        return losses.r1(images, network(images)).mean()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    for at in ((0, 0, 0, 0), (3, 2, 1, 2)):
        values = []
        for step in (STEP, -STEP):
            with torch.no_grad():
                weight[at] += step
            values.append(penalty().item())
            with torch.no_grad():
                weight[at] -= step
        assert gradient[at].item() == pytest.approx((values[0] - values[1]) / (2 * STEP), rel=1e-4)


def test_path_lengths_are_the_jacobians_by_finite_differences() -> None:
    torch.manual_seed(2)
    generator = StyleGAN2(Architecture((4, 2), (4, 4), z_dim=3, w_dim=3, mapping_layers=1)).double()
    ws = numbers(2, 4, 3).requires_grad_()
    images = generator.synthesis(ws)
    noise = numbers(*images.shape, seed=4)
    found = losses.path_lengths(images, ws, noise)
    squares = torch.zeros(4, 3, dtype=torch.float64)
    with torch.no_grad():
        for layer in range(4):
            for i in range(3):
                values = []
                for step in (STEP, -STEP):
                    moved = ws.clone()
                    moved[1, layer, i] += step
                    values.append((generator.synthesis(moved) * noise)[1].sum() / math.sqrt(8 * 4))
                squares[layer, i] = ((values[0] - values[1]) / (2 * STEP)) ** 2
    expected = squares.sum(dim=1).mean().sqrt().item()
    assert found[1].item() == pytest.approx(expected, rel=1e-6)
    # And once more: the penalty has a gradient with respect to the weights.
    penalty, _ = losses.path_penalty(found, torch.tensor(0.0).double())
    (gradient,) = torch.autograd.grad(penalty, generator.get_parameter("synthesis.b8.conv1.weight"))
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_the_running_mean_moves_by_a_hundredth_and_is_the_one_that_counts() -> None:
    lengths = torch.tensor([1.0, 3.0]).double().requires_grad_()
    penalty, after = losses.path_penalty(lengths, torch.tensor(10.0).double())
    mean = 10 + 0.01 * (2 - 10)
    assert after.item() == pytest.approx(mean)
    assert not after.requires_grad
    assert penalty.item() == pytest.approx(((1 - mean) ** 2 + (3 - mean) ** 2) / 2)
    (gradient,) = torch.autograd.grad(penalty, lengths)
    # d/dl0 of the mean of (l - m)^2, where m has 0.005 of each length.
    expected = ((1 - mean) * (1 - 0.005) + (3 - mean) * -0.005) * 2 / 2
    assert gradient[0].item() == pytest.approx(expected)
