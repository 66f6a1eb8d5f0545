"""Augmentations against their definitions, in float64 where that matters."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from insetgan_batch.training import augment
from insetgan_batch.training.augment import PIPES, TRANSFORMS
from insetgan_batch.training.draws import Draws, source

HEIGHT, WIDTH = 24, 24


class Given(Draws):
    """Draws in which every uniform number is `uniform`, and every normal one `normal`."""

    def __init__(self, n: int, uniform: float = 0.0, normal: float = 0.0) -> None:
        super().__init__([source(i) for i in range(n)], torch.device("cpu"))
        self._uniform, self._normal = uniform, normal

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((len(self), *shape), self._uniform)

    def normal(self, *shape: int) -> Tensor:
        return torch.full((len(self), *shape), self._normal)


def draws(n: int = 6, seed: int = 0) -> Draws:
    return Draws([source(seed, i) for i in range(n)], torch.device("cpu"))


def noise(n: int = 2, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    random = torch.Generator().manual_seed(3)
    return torch.randn(n, 3, height, width, generator=random, dtype=torch.float64)


def smooth(height: int, width: int) -> Tensor:
    """A picture without an edge: filters and sampling leave it nearly as it is."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=torch.float64),
        torch.linspace(-1, 1, width, dtype=torch.float64),
        indexing="ij",
    )
    return torch.stack([torch.sin(2 * x), torch.cos(x + y), torch.sin(x - y)])[None]


# All of them


@pytest.mark.parametrize("pipe", PIPES)
def test_with_probability_0_every_pipe_is_the_identity(pipe: str) -> None:
    images = noise()
    assert augment.augment(images, PIPES[pipe], 0.0, draws(2)) is images
    # Coins that all fall on the other side: by another way, and the same.
    tails = augment.augment(images, PIPES[pipe], 0.5, Given(2, uniform=0.5))
    torch.testing.assert_close(tails, images, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_changes_pictures_and_keeps_their_size(name: str) -> None:
    images = noise(6)
    changed = augment.augment(images, [name], 1.0, draws())
    assert changed.shape == images.shape
    assert not torch.allclose(changed, images)
    assert changed.isfinite().all()


def test_an_image_is_augmented_alike_in_any_company() -> None:
    images = noise(6).float()
    sources = [source(7, i) for i in range(6)]
    together = augment.augment(images, PIPES["bgc"], 0.8, Draws(sources, torch.device("cpu")))
    for i in (0, 5):
        one = Draws([source(7, i)], torch.device("cpu"))
        alone = augment.augment(images[i : i + 1], PIPES["bgc"], 0.8, one)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pipe", ["bg", "color", "filter"])
def test_gradients_flow_twice(pipe: str) -> None:
    images = noise(1).requires_grad_()

    def augmented(x: Tensor) -> Tensor:
        return augment.augment(x, PIPES[pipe], 1.0, draws(1))

    assert torch.autograd.gradcheck(augmented, (images,), fast_mode=True)
    assert torch.autograd.gradgradcheck(augmented, (images,), fast_mode=True)


def test_the_share_of_heads_is_the_probability() -> None:
    flips = augment.geometry(["xint"], 0.3, draws(2000), 64, 64)
    moved = (flips != torch.eye(3)).any(dim=(1, 2)).float().mean().item()
    assert abs(moved - 0.3) < 0.05


def test_rotations_before_and_after_are_together_as_probable_as_one() -> None:
    turned = augment.geometry(["rotate"], 0.5, draws(2000), 64, 64)
    share = (turned != torch.eye(3)).any(dim=(1, 2)).float().mean().item()
    assert abs(share - 0.5) < 0.05


# Geometry: the matrix that takes a pixel of the result to where it comes from


def inverse_of(name: str, uniform: float = 0.0, normal: float = 0.0) -> Tensor:
    return augment.geometry([name], 1.0, Given(1, uniform, normal), 48, 32)[0]


def test_matrices_are_those_of_the_definitions() -> None:
    half, third = math.pi / 2, 0.3
    cases: list[tuple[Tensor, list[list[float]]]] = [
        (inverse_of("xflip", uniform=0.6), [[-1, 0, 0], [0, 1, 0]]),
        (inverse_of("xflip", uniform=0.4), [[1, 0, 0], [0, 1, 0]]),
        (inverse_of("rotate90", uniform=0.3), [[0, -1, 0], [1, 0, 0]]),
        (inverse_of("rotate90", uniform=0.6), [[-1, 0, 0], [0, -1, 0]]),
        # (2 u - 1) / 8 of 32 and 48 pixels, in whole ones, and back.
        (inverse_of("xint", uniform=0.9), [[1, 0, -3], [0, 1, -5]]),
        (inverse_of("scale", normal=5.0), [[0.5, 0, 0], [0, 0.5, 0]]),
        (inverse_of("aniso", normal=5.0), [[0.5, 0, 0], [0, 2, 0]]),
        (inverse_of("xfrac", normal=1.5), [[1, 0, -6], [0, 1, -9]]),
    ]
    for found, expected in cases:
        torch.testing.assert_close(found[:2], torch.tensor(expected).float(), atol=1e-6, rtol=0)
    turn = (2 * third - 1) * math.pi
    both = augment.rotation(torch.tensor([turn])) @ augment.rotation(torch.tensor([turn]))
    torch.testing.assert_close(inverse_of("rotate", uniform=third), both[0])
    quarter = augment.rotation(torch.tensor([half]))[0]
    assert torch.allclose(quarter @ torch.tensor([1.0, 0, 1]), torch.tensor([0.0, 1, 1]), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (32, 16)])
def test_a_shift_by_whole_pixels_is_exact(height: int, width: int) -> None:
    images = noise(1, height, width)
    moved = augment.warp(images, augment.shift(torch.tensor([[2.0, -3.0]])))
    inner = (slice(None), slice(None), slice(6, -6), slice(4, -4))
    torch.testing.assert_close(
        moved[inner], images.roll((3, -2), (2, 3))[inner], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(("height", "width"), [(48, 48), (64, 32)])
def test_a_flip_is_the_picture_flipped(height: int, width: int) -> None:
    """But for the filter, which is not quite symmetric."""
    images, ones = smooth(height, width), torch.ones(1)
    flipped = augment.warp(images, augment.scaling(-ones, ones))
    assert (flipped - images.flip(3)).abs().max() < 0.02


def test_a_quarter_turn_is_the_picture_turned() -> None:
    images = smooth(48, 48)
    quarter = augment.rotation(torch.tensor([math.pi / 2]).double())
    turned = augment.warp(images, quarter)
    assert (turned - images.rot90(1, (2, 3))).abs().max() < 0.02
    assert (turned - images).abs().max() > 0.5


def test_what_comes_from_outside_is_mirrored() -> None:
    images = noise(1)
    moved = augment.warp(images, augment.shift(torch.tensor([[-5.0, 0.0]])))
    mirrored = torch.cat([images[..., 1:6].flip(3), images[..., :-5]], dim=3)
    torch.testing.assert_close(moved, mirrored, rtol=1e-5, atol=1e-5)


def test_an_even_picture_is_scaled_in_its_aspect() -> None:
    """Between pixels: a smooth picture half as large is its formula at twice the coordinates."""
    images = smooth(64, 32)
    two = torch.tensor([2.0])
    smaller = augment.warp(images, augment.scaling(two, two))
    expected = images[:, :, 0::2, 0::2]
    middle = smaller[:, :, 16:48, 8:24]
    assert (middle - (expected + images[:, :, 1::2, 1::2]) / 2).abs().max() < 0.02


# Colours


def colours_of(name: str, uniform: float = 0.0, normal: float = 0.0) -> Callable[[Tensor], Tensor]:
    matrix = augment.colour([name], 1.0, Given(1, uniform, normal))[0]
    return lambda rgb: matrix[:3, :3] @ rgb + matrix[:3, 3]


def test_colours_are_those_of_the_definitions() -> None:
    rgb, gray = torch.tensor([0.2, -0.4, 0.8]), torch.ones(3) / 2
    torch.testing.assert_close(colours_of("brightness", normal=1.5)(rgb), rgb + 0.3)
    torch.testing.assert_close(colours_of("contrast", normal=2.0)(rgb), rgb * 2)
    torch.testing.assert_close(colours_of("lumaflip", uniform=0.4)(rgb), rgb)
    torch.testing.assert_close(colours_of("lumaflip", uniform=0.6)(gray), -gray)
    mean = rgb.mean()
    torch.testing.assert_close(
        colours_of("lumaflip", uniform=0.6)(rgb), rgb - 2 * mean, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(colours_of("saturation", normal=1.0)(rgb), mean + 2 * (rgb - mean))
    turned = colours_of("hue", uniform=0.5 + 1 / 3)(rgb)  # by a third of the circle
    torch.testing.assert_close(turned, rgb.roll(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(colours_of("hue", uniform=0.9)(gray), gray)


# Frequencies, noise, cutout


def test_bands_take_a_signal_apart_and_give_it_back() -> None:
    bands = augment.bands()
    assert bands.shape == (4, 43)
    delta = torch.zeros(43, dtype=torch.float64)
    delta[21] = 1
    torch.testing.assert_close(bands.sum(dim=0), delta, rtol=0, atol=1e-10)
    mean_of = bands.sum(dim=1)  # a constant is in the lowest one
    torch.testing.assert_close(mean_of, torch.tensor([1.0, 0, 0, 0]).double(), rtol=0, atol=1e-10)
    gains = (bands @ torch.tensor([(-1.0) ** k for k in range(43)]).double()).abs()
    torch.testing.assert_close(gains, torch.tensor([0.0, 0, 0, 1]).double(), rtol=0, atol=1e-10)


def test_gains_of_bands_keep_the_power_of_natural_pictures() -> None:
    gains = augment.band_gains(1.0, draws(5))
    power = torch.tensor([10.0, 1, 1, 1]) / 13
    # Each of the four is normalised by itself, so that the product is near 1.
    assert ((power * gains.square()).sum(dim=1).sqrt() - 1).abs().max() < 0.6
    assert (augment.band_gains(0.5, Given(2, uniform=0.5)) == 1).all()


def test_a_constant_is_multiplied_by_the_lowest_band() -> None:
    images = torch.full((1, 3, 24, 30), 0.5).double()
    found = augment.filtered(images, torch.tensor([[2.0, 1, 1, 1]]).double())
    torch.testing.assert_close(found, images * 4)  # along both axes


def test_cutout_takes_a_quarter_at_most() -> None:
    kept = augment.kept_by_cutout(1.0, Given(1, uniform=0.5), 16, 8)[0, 0]
    assert kept.sum() == 16 * 8 * 3 / 4
    assert kept[4:12, 2:6].sum() == 0
    assert augment.kept_by_cutout(0.5, Given(1, uniform=0.5), 16, 8).all()


def test_noise_is_a_tenth_of_a_normal_number_in_size() -> None:
    black = torch.zeros(400, 3, 8, 8)
    found = augment.augment(black, ["noise"], 1.0, draws(400)).std(dim=(1, 2, 3))
    assert abs(found.mean().item() - 0.1 * math.sqrt(2 / math.pi)) < 0.01


# What cannot be


def test_what_does_not_fit_the_pictures_is_said_before() -> None:
    augment.check(PIPES["bgcfnc"], 24, 24)
    augment.check(PIPES["body"], 64, 32)
    with pytest.raises(ValueError, match="rotate90 does not fit pictures of 64x32 pixels"):
        augment.check(PIPES["bgc"], 64, 32)
    with pytest.raises(ValueError, match="filter needs pictures of 22 pixels, found 16x16"):
        augment.check(["filter"], 16, 16)
    with pytest.raises(ValueError, match=r"found \['blur'\], expected some of xflip"):
        augment.check(["blur"], 16, 16)
