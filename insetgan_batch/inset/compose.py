"""The final image, and the numbers that say how good its seam is.

The inset is pasted with a hard edge: the optimisation has to make the seam vanish, not a blur.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.inset import images

_LEVELS_PER_UNIT = 127.5  # images are in -1..1, the seam is told in levels of 0..255


def compose(canvas: Tensor, insets: dict[str, Tensor], regions: dict[str, Box]) -> Tensor:
    """Paste every inset `[3 h w]` onto its region of the canvas `[3 H W]`, in the order given."""
    result = canvas[None]
    for name, inset in insets.items():
        region = torch.tensor([regions[name].as_tuple()], device=canvas.device)
        result = images.paste(result, inset[None], region)
    return result[0]


def seam(image: Tensor, region: Box) -> float:
    """How visible the edge of a region is in an image `[3 H W]`: levels of 0..255, 0 for no seam.

    Mean over the edge's pixels of max(0, step across the edge - mean of the steps just inside and
    just outside): a step that continues the picture's own slope is none. Steps are absolute
    differences, averaged over colours. Sides within two pixels of the image's edge have no outside
    and do not count.
    """
    x0, y0, x1, y1 = _pixel_edges(region, image.shape[1], image.shape[2])
    across_x = image[:, y0:y1]
    across_y = image[:, :, x0:x1].transpose(1, 2)
    sides = [
        _excess_steps(strip, edge)
        for strip, edge in ((across_x, x0), (across_x, x1), (across_y, y0), (across_y, y1))
        if 2 <= edge <= strip.shape[2] - 2
    ]
    return float(torch.cat(sides).mean()) * _LEVELS_PER_UNIT if sides else 0.0


def _pixel_edges(region: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """The pixels whose centres lie inside the region, as whole numbers: first and one past the
    last.
    """
    mask = images.box_mask(torch.tensor([region.as_tuple()]), (height, width))[0, 0]
    ys, xs = mask.amax(dim=1).nonzero().flatten(), mask.amax(dim=0).nonzero().flatten()
    if not len(ys) or not len(xs):
        return 0, 0, 0, 0
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def _excess_steps(strip: Tensor, edge: int) -> Tensor:
    """What the step between pixels `edge - 1` and `edge`, along the last axis of `[3 n m]`, adds:
    `[n]`.
    """
    steps = strip[:, :, edge - 2 : edge + 2].diff(dim=2).abs().mean(dim=0)
    return F.relu(steps[:, 1] - (steps[:, 0] + steps[:, 2]) / 2)
