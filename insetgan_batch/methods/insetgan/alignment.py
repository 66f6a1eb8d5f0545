"""Five landmarks of a face → the upright square of the photograph that a face generator expects.

Generators learn from faces that are cut out alike, so a photograph has to be cut out in the same
way before one of them can paint it again. The square follows from the eyes and the mouth: it is
turned as they are, its half side is the larger of 2 eye distances and 1.8 times the way from the
eyes to the mouth, and its centre lies a tenth of that way below the eyes. These are the figures of
FFHQ (Karras et al. 2019, appendix A); a generator of other faces has its own `zoom` and `down`.

What the square has beyond the photograph is the photograph mirrored, and more and more blurred.
Landmarks are `[5 2]`, x and y in pixels: left eye, right eye, nose, left and right corner of the
mouth, left and right as the viewer sees them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from insetgan_batch.data.landmarks import Points
from insetgan_batch.errors import BadInputError

_EYES, _MOUTH = 2.0, 1.8
_LEAST_PX = 4.0  # from eye to eye: below it nobody can say how a head is turned
_BLUR = 0.02  # of the square's side, far outside of the photograph
_FADE = 0.1  # of the square's side: over so much of the mirrored part the blur sets in
_MOST_MIRRORED = 2.0  # sides of the photograph, beyond which a square shows nothing of it
_SAMPLES = 2  # per pixel and side


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """How a generator's faces are cut out. zoom: of FFHQ's half side, larger shows more around the
    face; down: from the eyes to the centre, in shares of the way to the mouth.
    """

    zoom: float = 1.0
    down: float = 0.1


FFHQ = Frame()


@dataclasses.dataclass(frozen=True, slots=True)
class Square:
    """A turned square of a picture. centre: x, y; half: from the centre to the middle of the right
    side, so that its length is half of the side and its direction the angle.
    """

    centre: tuple[float, float]
    half: tuple[float, float]

    @property
    def side(self) -> float:
        """In pixels of the picture."""
        return 2 * math.hypot(*self.half)

    @property
    def corners(self) -> Points:
        """Top left, top right, bottom right, bottom left: `[4 2]`."""
        x = np.array(self.half)
        y = np.array([-x[1], x[0]])
        corners: Points = np.array(self.centre) + np.stack([-x - y, x - y, x + y, -x + y])
        return corners

    def within(self, points: Points) -> Points:
        """Points `[n 2]` of the picture in shares of the square's side: 0 left or top, 1 right or
        bottom.
        """
        x = np.array(self.half)
        y = np.array([-x[1], x[0]])
        offsets = points - np.array(self.centre)
        shares: Points = 0.5 + np.stack([offsets @ x, offsets @ y], axis=1) / (2 * (x @ x))
        return shares

    def outside(self, shares: Points) -> Points:
        """The inverse of `within`."""
        x = np.array(self.half)
        y = np.array([-x[1], x[0]])
        points: Points = np.array(self.centre) + 2 * (shares - 0.5) @ np.stack([x, y])
        return points

    def scaled(self, factor: float) -> Square:
        """The same in a picture whose pixels are so many times as many along each side."""
        (x, y), (dx, dy) = self.centre, self.half
        return Square((x * factor, y * factor), (dx * factor, dy * factor))

    def moved(self, dx: float, dy: float) -> Square:
        """The same in a picture that has so many pixels more at the left and at the top."""
        return Square((self.centre[0] + dx, self.centre[1] + dy), self.half)


def square_of(landmarks: Points, frame: Frame = FFHQ) -> Square:
    """Where a face is to be cut out; `BadInputError` for landmarks that are no face's."""
    eyes_middle, across, down = _axes(landmarks)
    # Two lines tell how a head is turned, and their sum forgives either of them an error.
    direction = across + np.array([down[1], -down[0]])
    length = math.hypot(*direction)
    if not math.hypot(*across) >= _LEAST_PX or not length >= _LEAST_PX:
        raise BadInputError(
            f"found eyes {math.hypot(*across):.1f} pixels apart, expected landmarks of a face with"
            f" at least {_LEAST_PX:.0f}: left eye, right eye, nose, left and right corner of the"
            " mouth, as the viewer sees them"
        )
    half = frame.zoom * _half_side(across, down) * direction / length
    centre = eyes_middle + frame.down * down
    return Square((float(centre[0]), float(centre[1])), (float(half[0]), float(half[1])))


def frame_of(faces: Sequence[Points], size: float) -> Frame:
    """The frame of a generator, of the landmarks in pictures that it paints, `size` pixels high and
    wide: medians.
    """
    zooms, downs = [], []
    for landmarks in faces:
        eyes_middle, across, down = _axes(landmarks)
        zooms.append(size / 2 / _half_side(across, down))
        downs.append((size / 2 - eyes_middle) @ down / (down @ down))
    return Frame(float(np.median(zooms)), float(np.median(downs)))


def cut_out(picture: Image.Image, square: Square, size: int) -> Image.Image:
    """The square of an RGB picture as an upright one of `size` pixels.

    Raises `BadInputError` where the square lies far outside of the picture.
    """
    if (factor := int(square.side / (_SAMPLES * size))) > 1:  # so that nothing aliases
        picture = picture.reduce(factor)
        square = square.scaled(1 / factor)
    picture, square = _padded(picture, square)
    fine = size * _SAMPLES
    left, _, _, _ = square.corners
    x = np.array(square.half) * 2 / fine
    y = np.array([-x[1], x[0]])
    coefficients = (x[0], y[0], left[0], x[1], y[1], left[1])
    sampled = picture.transform(
        (fine, fine), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return sampled.resize((size, size), Image.Resampling.BOX)


def _axes(landmarks: Points) -> tuple[Points, Points, Points]:
    """The middle of the eyes, from eye to eye, and from there to the middle of the mouth."""
    if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
        raise BadInputError(
            f"found landmarks of shape {list(landmarks.shape)}, expected 5 finite points (x, y)"
        )
    left, right, _, mouth_left, mouth_right = landmarks.astype(float)
    middle = (left + right) / 2
    return middle, right - left, (mouth_left + mouth_right) / 2 - middle


def _half_side(across: Points, down: Points) -> float:
    return max(_EYES * math.hypot(*across), _MOUTH * math.hypot(*down))


def _padded(picture: Image.Image, square: Square) -> tuple[Image.Image, Square]:
    """The picture with as much around it as the square needs: mirrored, blurred towards outside."""
    corners = square.corners
    margin = 2  # what bicubic interpolation looks at
    low = np.floor(corners.min(axis=0)).astype(int) - margin
    high = np.ceil(corners.max(axis=0)).astype(int) + margin
    width, height = picture.size
    left, top = (max(0, -int(v)) for v in low)
    right, bottom = max(0, int(high[0]) - width), max(0, int(high[1]) - height)
    if max(left, right) > _MOST_MIRRORED * width or max(top, bottom) > _MOST_MIRRORED * height:
        raise BadInputError(
            f"the face would be cut out {max(left, top, right, bottom)} pixels beyond a picture of"
            f" {width} x {height}; check its landmarks, or use a picture with more around the face"
        )
    if not (left or top or right or bottom):
        return picture, square
    sides = ((top, bottom), (left, right), (0, 0))
    mirrored = np.pad(np.asarray(picture), sides, mode="symmetric")
    image = Image.fromarray(mirrored)
    soft = image.filter(ImageFilter.GaussianBlur(_BLUR * square.side))
    outside = np.maximum(
        _distances(left, width, right)[None, :], _distances(top, height, bottom)[:, None]
    )
    share = np.clip(outside / (_FADE * square.side), 0, 1) * 255
    mask = Image.fromarray(np.rint(share).astype(np.uint8))
    return Image.composite(soft, image, mask), square.moved(left, top)


def _distances(before: int, inside: int, after: int) -> Points:
    """How far each pixel of a padded row lies outside of the picture."""
    at = np.arange(before + inside + after, dtype=float)
    outside: Points = np.maximum(np.maximum(before - at, at - (before + inside - 1)), 0)
    return outside
