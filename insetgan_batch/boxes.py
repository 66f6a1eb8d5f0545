"""Boxes and their arithmetic: pure numbers, no images.

Coordinates are pixels of the image they belong to, x to the right, y down; pixel i covers [i, i +
1).
"""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A rectangle `x0 <= x < x1`, `y0 <= y < y1` in pixels; may be sub-pixel and may leave the
    image.
    """

    x0: float
    y0: float
    x1: float
    y1: float

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

    def as_tuple(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1)."""
        return self.x0, self.y0, self.x1, self.y1

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

    def round(self) -> Box:
        """Corners on whole pixels: the size is rounded first, so that it does not depend on the
        position.
        """
        x0, y0 = math.floor(self.x0 + 0.5), math.floor(self.y0 + 0.5)
        return Box(x0, y0, x0 + _whole(self.width), y0 + _whole(self.height))


def align(canvas_box: Box, inset_box: Box, inset_height: int, inset_width: int) -> Box:
    """The region of the canvas that the whole inset image covers when the two found parts coincide.

    The parts share their size (geometric mean of the two side ratios: less sensitive to a
    detector's noise than either side alone), their horizontal centre and their lower edge, the chin
    (InsetGAN, section 3.3).
    """
    ratio = math.sqrt((canvas_box.width * canvas_box.height) / (inset_box.width * inset_box.height))
    x0 = canvas_box.centre[0] - ratio * inset_box.centre[0]
    y0 = canvas_box.y1 - ratio * inset_box.y1
    return Box(x0, y0, x0 + ratio * inset_width, y0 + ratio * inset_height)


def inside_region(inset_box: Box, region: Box, inset_width: int) -> Box:
    """An inset's box in canvas pixels, given the region that the inset covers."""
    scaled = inset_box.scale(region.width / inset_width)
    return Box(
        region.x0 + scaled.x0, region.y0 + scaled.y0, region.x0 + scaled.x1, region.y0 + scaled.y1
    )


def move(current: Box, target: Box, fraction: float) -> Box:
    """The box on its way to `target`: `fraction` 0 stays, 1 arrives."""
    return Box(
        *(
            a + fraction * (b - a)
            for a, b in zip(current.as_tuple(), target.as_tuple(), strict=True)
        )
    )


def _whole(length: float) -> int:
    return max(1, math.floor(length + 0.5))
