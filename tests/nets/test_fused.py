"""The kernels for GPUs, run by Triton's own interpreter (`conftest.py`), against torch's
operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from insetgan_batch.nets import layers
from insetgan_batch.nets.fused import colours as colour_kernels
from insetgan_batch.nets.fused import features, lpips
from insetgan_batch.nets.layers import Blur, Upsample
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.nets.stylegan2 import Architecture
from insetgan_batch.nets.windows import Window
from tests.conftest import random_generator

GAIN, SLOPE = 1.4, 0.2
SLOW = settings(max_examples=12)
IMAGES, CHANNELS, SIDES = st.integers(1, 3), st.integers(1, 40), st.integers(1, 11)
CLAMPS = st.sampled_from([None, 0.7])


def drawn(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(size))
    return torch.randn(size, generator=generator)


def assert_same(found: Tensor, expected: Tensor, inputs: Sequence[Tensor]) -> None:
    """Values and gradients, for a random gradient of the result."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    back = drawn(*expected.shape, seed=9)
    pairs = zip(
        torch.autograd.grad(found, inputs, back),
        torch.autograd.grad(expected, inputs, back),
        strict=True,
    )
    for own, theirs in pairs:
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


def finished(
    x: Tensor,
    factor: Tensor,
    noise: Tensor,
    bias: Tensor,
    after: Tensor | None,
    clamp: float | None,
) -> Tensor:
    """What `features.finish` is said to be."""
    shifted = x * factor[:, :, None, None] + (noise[:, None] + bias[:, None, None]) * GAIN
    bent = F.leaky_relu(shifted, SLOPE)
    if clamp is not None:
        bent = bent.clamp(-clamp, clamp)
    return bent if after is None else bent * after[:, :, None, None]


@SLOW
@given(IMAGES, CHANNELS, SIDES, SIDES, CLAMPS, st.booleans(), st.booleans(), st.booleans())
def test_what_follows_a_convolution_is_torchs(
    images: int,
    channels: int,
    height: int,
    width: int,
    clamp: float | None,
    blur: bool,
    styled: bool,
    own_noise: bool,
) -> None:
    x = drawn(images, channels, height + blur, width + blur).requires_grad_()
    factor = (drawn(images, channels).abs() + 0.3).requires_grad_()
    noise = drawn(images if own_noise else 1, height, width)
    bias = drawn(channels)
    after = drawn(images, channels, seed=3).requires_grad_() if styled else None
    found = features.finish(
        x, factor, noise, bias, after, blur=blur, gain=GAIN, slope=SLOPE, clamp=clamp
    )
    filtered = Blur(channels)(x) if blur else x
    expected = finished(filtered, factor, noise, bias, after, clamp)
    assert_same(found, expected, [x, factor] if after is None else [x, factor, after])


def test_a_style_of_0_passes_nothing_back_and_is_no_division_by_it() -> None:
    x, factor = drawn(1, 2, 4, 4).requires_grad_(), torch.ones(1, 2)
    after = torch.tensor([[0.0, 2.0]])
    numbers: Any = {"blur": False, "gain": GAIN, "slope": SLOPE, "clamp": None}
    found = features.finish(x, factor, torch.zeros(1, 4, 4), torch.zeros(2), after, **numbers)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert not gradient[:, 0].any()
    assert bool(gradient[:, 1].all())


@SLOW
@given(IMAGES, CHANNELS, SIDES, SIDES)
def test_scaling_is_torchs(images: int, channels: int, height: int, width: int) -> None:
    x = drawn(images, channels, height, width).requires_grad_()
    style = drawn(images, channels).requires_grad_()
    assert_same(features.scale(x, style), x * style[:, :, None, None], [x, style])


@SLOW
@given(IMAGES, CHANNELS, SIDES, SIDES, st.sampled_from([1, 3]), st.booleans(), CLAMPS)
def test_colours_are_torchs(
    images: int,
    channels: int,
    height: int,
    width: int,
    colours: int,
    adds: bool,
    clamp: float | None,
) -> None:
    x = drawn(images, channels, 2 * height, 2 * width).requires_grad_()
    weights, bias = drawn(images, colours, channels).requires_grad_(), drawn(colours)
    below = drawn(images, colours, height, width).requires_grad_() if adds else None
    expected = torch.einsum("nkc,nchw->nkhw", weights, x) + bias[:, None, None]
    if clamp is not None:
        expected = expected.clamp(-clamp, clamp)
    inputs = [x, weights]
    if below is not None:
        expected, inputs = expected + Upsample(colours)(below), [*inputs, below]
    assert_same(colour_kernels.colours(x, weights, bias, below, clamp), expected, inputs)


@SLOW
@given(IMAGES, CHANNELS, SIDES, SIDES)
def test_the_distance_of_features_is_torchs(
    images: int, channels: int, height: int, width: int
) -> None:
    x = drawn(images, channels, height, width).relu().requires_grad_()
    target, weights = drawn(images, channels, height, width, seed=1), drawn(channels).abs()
    normalised = x * torch.rsqrt(x.square().sum(dim=1, keepdim=True) + 1e-10)
    squares = (normalised - target).square() * weights[:, None, None]
    assert_same(lpips.apart(x, target, weights, 1e-10), squares.sum(dim=1).mean(dim=(1, 2)), [x])


def test_low_precision_is_near() -> None:
    """Rounded where it is written, summed in float32."""
    x, style = drawn(2, 12, 9, 9), drawn(2, 12)
    factor, noise, bias = drawn(2, 12).abs(), drawn(1, 8, 8), drawn(12)
    numbers: Any = {"blur": True, "gain": GAIN, "slope": SLOPE, "clamp": None}
    exact = features.finish(x, factor, noise, bias, style, **numbers)
    found = features.finish(x.bfloat16(), factor, noise, bias, style, **numbers)
    assert found.dtype == torch.bfloat16
    assert float((found.float() - exact).norm() / exact.norm()) < 5e-3


@pytest.mark.parametrize("kind", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_a_generator_paints_with_them_what_it_paints_without(
    monkeypatch: pytest.MonkeyPatch, kind: str, clamp: float | None
) -> None:
    architecture = Architecture(
        (4, 2),
        (6, 5),
        z_dim=4,
        w_dim=5,
        mapping_layers=2,
        conv_clamp=clamp,
        synthesis=kind,  # type: ignore[arg-type]
    )
    network = random_generator(architecture).freeze()
    ws = drawn(2, architecture.num_ws, architecture.w_dim).requires_grad_()
    expected = network.synthesis(ws)
    monkeypatch.setattr(layers, "has_fused_kernels", lambda x, weight: True)
    assert_same(network.synthesis(ws), expected, [ws])


def test_they_see_through_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = Architecture((4, 4), (6, 5, 4), z_dim=4, w_dim=5, mapping_layers=2)
    network = random_generator(architecture).freeze()
    ws = drawn(2, architecture.num_ws, architecture.w_dim).requires_grad_()
    window = Window(((4, 0), (0, 8)), 8, 4)
    expected = window.crop(network.synthesis(ws))
    monkeypatch.setattr(layers, "has_fused_kernels", lambda x, weight: True)
    _, (found,) = network.synthesis.synthesise_crops(ws, 1, [window])
    assert_same(found, expected, [ws])


def test_weights_that_learn_and_other_devices_do_without_them() -> None:
    network = random_generator(Architecture((4, 4), (6, 5), z_dim=4, w_dim=5, mapping_layers=2))
    x = torch.zeros(1, 6, 4, 4)
    assert not layers.has_fused_kernels(x, network.get_parameter("synthesis.b8.conv0.weight"))
    network.freeze()
    assert not layers.has_fused_kernels(x, network.get_parameter("synthesis.b8.conv0.weight"))


def test_lpips_is_summed_from_them(monkeypatch: pytest.MonkeyPatch, perceptual: Perceptual) -> None:
    image = (drawn(2, 3, 40, 36) / 3).requires_grad_()
    target = perceptual.features(drawn(2, 3, 40, 36, seed=1) / 3)
    expected = perceptual.distance_to(image, target)
    monkeypatch.setattr(layers, "has_fused_kernels", lambda x, weight: True)
    assert_same(perceptual.distance_to(image, target), expected, [image])
