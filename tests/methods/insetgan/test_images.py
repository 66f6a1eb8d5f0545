"""Crops, masks and pasting, against slices and pictures whose values are known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.methods.insetgan import images


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def box(*corners: float) -> Tensor:
    return torch.tensor([corners])


def ramp_at(x: Tensor, y: Tensor) -> Tensor:
    """Linear in both directions; a different slope for each colour: `[1 3 h w]`."""
    slopes = torch.tensor([[0.02, -0.01], [-0.005, 0.015], [0.01, 0.01]])
    return (slopes[:, :1, None] * x + slopes[:, 1:, None] * y[:, None])[None] - 0.2


def ramp(height: int, width: int) -> Tensor:
    return ramp_at(torch.arange(width) + 0.5, torch.arange(height) + 0.5)


def checkerboard(side: int) -> Tensor:
    """+1 and -1 by turns, from pixel to pixel."""
    i = torch.arange(side)
    return ((i[:, None] + i) % 2 * 2.0 - 1).expand(1, 3, -1, -1)


# resample


@pytest.mark.parametrize("corners", [(0, 0, 30, 40), (3, 5, 19, 12), (29, 39, 30, 40)])
def test_a_crop_of_whole_pixels_is_a_slice(corners: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = corners
    image = noise(2, 3, 40, 30)
    cropped = images.resample(image, box(*corners).expand(2, -1), (y1 - y0, x1 - x0))
    torch.testing.assert_close(cropped, image[:, :, y0:y1, x0:x1], atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [(23, 21), (9, 7), (5, 30)])
def test_a_sub_pixel_crop_of_a_ramp_is_exact(size: tuple[int, int]) -> None:
    x0, y0, x1, y1 = 3.3, 4.7, 13.9, 16.2
    cropped = images.resample(ramp(40, 30), box(x0, y0, x1, y1), size)
    x = x0 + (torch.arange(size[1]) + 0.5) * (x1 - x0) / size[1]
    y = y0 + (torch.arange(size[0]) + 0.5) * (y1 - y0) / size[0]
    torch.testing.assert_close(cropped, ramp_at(x, y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("corners", [(0, 0, 128, 128), (1, 2, 97, 98), (5.5, 3, 125.5, 123)])
def test_shrinking_a_checkerboard_gives_grey(corners: tuple[float, float, float, float]) -> None:
    small = images.resample(checkerboard(128), box(*corners), (32, 32))
    assert small.abs().max() < 0.12  # nine pixels average to a ninth


def test_shrinking_by_a_whole_factor_is_the_mean_of_areas() -> None:
    image = noise(1, 3, 48, 32)
    small = images.resample(image, box(0, 0, 32, 48), (12, 8))
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(image, 4), atol=2e-5, rtol=0)


def test_outside_of_the_image_its_border_is_repeated() -> None:
    image = noise(1, 3, 8, 8)
    cropped = images.resample(image, box(-4, -4, 12, 12), (16, 16))
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4), mode="replicate")
    torch.testing.assert_close(cropped, padded, atol=2e-5, rtol=0)


def test_the_gradient_of_a_crop_is_its_adjoint() -> None:
    """A crop is linear: <crop(a), b> has the gradient g with <g, c> = <crop(c), b>."""
    image, other, probe = (
        noise(1, 3, 20, 20),
        noise(1, 3, 20, 20, seed=1),
        noise(1, 3, 6, 6, seed=2),
    )
    moving = image.clone().requires_grad_(True)
    corners = box(2.3, 4.1, 17.9, 15.0)
    (gradient,) = torch.autograd.grad(
        (images.resample(moving, corners, (6, 6)) * probe).sum(), moving
    )
    expected = (images.resample(other, corners, (6, 6)) * probe).sum()
    torch.testing.assert_close((gradient * other).sum(), expected, rtol=1e-4, atol=1e-5)
    assert gradient[:, :, :3].abs().max() == 0  # far above the box
    assert gradient[:, :, 5:15, 4:17].abs().min() > 0


def test_a_crop_does_not_depend_on_its_neighbours() -> None:
    """One of them is shrunk, the other is not: neither may change the samples of the other."""
    image = noise(3, 3, 64, 64)
    corners = torch.tensor([[3.2, 4.1, 24.9, 26.0], [0.5, 0.5, 60.3, 63.2], [9.9, 9.0, 60.0, 55.5]])
    together = images.resample(image, corners, (24, 24))
    for i in range(3):
        alone = images.resample(image[i : i + 1], corners[i : i + 1], (24, 24))
        assert torch.equal(together[i], alone[0])


# downsample


def test_downsampling_averages_areas() -> None:
    image = noise(2, 3, 16, 8)
    small = images.downsample(image, 4)
    assert small.shape == (2, 3, 4, 2)
    torch.testing.assert_close(small[1, 2, 0, 1], image[1, 2, :4, 4:].mean())


def test_small_images_are_left_alone() -> None:
    image = noise(1, 3, 16, 8)
    assert images.downsample(image, 16) is image
    assert images.downsample(image, 64) is image


def test_a_checkerboard_downsamples_to_grey() -> None:
    assert images.downsample(checkerboard(64), 32).abs().max() < 1e-6


# Masks


@pytest.mark.parametrize(
    ("corners", "count"),
    [
        ((2, 3, 7, 9), 30),  # whole pixels
        ((2.4, 3.0, 7.4, 9.0), 30),  # as many centres, wherever it lies
        ((2.6, 3.0, 7.4, 9.0), 24),
        ((-5, -5, 3, 2), 6),  # only what the image has
        ((0, 0, 20, 10), 200),
        ((30, 30, 40, 40), 0),
        ((3.6, 3.6, 4.4, 4.4), 0),  # between the centres
        ((3.5, 3.5, 4.5, 4.5), 1),  # closed on the left, open on the right
    ],
)
def test_a_mask_counts_pixels_whose_centre_is_inside(
    corners: tuple[float, float, float, float], count: int
) -> None:
    mask = images.box_mask(box(*corners), (10, 20))
    assert mask.shape == (1, 1, 10, 20)
    assert int(mask.sum()) == count
    assert int(((mask == 0) | (mask == 1)).sum()) == 200


def test_every_item_has_its_own_mask() -> None:
    masks = images.box_mask(torch.tensor([[0.0, 0, 2, 3], [1.0, 1, 4, 5]]), (5, 4))
    assert masks.sum(dim=(1, 2, 3)).tolist() == [6, 12]
    assert masks[0, 0, 2, 1] == 1
    assert masks[0, 0, 1, 2] == 0  # x is the last axis


@pytest.mark.parametrize(("size", "width"), [(256, 8), (64, 2), (32, 2), (128, 4), (1024, 32)])
def test_the_border_is_8_of_256_and_at_least_2(size: int, width: int) -> None:
    assert images.border_width(size) == width
    ring = images.border_mask(size)
    assert ring.shape == (1, 1, size, size)
    assert int(ring.sum()) == size**2 - (size - 2 * width) ** 2
    assert ring[0, 0, size // 2, [0, width - 1, width, -width, -1]].tolist() == [1, 1, 0, 1, 1]
    assert torch.equal(ring, ring.transpose(2, 3))


# Frames and pasting


def test_the_frame_of_an_image_in_its_crop() -> None:
    frame = images.frame_in_crop((100, 80), box(10, 20, 30, 60), (80, 40))
    assert frame.tolist() == [[-20, -40, 140, 160]]  # a pixel of the image is two of the crop
    whole = images.frame_in_crop((100, 80), box(0, 0, 80, 100), (50, 40))
    assert whole.tolist() == [[0, 0, 40, 50]]


@pytest.mark.parametrize(
    "corners", [(4, 6, 20, 22), (-3, 10, 13, 26), (20, 30, 36, 46), (0, 0, 30, 40)]
)
def test_pasting_the_crop_of_the_region_gives_back_the_picture(
    corners: tuple[int, int, int, int],
) -> None:
    x0, y0, x1, y1 = corners
    canvas, region = noise(1, 3, 40, 30), box(*corners)
    crop = images.resample(canvas, region, (y1 - y0, x1 - x0))
    pasted = images.paste(canvas, crop, region)
    torch.testing.assert_close(pasted, canvas, atol=5e-5, rtol=0)


def test_pasting_the_sub_pixel_crop_of_a_ramp_gives_back_the_ramp() -> None:
    canvas, region = ramp(40, 30), box(4.3, 6.8, 20.4, 22.9)
    crop = images.resample(canvas, region, (32, 32))
    assert (images.paste(canvas, crop, region) - canvas)[:, :, 8:22, 6:19].abs().max() < 1e-4


def test_pasting_replaces_what_lies_in_the_region_and_nothing_else() -> None:
    canvas, inset = noise(2, 3, 20, 16), torch.full((2, 3, 8, 8), 3.0)
    regions = torch.tensor([[2.0, 3.0, 10.0, 11.0], [9.4, -2.0, 25.4, 14.0]])
    pasted = images.paste(canvas, inset, regions)
    inside = images.box_mask(regions, (20, 16)).expand_as(canvas) > 0
    assert torch.equal(pasted[~inside], canvas[~inside])
    assert torch.allclose(pasted[inside], torch.tensor(3.0))


def test_an_inset_larger_than_its_region_is_averaged() -> None:
    canvas = torch.zeros(1, 3, 40, 40)
    pasted = images.paste(canvas, checkerboard(64), box(4, 4, 20, 20))
    assert pasted.abs().max() < 0.05


# Bytes


def test_every_byte_survives_the_round_trip() -> None:
    pixels = torch.arange(256).byte().reshape(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(images.to_pixels(images.from_pixels(pixels)), pixels)


def test_bytes_are_clamped_and_never_wrap() -> None:
    image = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]).reshape(1, 1, 1, 5).expand(-1, 3, -1, -1)
    assert images.to_pixels(image)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert images.to_pixels(image).shape == (1, 1, 5, 3)


# Turned boxes


def turned(x0: float, y0: float, side: float, angle: float) -> Tensor:
    return torch.tensor([[x0, y0, x0 + side, y0 + side, angle]])


def test_a_box_turned_by_a_right_angle_cuts_out_the_turned_picture() -> None:
    image = noise(1, 3, 20, 20)
    upright = images.resample(image, turned(4, 6, 8, 0.0), (8, 8))
    right = images.resample(image, turned(4, 6, 8, math.pi / 2), (8, 8))
    torch.testing.assert_close(right, upright.rot90(1, (2, 3)))


def test_angle_zero_is_upright() -> None:
    image, plain = noise(1, 3, 20, 20), torch.tensor([[3.3, 4.1, 12.6, 13.9]])
    with_angle = torch.cat([plain, torch.zeros(1, 1)], dim=1)
    for one, other in (
        (images.resample(image, plain, (8, 8)), images.resample(image, with_angle, (8, 8))),
        (images.box_mask(plain, (20, 20)), images.box_mask(with_angle, (20, 20))),
        (images.paste(image, -image, plain), images.paste(image, -image, with_angle)),
    ):
        assert torch.equal(one, other)


def test_the_mask_of_a_turned_box_has_its_area_and_its_corners() -> None:
    mask = images.box_mask(turned(10, 10, 20, math.pi / 4), (40, 40))[0, 0]
    assert float(mask.sum()) == pytest.approx(400, rel=0.06)
    assert mask[20, 7] == mask[7, 20] == mask[20, 32] == 1  # corners of the diamond
    assert mask[11, 11] == mask[28, 28] == 0


def test_what_is_pasted_turned_is_cut_out_again() -> None:
    """A smooth inset: two resamplings blur a little."""
    inset = F.interpolate(noise(1, 3, 4, 4), (32, 32), mode="bicubic")
    region = turned(14.2, 11.7, 32, 0.4)
    pasted = images.paste(torch.zeros(1, 3, 64, 64), inset, region)
    again = images.resample(pasted, region, (32, 32))
    assert float((again - inset)[:, :, 3:-3, 3:-3].abs().max()) < 0.1
    assert float(pasted[0, :, 0, 0].abs().max()) == 0


def test_the_frame_in_a_turned_crop_turns_back() -> None:
    """Where the canvas ends, seen from a turned region that reaches over its edge."""
    region = turned(-8, 4, 16, 0.3)
    frame = images.frame_in_crop((32, 32), region, (16, 16))
    seen = images.box_mask(frame, (16, 16))
    inside = images.resample(torch.ones(1, 1, 32, 32), region, (16, 16))
    outside = images.resample(
        F.pad(torch.ones(1, 1, 32, 32), (16,) * 4),
        region + torch.tensor([[16.0, 16.0, 16.0, 16.0, 0.0]]),
        (16, 16),
    )
    assert float((seen - outside).abs().mean()) < 0.03
    assert float(inside.min()) > 0.999  # beyond the edge its border is repeated
