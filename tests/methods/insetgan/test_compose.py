"""The final image and its seam, on pictures whose numbers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import compose

LEVELS = 127.5


def flat(value: float = 0.0, height: int = 40, width: int = 30) -> Tensor:
    return torch.full((3, height, width), value)


def with_rectangle(value: float, x0: int, y0: int, x1: int, y1: int) -> Tensor:
    image = flat()
    image[:, y0:y1, x0:x1] = value
    return image


# compose


def test_insets_are_pasted_in_order_onto_their_regions() -> None:
    canvas = flat(-1.0)
    result = compose.compose(
        canvas,
        {"face": torch.full((3, 16, 16), 0.25), "shoes": torch.full((3, 8, 8), 0.5)},
        {"face": Box(4, 5, 20, 21), "shoes": Box(10, 10, 26, 26)},
    )
    assert torch.allclose(result[:, 5:10, 4:20], torch.tensor(0.25))
    assert torch.allclose(result[:, 10:26, 10:26], torch.tensor(0.5))
    assert int((result == -1).sum()) == 3 * (40 * 30 - 2 * 16 * 16 + 10 * 11)
    assert torch.equal(canvas, flat(-1.0))


def test_an_inset_that_leaves_the_canvas_is_cut() -> None:
    result = compose.compose(flat(), {"face": torch.ones(3, 8, 8)}, {"face": Box(-4, -4, 4, 4)})
    assert int((result == 1).sum()) == 3 * 16


# seam


def test_a_smooth_ramp_has_no_seam() -> None:
    x, y = torch.arange(30) / 40, torch.arange(40) / 50
    image = (x + y[:, None]).expand(3, -1, -1) - 0.8
    assert compose.seam(image, Box(6, 8, 20, 25)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("contrast", [0.2, -0.2, 1.0])
def test_a_hard_rectangle_has_its_contrast_in_levels(contrast: float) -> None:
    seam = compose.seam(with_rectangle(contrast, 6, 8, 20, 25), Box(6, 8, 20, 25))
    assert seam == pytest.approx(abs(contrast) * LEVELS)


def test_a_step_beside_the_edge_is_no_seam() -> None:
    assert compose.seam(with_rectangle(0.2, 9, 11, 17, 22), Box(6, 8, 20, 25)) == 0


def test_a_step_that_continues_a_slope_counts_what_it_adds() -> None:
    image = (torch.arange(30) * 0.01).expand(3, 40, -1).clone()
    image[:, :, 20:] += 0.05  # the right edge: 0.06 between slopes of 0.01
    sides = 17 + 17 + 14 + 14
    expected = 17 * 0.05 * LEVELS / sides
    assert compose.seam(image, Box(6, 8, 20, 25)) == pytest.approx(expected, rel=1e-4)


def test_colours_are_averaged() -> None:
    image = flat()
    image[0, 8:25, 6:20] = 0.3
    assert compose.seam(image, Box(6, 8, 20, 25)) == pytest.approx(0.1 * LEVELS)


@pytest.mark.parametrize("x0", [-5, 0, 1])
def test_a_side_at_the_edge_of_the_image_does_not_count(x0: int) -> None:
    """Contrast at the right side only, which is 17 of the 17 + 2 x width pixels that count."""
    width = 20 - max(x0, 0)
    image = with_rectangle(0.4, 20, 0, 30, 40)
    expected = 0.4 * LEVELS * 17 / (17 + 2 * width)
    assert compose.seam(image, Box(x0, 8, 20, 25)) == pytest.approx(expected)


def test_two_pixels_outside_are_enough() -> None:
    image = with_rectangle(0.4, 20, 0, 30, 40)
    assert compose.seam(image, Box(2, 8, 20, 25)) == pytest.approx(0.4 * LEVELS * 17 / (34 + 36))


@pytest.mark.parametrize(
    "region", [Box(0, 0, 30, 40), Box(-5, -5, 60, 60), Box(50, 50, 60, 60), Box(-9, 2, -3, 20)]
)
def test_a_region_without_an_edge_in_the_image_has_no_seam(region: Box) -> None:
    noise = torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(0))
    assert compose.seam(noise, region) == 0.0


def test_the_seam_does_not_depend_on_what_is_far_away() -> None:
    noise = torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(0))
    region = Box(8, 10, 20, 26)
    before = compose.seam(noise, region)
    changed = noise.clone()
    changed[:, 12:24, 10:18] = 5.0  # two pixels inside
    changed[:, :8], changed[:, 28:] = -5.0, -5.0  # two pixels outside
    changed[:, :, :6], changed[:, :, 22:] = -5.0, -5.0
    assert before > 0
    assert compose.seam(changed, region) == pytest.approx(before)
    changed[:, 15, 9] = 5.0  # and one pixel nearer it does
    assert compose.seam(changed, region) != pytest.approx(before)


def test_the_edge_lies_where_pasting_puts_it() -> None:
    region = Box(6.4, 8.6, 20.3, 24.8)  # pixels 6..19 and 9..24
    pasted = compose.compose(flat(), {"face": torch.ones(3, 16, 16) * 0.2}, {"face": region})
    assert compose.seam(pasted, region) == pytest.approx(0.2 * LEVELS, rel=1e-5)
