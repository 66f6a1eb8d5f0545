"""The losses of InsetGAN (section 3.3): coarse, border, body, face, latent. One pure function each,
one value per item.

Every image term is "sum over the mask / area of the mask", so that a weight means the same for any
size of region or canvas. Images are `[n 3 h w]` in -1..1, masks `[n|1 1 h w]` in 0..1. L1 is
measured in that range.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# One level of 0..255. Below it L1 is rounded off to a parabola: an item that starts at its own
# reference has differences of 1e-6, whose signs depend on the size of the batch, and the gradient
# of a plain L1 would be nothing but these signs.
_LEVEL = 1 / 127.5


def masked_l1(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference under the mask, `[n]`; 0 where the mask is empty.

    Differences above one level of 0..255 count half a level less, smaller ones quadratically.
    """
    difference = F.smooth_l1_loss(image, target, reduction="none", beta=_LEVEL)
    difference = difference.mean(dim=1, keepdim=True) * mask
    area = mask.expand_as(difference).sum(dim=(1, 2, 3))
    return difference.sum(dim=(1, 2, 3)) / area.clamp(min=1.0)


def masked_l2(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference under the mask, `[n]`; 0 where the mask is empty."""
    difference = (image - target).square().mean(dim=1, keepdim=True) * mask
    area = mask.expand_as(difference).sum(dim=(1, 2, 3))
    return difference.sum(dim=(1, 2, 3)) / area.clamp(min=1.0)


def distance_to_average(w: Tensor, w_avg: Tensor) -> Tensor:
    """Mean square of `w - w_avg`, `[n]`, for w `[n c]` (the paper's first regulariser)."""
    return (w - w_avg).square().mean(dim=1)


def size_of_deltas(delta: Tensor) -> Tensor:
    """Mean square of the per-layer offsets, `[n]`, for delta `[n l c]` (the paper's second
    regulariser).
    """
    return delta.square().mean(dim=(1, 2))
