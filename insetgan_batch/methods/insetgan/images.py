"""Differentiable arithmetic on images: sub-pixel crops, downsampling, masks, pasting.

Images are float `[n 3 H W]`, nominally in -1..1; boxes are tensors `[n 4]` (x0, y0, x1, y1) in
pixels of the image they belong to, or `[n 5]` with the angle by which each is turned about its
centre; they may leave the image. Everything treats the images of a batch one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.boxes import Box


class Resampler:
    """`resample` for boxes that stay the same, for image after image.

    The grids of sample positions are computed once for each size of images, and a step waits for no
    number from the device.
    """

    def __init__(self, boxes: Tensor, size: tuple[int, int]) -> None:
        """boxes `[n 4|5]`, in pixels of the images; size: (h, w) of the crops."""
        self._boxes, self._size = boxes, size
        self._factors = _samples_per_pixel(boxes, size)
        self._grids: dict[tuple[int, int], list[Tensor]] = {}

    def __call__(self, image: Tensor) -> Tensor:
        """Crops `[n c h w]` of images `[n c H W]`."""
        size = (image.shape[2], image.shape[3])
        if size not in self._grids:
            self._grids[size] = self._grids_in(size)
        grids = self._grids[size]
        if len(grids) == 1:
            return _sampled(image, grids[0], self._factors[0])
        pieces = zip(image, grids, self._factors, strict=True)
        return torch.cat([_sampled(own[None], grid, factor) for own, grid, factor in pieces])

    def _grids_in(self, image_size: tuple[int, int]) -> list[Tensor]:
        """One grid for all images, or one for each if they differ in samples per pixel: the samples
        of an item must not depend on its neighbours.
        """
        if len(set(self._factors)) == 1:
            return [_grid(self._boxes, self._size, self._factors[0], image_size)]
        pairs = zip(self._boxes, self._factors, strict=True)
        return [_grid(box[None], self._size, factor, image_size) for box, factor in pairs]


def resample(image: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop `boxes` out of `image` `[n c H W]` and bring them to `size` (h, w): `[n c h w]`.

    Bilinear samples, averaged over as many per output pixel as it covers of the input, so that
    shrinking does not alias. Outside of the image its border is repeated. Differentiable in the
    image.
    """
    return Resampler(boxes, size)(image)


def _grid(boxes: Tensor, size: tuple[int, int], factor: int, image_size: tuple[int, int]) -> Tensor:
    """The positions of `factor` samples on each axis of every pixel, in `grid_sample`'s -1..1."""
    height, width = size
    xs = _sample_positions(boxes[:, 0], boxes[:, 2], width * factor)[:, None, :]
    ys = _sample_positions(boxes[:, 1], boxes[:, 3], height * factor)[:, :, None]
    if _is_turned(boxes):
        xs, ys = _turned(boxes, xs, ys, 1)
    return torch.stack(
        [
            (xs * (2 / image_size[1]) - 1).expand(-1, height * factor, -1),
            (ys * (2 / image_size[0]) - 1).expand(-1, -1, width * factor),
        ],
        dim=-1,
    )


def _sampled(image: Tensor, grid: Tensor, factor: int) -> Tensor:
    sampled = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return sampled if factor == 1 else F.avg_pool2d(sampled, factor)


def downsample(image: Tensor, size: int) -> Tensor:
    """Bring `[n c H W]` to a height of `size` by averaging areas; smaller images are left alone."""
    height, width = image.shape[2:]
    if height <= size:
        return image
    return F.interpolate(image, (size, max(1, round(width * size / height))), mode="area")


def box_mask(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """1 where a pixel's centre is inside the box, else 0: `[n 1 h w]` for boxes `[n 4]`."""
    height, width = size
    x = torch.arange(width, device=boxes.device, dtype=boxes.dtype)[None, None, :] + 0.5
    y = torch.arange(height, device=boxes.device, dtype=boxes.dtype)[None, :, None] + 0.5
    if _is_turned(boxes):
        x, y = _turned(boxes, x, y, -1)
    x0, y0, x1, y1 = (edge[:, None, None] for edge in boxes[:, :4].unbind(dim=1))
    return ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).to(boxes.dtype)[:, None]


def bounds(boxes: Tensor) -> Tensor:
    """Upright boxes `[n 4]` of all pixels that `resample` and `seam.excess` read for boxes
    `[n 4|5]`: their corners and 3 pixels more on every side (`resample` reads 1, `excess` 3).
    """
    x0, y0, x1, y1 = boxes[:, :4].unbind(dim=1)
    xs, ys = torch.stack([x0, x1, x0, x1], 1)[:, None], torch.stack([y0, y0, y1, y1], 1)[:, None]
    if _is_turned(boxes):
        xs, ys = _turned(boxes, xs, ys, 1)
    corners = torch.stack([xs.amin(2), ys.amin(2), xs.amax(2), ys.amax(2)], dim=-1)[:, 0]
    return corners + corners.new_tensor([-3.0, -3.0, 3.0, 3.0])


def border_width(size: int) -> int:
    """The border of a region that is `size` pixels high: 8 of 256 (InsetGAN, E8), at least 2
    pixels.
    """
    return max(2, round(size * 8 / 256))


def border_mask(size: int) -> Tensor:
    """1 on the border ring of a square of `size` pixels: `[1 1 size size]`."""
    ring = torch.ones(1, 1, size, size)
    inner = border_width(size)
    ring[:, :, inner:-inner, inner:-inner] = 0
    return ring


def dilate(mask: Tensor, pixels: int) -> Tensor:
    """A mask `[n 1 h w]` grown by so many pixels on every side; shrunk where negative."""
    if pixels < 0:
        return 1 - dilate(1 - mask, -pixels)
    return F.max_pool2d(mask, 2 * pixels + 1, stride=1, padding=pixels) if pixels else mask


def ring_of(mask: Tensor) -> Tensor:
    """The border of a part `[n 1 r r]`: as wide as that of a box, half of it on either side of the
    part's edge.
    """
    half = max(1, border_width(mask.shape[2]) // 2)
    return dilate(mask, half) - dilate(mask, -half)


def spread(mask: Tensor, regions: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of insets `[n 1 h w]` on their regions of the canvas, 0 elsewhere: `[n 1 H W]`."""
    frames = frame_in_crop(size, regions, (mask.shape[2], mask.shape[3]))
    return resample(mask, frames, size) * box_mask(regions, size)


def frame_in_crop(size: tuple[int, int], boxes: Tensor, crop_size: tuple[int, int]) -> Tensor:
    """The frame of a whole image of `size` (h, w) in the pixels of crops `boxes [n 4|5]` of
    `crop_size`: `[n 4|5]`.
    """
    scale_x = crop_size[1] / (boxes[:, 2] - boxes[:, 0])
    scale_y = crop_size[0] / (boxes[:, 3] - boxes[:, 1])
    if _is_turned(boxes):
        return _turned_frame(size, boxes, scale_x, scale_y)
    return torch.stack(
        [
            -boxes[:, 0] * scale_x,
            -boxes[:, 1] * scale_y,
            (size[1] - boxes[:, 0]) * scale_x,
            (size[0] - boxes[:, 1]) * scale_y,
        ],
        dim=1,
    )


class Paste:
    """`paste` for regions that stay the same.

    Masks are computed once, grids of sample positions once for each size of insets.
    """

    def __init__(self, regions: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> None:
        """regions `[n 4|5]` in canvas pixels; size: (h, w) of canvases; mask `[n 1 h w]`."""
        self._regions, self._size = regions, size
        self._resamplers: dict[tuple[int, int], Resampler] = {}
        if mask is None:
            self._inside, self._share = box_mask(regions, size) > 0, None
        else:
            self._share = spread(mask, regions, size)

    def __call__(self, canvas: Tensor, inset: Tensor) -> Tensor:
        """Composites `[n 3 H W]` of canvases `[n 3 H W]` and insets `[n 3 h w]`."""
        inset_size = (inset.shape[2], inset.shape[3])
        if inset_size not in self._resamplers:
            frames = frame_in_crop(self._size, self._regions, inset_size)
            self._resamplers[inset_size] = Resampler(frames, self._size)
        pasted = self._resamplers[inset_size](inset)
        if self._share is None:
            return torch.where(self._inside, pasted, canvas)
        return torch.lerp(canvas, pasted, self._share)


def paste(canvas: Tensor, inset: Tensor, regions: Tensor, mask: Tensor | None = None) -> Tensor:
    """Put the inset onto its region of the canvas: `[n 3 H W]`.

    The whole inset with a hard edge: a canvas pixel is replaced when its centre lies inside the
    region `[n 4]` (canvas pixels). With a mask of the inset `[n 1 h w]` the part alone, as opaque
    as the mask.
    """
    return Paste(regions, (canvas.shape[2], canvas.shape[3]), mask)(canvas, inset)


def boxes_as_tensor(items: Sequence[Box], like: Tensor) -> Tensor:
    """Boxes as `[n 5]` (x0, y0, x1, y1, angle), on the device and in the type of `like`."""
    rows = [(box.x0, box.y0, box.x1, box.y1, box.angle) for box in items]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def to_pixels(image: Tensor) -> Tensor:
    """-1..1 `[n 3 H W]` to bytes 0..255 `[n H W 3]`, clamped."""
    return (image.clamp(-1, 1) + 1).mul(127.5).round().byte().permute(0, 2, 3, 1)


def from_pixels(pixels: Tensor) -> Tensor:
    """Bytes `[n H W 3]` to -1..1 `[n 3 H W]`."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def _is_turned(boxes: Tensor) -> bool:
    return boxes.shape[1] == 5 and bool((boxes[:, 4] != 0).any())


def _turned(boxes: Tensor, x: Tensor, y: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Points `[n h w]` turned about the centres of the boxes, by their angles times `sign`."""
    x0, y0, x1, y1, angle = (column[:, None, None] for column in boxes.unbind(dim=1))
    cos, sin = angle.cos(), sign * angle.sin()
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    dx, dy = x - centre_x, y - centre_y
    return centre_x + cos * dx - sin * dy, centre_y + sin * dx + cos * dy


def _turned_frame(size: tuple[int, int], boxes: Tensor, scale_x: Tensor, scale_y: Tensor) -> Tensor:
    """`frame_in_crop` of boxes that are turned, which have the same scale on both axes: `[n 5]`."""
    middle = (
        torch.full_like(boxes[:, :1, None], size[1] / 2),
        boxes.new_full((len(boxes), 1, 1), size[0] / 2),
    )
    x, y = (point[:, 0, 0] for point in _turned(boxes, *middle, -1))
    x, y = (x - boxes[:, 0]) * scale_x, (y - boxes[:, 1]) * scale_y
    dx, dy = size[1] / 2 * scale_x, size[0] / 2 * scale_y
    return torch.stack([x - dx, y - dy, x + dx, y + dy, -boxes[:, 4]], dim=1)


def _samples_per_pixel(boxes: Tensor, size: tuple[int, int]) -> list[int]:
    """By box: the samples per output pixel on each axis, its larger shrinking factor rounded up."""
    height, width = size
    return [
        max(1, math.ceil(max((x1 - x0) / width, (y1 - y0) / height) - 1e-4))
        for x0, y0, x1, y1 in boxes[:, :4].tolist()
    ]


def _sample_positions(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Centres of `count` equal cells between low and high `[n]`: `[n count]` in pixels."""
    cells = (torch.arange(count, device=low.device, dtype=low.dtype) + 0.5) / count
    return low[:, None] + cells * (high - low)[:, None]
