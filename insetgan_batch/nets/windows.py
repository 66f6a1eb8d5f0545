"""Windows into images and feature maps: rectangles of one size, each image's at its own place.

Layers at high resolution are most of a generator's cost, and losses read little of what they
compute. In a window they compute the very pixels of the full image, if the features of the lower
resolution are cropped to that window and `MARGIN_PX` more on every side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

# In pixels of the lower resolution. Where a crop ends inside the image, neighbours are missing, and
# a block's pixels along that edge are wrong: two of the higher resolution by the upsampling
# convolution, a third by the other one, and two for each pixel that was wrong before.
MARGIN_PX = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """Rows `top` to `top + height` and columns `left` to `left + width` of every image, in pixels.

    corners: (top, left) for each image of the batch.
    """

    corners: tuple[tuple[int, int], ...]
    height: int
    width: int

    @classmethod
    def whole(cls, images: int, size: tuple[int, int]) -> Window:
        """The window of all pixels of so many images of `size` (h, w)."""
        return cls(((0, 0),) * images, *size)

    @classmethod
    def around(cls, boxes: Sequence[tuple[float, ...]], size: tuple[int, int], step: int) -> Window:
        """The smallest window that holds every image's box (x0, y0, x1, y1), on a grid of `step`
        pixels.

        A box that leaves the image of `size` (h, w, multiples of the step) counts as far as it is
        inside, with the pixels of the edge nearest to it.
        """
        columns = [_steps(x0, x1, size[1], step) for x0, _, x1, _ in boxes]
        rows = [_steps(y0, y1, size[0], step) for _, y0, _, y1 in boxes]
        height, width = (max(last - first for first, last in spans) for spans in (rows, columns))
        corners = (
            (
                step * min(top, size[0] // step - height),
                step * min(left, size[1] // step - width),
            )
            for (top, _), (left, _) in zip(rows, columns, strict=True)
        )
        return cls(tuple(corners), step * height, step * width)

    def scaled_up(self, factor: int) -> Window:
        """The same window in images that are `factor` times as large."""
        corners = tuple((factor * top, factor * left) for top, left in self.corners)
        return Window(corners, factor * self.height, factor * self.width)

    def scaled_down(self, factor: int) -> Window:
        """The same place in images that are `factor` times smaller; corners and size are multiples
        of it.
        """
        corners = tuple((top // factor, left // factor) for top, left in self.corners)
        return Window(corners, self.height // factor, self.width // factor)

    def with_margin(self, size: tuple[int, int]) -> Window:
        """The window `MARGIN_PX` larger on every side, as far as images of `size` (h, w) reach."""
        height, width = (
            min(own + 2 * MARGIN_PX, most)
            for own, most in zip((self.height, self.width), size, strict=True)
        )
        corners = (
            (
                min(max(top - MARGIN_PX, 0), size[0] - height),
                min(max(left - MARGIN_PX, 0), size[1] - width),
            )
            for top, left in self.corners
        )
        return Window(tuple(corners), height, width)

    def within(self, outer: Window) -> Window:
        """The same window in the pixels of the crop of `outer`."""
        corners = (
            (top - outer_top, left - outer_left)
            for (top, left), (outer_top, outer_left) in zip(
                self.corners, outer.corners, strict=True
            )
        )
        return Window(tuple(corners), self.height, self.width)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes `[n 4|5]` in pixels of the whole images, in pixels of the crops."""
        corners = boxes.new_tensor([[left, top] * 2 for top, left in self.corners])
        return torch.cat([boxes[:, :4] - corners, boxes[:, 4:]], dim=1)

    def crop(self, x: Tensor) -> Tensor:
        """Crops `[n c h w]` of images `[n c H W]`, or of one image `[1 c H W]` for all windows."""
        if x.shape[2:] == (self.height, self.width):
            return x
        x = x.expand(len(self.corners), -1, -1, -1)
        # Image by image, so that what a piece passes back is as large as its image, not the batch.
        pieces = [
            image[:, :, top : top + self.height, left : left + self.width]
            for image, (top, left) in zip(torch.split(x, 1), self.corners, strict=True)
        ]
        return torch.cat(pieces)


@dataclasses.dataclass(frozen=True, slots=True)
class Crop:
    """The pixels `[n c h w]` of images in a window."""

    window: Window
    pixels: Tensor

    @classmethod
    def whole(cls, images: Tensor) -> Crop:
        """The crop of all pixels of images `[n c H W]`."""
        return cls(Window.whole(len(images), (images.shape[2], images.shape[3])), images)

    def crop(self, window: Window) -> Tensor:
        """The pixels `[n c h w]` of a window within this one's."""
        return window.within(self.window).crop(self.pixels)


def _steps(low: float, high: float, size: int, step: int) -> tuple[int, int]:
    """The steps of a grid that cover low to high: the first, and the one after the last."""
    first = min(max(int(low // step), 0), size // step - 1)
    last = min(max(int(-(-high // step)), first + 1), size // step)
    return first, last
