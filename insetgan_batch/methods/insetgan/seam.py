"""How visible the edge of what was pasted is: a measure of results, and a term to move by.

A step across the edge is visible as far as it is larger than the steps beside it: one that
continues the picture's own slope, or is no larger than its texture, is none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.methods.insetgan import images
from insetgan_batch.nets.windows import Crop, Window


def excess(image: Tensor, inside: Tensor) -> Tensor:
    """Mean over the edge's pixels of max(0, step across the edge - mean of the steps just inside
    and just outside), `[n]`, for images `[n 3 h w]` and what was pasted `[n 1 h w]` (booleans).

    Steps are absolute differences, averaged over colours. Edges within two pixels of the image's
    edge have no outside and do not count; 0 where no edge does.
    """
    sides = [_steps(image, inside), _steps(image.mT, inside.mT)]
    totals, counts = zip(*sides, strict=True)
    return torch.stack(totals).sum(0) / torch.stack(counts).sum(0).clamp(min=1)


def _steps(image: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Along the last axis: the sum of the excesses of steps that cross the edge, `[n]`, and the
    number of such steps, `[n]`.
    """
    steps = image.diff(dim=3).abs().mean(dim=1)
    crossings = (inside[:, 0, :, 1:] != inside[:, 0, :, :-1])[:, :, 1:-1]
    added = F.relu(steps[:, :, 1:-1] - (steps[:, :, :-2] + steps[:, :, 2:]) / 2)
    return torch.where(crossings, added, 0).sum(dim=(1, 2)), crossings.sum(dim=(1, 2))


class SeamTerm:
    """`excess` of the composite of canvas and one inset, whichever of them moves.

    It is computed in a window around the region. Other insets are not pasted: where regions
    overlap, the edge is measured without them.
    """

    def __init__(self, region: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> None:
        """region `[n 4|5]` on canvases of `size` (h, w); mask `[n 1 h w]` of insets whose part
        alone will be pasted.
        """
        self._window = Window.around(images.bounds(region).tolist(), size, 1)
        size = (self._window.height, self._window.width)
        region = self._window.boxes(region)
        self._paste = images.Paste(region, size, mask)
        if mask is None:
            self._inside = images.box_mask(region, size) > 0
        else:
            self._inside = images.spread(mask, region, size) > 0.5

    def __call__(self, canvas: Crop, inset: Tensor) -> Tensor:
        """The excess `[n]` of crops of canvases and insets `[n 3 h w]`, in units of -1..1."""
        return excess(self._paste(canvas.crop(self._window), inset), self._inside)
