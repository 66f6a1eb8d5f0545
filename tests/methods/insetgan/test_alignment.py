"""From five landmarks to the upright square that a face generator expects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from insetgan_batch.data.landmarks import Points
from insetgan_batch.errors import BadInputError
from insetgan_batch.methods.insetgan import alignment
from insetgan_batch.methods.insetgan.alignment import FFHQ, Frame, square_of

# Eyes 60 px apart, the mouth 70 px below them.
UPRIGHT = np.array([(120, 100), (180, 100), (150, 140), (130, 170), (170, 170)], float)
PICTURE_PX = 300


def moved(points: Points, degrees: float, scale: float, dx: float, dy: float) -> Points:
    angle = math.radians(degrees)
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    result: Points = points @ turn.T + (dx, dy)
    return result


def dotted(points: Points) -> Image.Image:
    """White, with a black disc of 8 px at each point."""
    y, x = np.mgrid[:PICTURE_PX, :PICTURE_PX]
    near = [np.hypot(x + 0.5 - px, y + 0.5 - py) < 4 for px, py in points]
    shade = np.where(np.any(near, axis=0), 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(shade[..., None], 3, axis=2))


def test_the_square_of_an_upright_face_has_the_figures_of_ffhq() -> None:
    square = square_of(UPRIGHT)
    assert square.centre == pytest.approx((150, 107))  # a tenth of 70 px below the eyes
    assert square.half == pytest.approx((126, 0))  # 1.8 times 70, more than 2 times 60
    assert square.corners.tolist() == [[24, -19], [276, -19], [276, 233], [24, 233]]


def test_where_eyes_are_far_apart_they_decide_its_size() -> None:
    wide = UPRIGHT.copy()
    wide[0, 0], wide[1, 0] = 100, 200
    assert square_of(wide).side == pytest.approx(2 * 200)


@given(st.floats(-180, 180), st.floats(0.5, 4), st.floats(-500, 500), st.floats(-500, 500))
def test_the_square_goes_with_the_face_however_it_is_moved(
    degrees: float, scale: float, dx: float, dy: float
) -> None:
    move = (degrees, scale, dx, dy)
    expected = moved(square_of(UPRIGHT).corners, *move)
    assert square_of(moved(UPRIGHT, *move)).corners == pytest.approx(expected, abs=1e-6)


def test_points_are_known_in_shares_of_the_square() -> None:
    square = square_of(moved(UPRIGHT, 30, 1.3, 20, 40))
    assert square.within(square.corners) == pytest.approx(
        np.array([(0, 0), (1, 0), (1, 1), (0, 1)]), abs=1e-9
    )


@given(st.floats(0.5, 3), st.floats(-0.5, 1.5))
def test_a_generators_frame_is_found_in_the_faces_it_paints(zoom: float, down: float) -> None:
    square = square_of(UPRIGHT, Frame(zoom, down))
    painted = square.within(UPRIGHT) * 128
    found = alignment.frame_of([painted, painted], 128)
    assert (found.zoom, found.down) == pytest.approx((zoom, down))


def test_a_turned_face_is_upright_when_it_is_cut_out() -> None:
    points = moved(UPRIGHT - 150, 20, 0.8, 150, 150)
    square = square_of(points)
    cut = np.asarray(alignment.cut_out(dotted(points), square, 256)).astype(float)
    expected = square_of(UPRIGHT).within(UPRIGHT) * 256
    for x, y in expected:
        around = 255 - cut[round(y) - 9 : round(y) + 9, round(x) - 9 : round(x) + 9, 0]
        rows, columns = np.mgrid[: around.shape[0], : around.shape[1]]
        middle = ((around * columns).sum() / around.sum(), (around * rows).sum() / around.sum())
        offset = np.array(middle) + 0.5 + (round(x) - 9, round(y) - 9) - (x, y)
        assert np.abs(offset).max() < 0.3


def test_a_larger_picture_is_averaged_and_not_picked_from() -> None:
    """A board of single black and white pixels is gray from far away."""
    board = np.indices((1200, 1200)).sum(axis=0) % 2 * 255
    picture = Image.fromarray(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    cut = np.asarray(alignment.cut_out(picture, square_of(UPRIGHT * 3 + 100), 64))
    assert np.abs(cut.astype(int) - 128).max() < 8


def test_what_the_picture_has_not_is_mirrored_and_blurred() -> None:
    """A ramp goes on as its own mirror image, without a black edge."""
    ramp = np.tile(np.linspace(60, 220, PICTURE_PX), (PICTURE_PX, 1))
    picture = Image.fromarray(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8))
    square = square_of(UPRIGHT - (60, 0))
    cut = np.asarray(alignment.cut_out(picture, square, 128)).astype(float)[64, :, 0]
    edge = round(-square.corners[0, 0] / square.side * 128)
    assert edge > 10
    assert cut.min() > 55
    assert (np.diff(cut[edge + 3 :]) >= 0).all()
    assert (np.diff(cut[2 : edge - 3]) <= 0).all()


def test_a_picture_that_holds_the_square_is_not_touched_outside_of_it() -> None:
    flat = Image.new("RGB", (PICTURE_PX, PICTURE_PX), (10, 200, 90))
    cut = np.asarray(alignment.cut_out(flat, square_of(moved(UPRIGHT, 0, 1, 0, 40)), 64))
    assert (cut == (10, 200, 90)).all()


def test_eyes_too_near_to_each_other_are_no_face() -> None:
    with pytest.raises(BadInputError, match=r"eyes 0\.6 pixels apart, expected landmarks"):
        square_of(UPRIGHT / 100)


def test_landmarks_that_are_no_numbers_are_refused() -> None:
    broken = UPRIGHT.copy()
    broken[2, 0] = math.nan
    with pytest.raises(BadInputError, match="expected 5 finite points"):
        square_of(broken)


def test_a_face_far_outside_of_its_picture_is_refused() -> None:
    tiny = Image.new("RGB", (20, 20))
    with pytest.raises(BadInputError, match="pixels beyond a picture of 20 x 20"):
        alignment.cut_out(tiny, square_of(UPRIGHT, FFHQ), 64)
