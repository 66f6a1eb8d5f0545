"""The final image, and the numbers that say how good its seam is.

A box is pasted with a hard edge: the optimisation has to make the seam vanish, not a blur. A part
that was cut out along a mask has the mask's soft edge.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.inset import images

_LEVELS_PER_UNIT = 127.5  # images are in -1..1, the seam is told in levels of 0..255


def compose(
    canvas: Tensor,
    insets: Mapping[str, Tensor],
    regions: Mapping[str, Box],
    masks: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Paste every inset `[3 h w]` onto its region of the canvas `[3 H W]`, in the order given;
    those with a mask `[1 h w]` as far as it goes.
    """
    result = canvas[None]
    for name, inset in insets.items():
        mask = masks[name][None] if masks and name in masks else None
        result = images.paste(result, inset[None], _tensor(regions[name], canvas), mask)
    return result[0]


def seam(image: Tensor, region: Box, mask: Tensor | None = None) -> float:
    """How visible the edge of a region, or of the part `[1 h w]` in it, is in an image `[3 H W]`:
    levels of 0..255, 0 for no seam.

    Mean over the edge's pixels of max(0, step across the edge - mean of the steps just inside and
    just outside): a step that continues the picture's own slope is none. Steps are absolute
    differences, averaged over colours. Edges within two pixels of the image's edge have no outside
    and do not count.
    """
    size, box = (image.shape[1], image.shape[2]), _tensor(region, image)
    pasted = images.box_mask(box, size) if mask is None else images.spread(mask[None], box, size)
    inside = pasted[0, 0] > 0.5
    sides = [_excess_steps(image, inside), _excess_steps(image.transpose(1, 2), inside.T)]
    return float(torch.cat(sides).mean()) * _LEVELS_PER_UNIT if len(torch.cat(sides)) else 0.0


def _tensor(box: Box, like: Tensor) -> Tensor:
    return like.new_tensor([box.as_tuple()])


def _excess_steps(image: Tensor, inside: Tensor) -> Tensor:
    """What the steps along the last axis of `[3 n m]` add where they cross the edge of `inside`
    `[n m]`: one number for each crossing.
    """
    steps = image.diff(dim=2).abs().mean(dim=0)
    crossings = (inside[:, 1:] != inside[:, :-1])[:, 1:-1]
    excess = F.relu(steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2)
    return excess[crossings]
