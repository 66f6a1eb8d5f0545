"""Boxes are plain arithmetic: what must hold for any box."""

from __future__ import annotations

import cmath

import hypothesis.strategies as st
import pytest
from hypothesis import given

from insetgan_batch.boxes import Box, align, align_landmarks, move

LENGTHS = st.floats(4, 300)
PLACES = st.floats(-200, 1200)
FRACTIONS = st.floats(0, 1)
SIDES = st.sampled_from([32, 128, 256, 1024])


@st.composite
def some_box(draw: st.DrawFn) -> Box:
    x0, y0 = draw(PLACES), draw(PLACES)
    return Box(x0, y0, x0 + draw(LENGTHS), y0 + draw(LENGTHS))


BOXES = some_box()


def close(a: Box, b: Box) -> bool:
    size = max(1.0, *(abs(v) for v in a.as_tuple()))
    return all(abs(v - w) <= 1e-9 * size for v, w in zip(a.as_tuple(), b.as_tuple(), strict=True))


def shifted(box: Box, dx: float, dy: float) -> Box:
    return Box(box.x0 + dx, box.y0 + dy, box.x1 + dx, box.y1 + dy)


# The box itself


def inside_region(inset_box: Box, region: Box, inset_width: int) -> Box:
    """An inset's box in canvas pixels, given the region that the inset covers."""
    factor = region.width / inset_width
    x0, y0, x1, y1 = (factor * corner for corner in inset_box.as_tuple())
    return Box(region.x0 + x0, region.y0 + y0, region.x0 + x1, region.y0 + y1)


def test_sides_and_centre() -> None:
    box = Box(1, 2, 4, 8)
    assert (box.width, box.height, box.centre) == (3, 6, (2.5, 5.0))
    assert box.as_tuple() == (1, 2, 4, 8)


def test_scaling_is_about_the_corner_of_the_image() -> None:
    assert Box(1, 2, 4, 8).scale(2.5) == Box(2.5, 5, 10, 20)


@given(BOXES, st.floats(-20, 20))
def test_shrinking_keeps_the_centre_and_can_be_undone(box: Box, margin: float) -> None:
    smaller = box.shrink(margin)
    assert smaller.width == pytest.approx(box.width - 2 * margin)
    assert smaller.height == pytest.approx(box.height - 2 * margin)
    assert smaller.centre == pytest.approx(box.centre)
    assert close(smaller.shrink(-margin), box)


# align


@given(BOXES, BOXES, SIDES)
def test_aligned_boxes_share_chin_centre_and_size(canvas: Box, inset: Box, side: int) -> None:
    region = align(canvas, inset, side, side)
    seen = inside_region(inset, region, side)
    scale = max(1.0, *(abs(v) for v in region.as_tuple()))
    assert seen.y1 == pytest.approx(canvas.y1, abs=1e-9 * scale)
    assert seen.centre[0] == pytest.approx(canvas.centre[0], abs=1e-9 * scale)
    assert seen.width * seen.height == pytest.approx(canvas.width * canvas.height)
    assert seen.width / seen.height == pytest.approx(inset.width / inset.height)


def test_the_chin_is_shared_and_not_the_forehead() -> None:
    canvas, inset = Box(40, 10, 60, 40), Box(10, 0, 30, 20)  # the inset's box is less tall
    seen = inside_region(inset, align(canvas, inset, 64, 64), 64)
    assert seen.y1 == pytest.approx(40)
    assert abs(seen.y0 - 10) > 1


def test_size_is_the_geometric_mean_of_both_ratios() -> None:
    region = align(Box(0, 0, 40, 90), Box(0, 0, 10, 10), 32, 32)  # ratios 4 and 9
    assert region.width == pytest.approx(6 * 32)


@given(BOXES, SIDES)
def test_a_box_aligned_with_itself_gives_the_whole_image(box: Box, side: int) -> None:
    assert close(align(box, box, side, 2 * side), Box(0, 0, 2 * side, side))


@given(BOXES, BOXES, st.floats(0.25, 8))
def test_a_larger_canvas_has_a_larger_region(canvas: Box, inset: Box, factor: float) -> None:
    region = align(canvas, inset, 256, 256)
    assert close(align(canvas.scale(factor), inset, 256, 256), region.scale(factor))


@given(BOXES, BOXES)
def test_the_resolution_of_the_inset_does_not_matter(canvas: Box, inset: Box) -> None:
    region = align(canvas, inset, 256, 128)
    assert close(align(canvas, inset.scale(4), 1024, 512), region)
    assert region.height == pytest.approx(2 * region.width)


@given(BOXES, BOXES, PLACES, PLACES)
def test_a_part_that_moves_takes_its_region_along(
    canvas: Box, inset: Box, dx: float, dy: float
) -> None:
    moved = align(shifted(canvas, dx, dy), inset, 64, 64)
    expected = shifted(align(canvas, inset, 64, 64), dx, dy)
    assert moved.as_tuple() == pytest.approx(expected.as_tuple(), abs=1e-6)


# move


@given(BOXES, BOXES, FRACTIONS)
def test_moving_goes_straight_from_one_box_to_the_other(a: Box, b: Box, fraction: float) -> None:
    assert move(a, b, 0) == a
    assert close(move(a, b, 1), b)
    for start, end, now in zip(
        a.as_tuple(), b.as_tuple(), move(a, b, fraction).as_tuple(), strict=True
    ):
        assert now - start == pytest.approx(fraction * (end - start), abs=1e-9)


@given(BOXES, FRACTIONS)
def test_a_box_that_is_there_stays(box: Box, fraction: float) -> None:
    assert move(box, box, fraction) == box


# clip


@given(BOXES, st.integers(1, 1024), st.integers(1, 1024))
def test_a_clipped_box_lies_in_the_image_and_in_the_box(box: Box, height: int, width: int) -> None:
    clipped = box.clip(height, width)
    assert 0 <= clipped.x0 <= clipped.x1 <= width
    assert 0 <= clipped.y0 <= clipped.y1 <= height
    assert clipped.clip(height, width) == clipped
    if clipped.width > 0 and clipped.height > 0:
        assert box.x0 <= clipped.x0
        assert clipped.x1 <= box.x1
        assert box.y0 <= clipped.y0
        assert clipped.y1 <= box.y1


def test_a_box_inside_is_not_clipped() -> None:
    box = Box(0, 0.5, 20, 10)
    assert box.clip(10, 20) == box
    assert box.clip(5, 8) == Box(0, 0.5, 8, 5)


@pytest.mark.parametrize(
    "box", [Box(-9, 2, -3, 4), Box(30, 2, 40, 4), Box(2, -9, 4, -3), Box(2, 30, 4, 40)]
)
def test_a_box_outside_becomes_empty(box: Box) -> None:
    clipped = box.clip(10, 20)
    assert clipped.width * clipped.height == 0


# round


# Turned


def with_landmarks(*points: complex) -> Box:
    return Box(0, 0, 1, 1, landmarks=tuple((p.real, p.imag) for p in points))


@given(
    st.floats(-3, 3), st.floats(0.2, 4), st.floats(-50, 50), st.floats(-50, 50), st.integers(8, 64)
)
def test_landmarks_give_back_the_similarity_that_moved_them(
    angle: float, scale: float, x: float, y: float, side: int
) -> None:
    points = [3 + 2j, 9 + 3j, 6 + 5j, 4 + 8j, 8 + 8.5j]
    factor = cmath.rect(scale, angle)
    moved = [factor * p + complex(x, y) for p in points]
    region = align_landmarks(with_landmarks(*moved), with_landmarks(*points), side, side)
    middle = factor * complex(side / 2, side / 2) + complex(x, y)
    assert region.centre == pytest.approx((middle.real, middle.imag), abs=1e-6)
    assert (region.width, region.height) == pytest.approx((scale * side, scale * side))
    assert region.angle == pytest.approx(angle)


@pytest.mark.parametrize(("here", "there"), [([], []), ([1j], [1j]), ([1j, 2j], [1j, 2j, 3j])])
def test_too_few_landmarks_are_refused(here: list[complex], there: list[complex]) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        align_landmarks(with_landmarks(*here), with_landmarks(*there), 8, 8)


def test_a_turned_box_comes_back_from_its_numbers_and_an_upright_one_has_four() -> None:
    assert Box.of(Box(1, 2, 3, 4, 0.5).as_tuple()) == Box(1, 2, 3, 4, 0.5)
    assert Box(1, 2, 3, 4).as_tuple() == (1, 2, 3, 4)
    assert move(Box(0, 0, 2, 2, 0.0), Box(0, 0, 2, 2, 1.0), 0.25).angle == 0.25


@given(box=BOXES, dx=st.floats(-3, 3), dy=st.floats(-3, 3), growth=st.floats(-3, 3))
def test_what_is_nearer_than_the_slack_moves_nothing(
    box: Box, dx: float, dy: float, growth: float
) -> None:
    target = Box(
        box.x0 + dx - growth, box.y0 + dy - growth, box.x1 + dx + growth, box.y1 + dy + growth
    )
    assert move(box, target, 1.0, slack=3.01 / box.height) == box


def test_beyond_the_slack_a_box_moves_by_the_rest_and_stays_square() -> None:
    box, target = Box(0, 0, 100, 100), Box(10, -10, 130, 110)  # 20 to the right, 10 more each side
    assert move(box, target, 0.5, slack=0.04) == Box(5, -3, 111, 103)
