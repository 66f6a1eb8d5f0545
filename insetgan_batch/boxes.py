"""Boxes and their arithmetic: pure numbers, no images.

Coordinates are pixels of the image they belong to, x to the right, y down; pixel i covers [i, i +
1). A box may be turned about its centre; angles are radians, from x towards y.
"""

from __future__ import annotations

import cmath
import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A rectangle `x0 <= x < x1`, `y0 <= y < y1` in pixels; may be sub-pixel and may leave the
    image.

    angle: by which it is then turned about its centre. landmarks: points (x, y) of what was found
    in it, where a detector gives them.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    angle: float = 0.0
    landmarks: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Box:
        """From (x0, y0, x1, y1), and the angle if there is one."""
        x0, y0, x1, y1, *angle = numbers
        return cls(x0, y0, x1, y1, angle[0] if angle else 0.0)

    @property
    def width(self) -> float:
        """Pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Pixels."""
        return self.y1 - self.y0

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def as_tuple(self) -> tuple[float, ...]:
        """(x0, y0, x1, y1), and the angle if it has one."""
        corners = (self.x0, self.y0, self.x1, self.y1)
        return (*corners, self.angle) if self.angle else corners

    def scale(self, factor: float) -> Box:
        """The same box in an image that is `factor` times as large."""
        return Box(self.x0 * factor, self.y0 * factor, self.x1 * factor, self.y1 * factor)

    def shrink(self, margin: float) -> Box:
        """Each side moved inwards by `margin` pixels (outwards when negative)."""
        return Box(self.x0 + margin, self.y0 + margin, self.x1 - margin, self.y1 - margin)

    def clip(self, height: int, width: int) -> Box:
        """The part inside an image of that size; empty (width or height 0) when it lies outside."""
        x0, y0 = min(max(self.x0, 0), width), min(max(self.y0, 0), height)
        return Box(x0, y0, max(min(self.x1, width), x0), max(min(self.y1, height), y0))


def align(here: Box, there: Box, height: int, width: int) -> Box:
    """The region of an image that another one of `height x width` covers when the parts that were
    found in both coincide.

    The parts share their size (geometric mean of the two side ratios: less sensitive to a
    detector's noise than either side alone), their horizontal centre and their lower edge, the chin
    (InsetGAN, section 3.3).
    """
    ratio = math.sqrt((here.width * here.height) / (there.width * there.height))
    x0 = here.centre[0] - ratio * there.centre[0]
    y0 = here.y1 - ratio * there.y1
    return Box(x0, y0, x0 + ratio * width, y0 + ratio * height)


def align_landmarks(here: Box, there: Box, height: int, width: int) -> Box:
    """The region of an image that another one of `height x width` covers when the landmarks of both
    come closest to each other by a similarity transform (Umeyama 1991): also turned.

    Raises `ValueError` where there are not two or more of them in both, and equally many.
    """
    points = here.landmarks, there.landmarks
    if not len(points[0]) == len(points[1]) > 1:
        raise ValueError(f"found {len(points[0])} and {len(points[1])} landmarks")
    # With points as complex numbers a similarity is z -> factor * z + shift.
    targets, sources = ([complex(x, y) for x, y in found] for found in points)
    target, source = sum(targets) / len(targets), sum(sources) / len(sources)
    spread = sum(abs(z - source) ** 2 for z in sources)
    pairs = zip(sources, targets, strict=True)
    factor = sum((z - source).conjugate() * (t - target) for z, t in pairs) / spread
    centre = target + factor * (complex(width / 2, height / 2) - source)
    dx, dy = abs(factor) * width / 2, abs(factor) * height / 2
    x, y = centre.real, centre.imag
    return Box(x - dx, y - dy, x + dx, y + dy, cmath.phase(factor))


def move(current: Box, target: Box, fraction: float, slack: float = 0.0) -> Box:
    """The box on its way to `target`: `fraction` 0 stays, 1 arrives.

    slack: a share of the box' height. Centre, size and angle (in radians) move only by what the
    target is further away than that: a detector's noise moves nothing, and nothing ever jumps.
    """
    px = slack * current.height
    before, after = _place(current), _place(target)
    x, y, dx, dy = (fraction * _beyond(b - a, px) for a, b in zip(before, after, strict=True))
    angle = current.angle + fraction * _beyond(target.angle - current.angle, slack)
    x0, y0, x1, y1 = (
        current.x0 + x - dx,
        current.y0 + y - dy,
        current.x1 + x + dx,
        current.y1 + y + dy,
    )
    return Box(x0, y0, x1, y1, angle)


def _place(box: Box) -> tuple[float, ...]:
    """Centre and half sides."""
    return (*box.centre, box.width / 2, box.height / 2)


def _beyond(difference: float, slack: float) -> float:
    return math.copysign(max(0.0, abs(difference) - slack), difference)
