"""What pictures are put through before a network learns from them: every amount is drawn anew."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(random: torch.Generator, low: float, high: float, n: int, channels: int) -> Tensor:
    """`[n channels 1 1]`, evenly between low and high."""
    return low + (high - low) * torch.rand(n, channels, 1, 1, generator=random)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Each image `[n c h w]` blurred by its own sigma `[n 1 1 1]`, in pixels."""
    n, c, h, w = images.shape
    at = torch.arange(-4, 5)
    kernels = torch.exp(-(at**2) / (2 * sigma.clamp(min=0.1)[:, 0, 0] ** 2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(c, dim=0)
    rows = F.pad(images.reshape(1, n * c, h, w), (4, 4, 4, 4), mode="replicate")
    rows = F.conv2d(rows, kernels[:, None, :, None], groups=n * c)
    return F.conv2d(rows, kernels[:, None, None, :], groups=n * c).reshape(n, c, h, w)
