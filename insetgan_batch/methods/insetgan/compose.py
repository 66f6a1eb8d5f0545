"""The final image, and the numbers that say how good its seam is.

A box is pasted with a hard edge: the optimisation has to make the seam vanish, not a blur. A part
that was cut out along a mask has the mask's soft edge.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import images
from insetgan_batch.methods.insetgan.seam import excess

_LEVELS_PER_UNIT = 127.5  # images are in -1..1, the seam is told in levels of 0..255


def compose(
    canvas: Tensor,
    insets: Mapping[str, Tensor],
    regions: Mapping[str, Box],
    masks: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The canvas `[3 H W]` with every inset `[3 h w]` pasted onto its region, in the order given.

    regions: in canvas pixels. masks `[1 h w]`, 0..1: the opacity of insets that have one.
    """
    result = canvas[None]
    for name, inset in insets.items():
        mask = masks[name][None] if masks and name in masks else None
        result = images.paste(result, inset[None], _tensor(regions[name], canvas), mask)
    return result[0]


def seam(image: Tensor, region: Box, mask: Tensor | None = None) -> float:
    """How visible the edge of a region, or of the part `[1 h w]` in it, is in an image `[3 H W]`:
    levels of 0..255, 0 for no seam.

    `excess` of the image: a step that continues the picture's own slope is none.
    """
    size, box = (image.shape[1], image.shape[2]), _tensor(region, image)
    pasted = images.box_mask(box, size) if mask is None else images.spread(mask[None], box, size)
    return float(excess(image[None], pasted > 0.5)) * _LEVELS_PER_UNIT


def _tensor(box: Box, like: Tensor) -> Tensor:
    return like.new_tensor([box.as_tuple()])
