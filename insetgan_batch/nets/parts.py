"""Which part of one of the demo's people each pixel shows, and what that serves: a detector and a
segmenter of the head and of the pair of shoes.

A picture is resized to a working height first, one for whole people and one for enlarged parts: at
one height for both, either the shoes of a whole person vanish or an enlarged face takes four times
as long.

A box is measured where the middle 96 % of the part's pixels lie along each axis, and then made so
much larger that a rectangle's box would be the rectangle. Stray pixels do not move it, and neither
does the part's place between two pixels; it is the same share of the part in any size, which is
what aligning two boxes needs.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insetgan_batch.boxes import Box
from insetgan_batch.nets import bundled

HEIGHT_OF_CANVAS = 128
HEIGHT_OF_INSET = 64

# What a pixel can show. Skin is that of face, ears and neck, eyes included; hands are clothes.
CLASSES = ("backdrop", "clothes", "skin", "hair", "shoes")
PartName = Literal["head", "shoes"]
MASKED: dict[PartName, tuple[str, ...]] = {"head": ("skin", "hair"), "shoes": ("shoes",)}
# Another's hair says nothing of how large a head is: a box around it, too, doubles the error of
# scale when the head of one person is put onto another.
BOXED: dict[PartName, tuple[str, ...]] = {"head": ("skin",), "shoes": ("shoes",)}

CHANNELS = (16, 24, 32, 48)
_KIND = "parts"
_TAIL = 0.02  # of the part's pixels, left out on each side when its box is measured
# A share of less counts as 0: summed over the whole picture it would weigh as much as a shoe.
_HAZE = 0.1
LEAST_SHARE = 0.002  # of the picture: a part that covers less is not there


class PartsNetwork(nn.Module):
    """A U-Net of plain convolutions. channels: of its levels, each half as high as the last."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.channels = channels
        self.down = nn.ModuleList(
            nn.Sequential(_conv(above, here), _conv(here, here))
            for above, here in itertools.pairwise((3, *channels))
        )
        self.up = nn.ModuleList(
            _conv(below + here, here)
            for here, below in reversed(list(itertools.pairwise(channels)))
        )
        self.classify = nn.Conv2d(channels[0], len(CLASSES), 1)

    @property
    def multiple(self) -> int:
        """Sides of its images are multiples of this."""
        return 1 << (len(self.channels) - 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images `[n 3 h w]` in -1..1 to logits `[n class h w]`."""
        levels: list[Tensor] = []
        for block in self.down:
            levels.append(block(F.max_pool2d(levels[-1], 2) if levels else images))
        x = levels.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), levels.pop()], dim=1))
        logits: Tensor = self.classify(x)
        return logits

    @torch.no_grad()
    def shares(self, images: Tensor, height: int) -> Tensor:
        """How much of each pixel shows what, of bytes `[n H W 3]`: `[n class h w]` in 0..1, sum 1.

        h is `height`, and w keeps the picture's proportion to within half a `multiple`.
        """
        device = self.classify.weight.device
        floats = images.permute(0, 3, 1, 2).float().to(device)
        columns = max(1, round(images.shape[2] * height / images.shape[1] / self.multiple))
        resized = F.interpolate(
            floats, (height, columns * self.multiple), mode="bilinear", antialias=True
        )
        logits: Tensor = self(resized / 127.5 - 1)
        return logits.softmax(dim=1)


class PartDetector:
    """The box of a part: of both shoes together, of a head without its hair."""

    def __init__(self, network: PartsNetwork, part: PartName, *, height: int) -> None:
        """height: the working height, `HEIGHT_OF_CANVAS` or `HEIGHT_OF_INSET`."""
        self._network, self._part, self._height = network, part, height

    def find(self, images: Tensor) -> list[Box | None]:
        """One box, or None, per image of bytes `[n H W 3]`."""
        size = (images.shape[1], images.shape[2])
        shares = _without_haze(self._network.shares(images, self._height), BOXED[self._part])
        return [box_of_shares(share, size) for share in shares[:, 0].cpu().numpy()]


class PartSegmenter:
    """The soft mask of a part in enlarged pictures of it, without holes."""

    def __init__(self, network: PartsNetwork, part: PartName) -> None:
        self._network, self._part = network, part

    def mask(self, images: Tensor) -> Tensor:
        """The part's share of each pixel of bytes `[n H W 3]`: `[n 1 H W]` in 0..1."""
        size = (images.shape[1], images.shape[2])
        share = _without_haze(self._network.shares(images, HEIGHT_OF_INSET), MASKED[self._part])
        return F.interpolate(fill_holes(share), size, mode="bilinear")


def box_of_shares(share: np.ndarray, size: tuple[int, int]) -> Box | None:
    """The box of a part that covers so much of each pixel `[h w]`, in an image of `size` (h, w);
    None where it covers nearly nothing.
    """
    if share.mean() < LEAST_SHARE:
        return None
    (x0, x1), (y0, y1) = _extent(share.sum(0)), _extent(share.sum(1))
    scale_y, scale_x = size[0] / share.shape[0], size[1] / share.shape[1]
    return Box(x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y)


def fill_holes(mask: Tensor) -> Tensor:
    """A soft mask `[n 1 h w]` with its holes filled (greyscale fill by reconstruction).

    Each pixel gets the least value over all paths to the border of the largest mask value on the
    path: a dark spot that is enclosed becomes as bright as the darkest gap in what encloses it.
    """
    level = torch.ones_like(mask)
    level[:, :, 0], level[:, :, -1] = mask[:, :, 0], mask[:, :, -1]
    level[..., 0], level[..., -1] = mask[..., 0], mask[..., -1]
    for _ in range(mask.shape[2] * mask.shape[3]):  # no way in is longer
        lowest_around = -F.max_pool2d(-level, 3, stride=1, padding=1)
        fallen = torch.maximum(lowest_around, mask)
        if torch.equal(fallen, level):
            break
        level = fallen
    return level


def load(path: Path, device: torch.device) -> PartsNetwork:
    """Read a network that `save` wrote, frozen; raises `CheckpointError` for anything else."""
    return bundled.load(path, _KIND, _build, device)


def save(path: Path, network: PartsNetwork, about: dict[str, Any]) -> None:
    """Write a network with where it comes from; never half a file."""
    bundled.save(path, _KIND, network, {"channels": network.channels}, about)


def _build(header: dict[str, Any]) -> PartsNetwork:
    channels = header["channels"]
    if not (isinstance(channels, list) and 1 < len(channels) < 8):
        raise ValueError(f"channels {channels!r:.60}, expected 2 to 7 numbers")
    if not all(type(c) is int and 0 < c < 4096 for c in channels):
        raise ValueError(f"channels {channels!r:.60}, expected numbers in 1..4095")
    return PartsNetwork(tuple(channels))


def _conv(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU())


def _without_haze(shares: Tensor, classes: tuple[str, ...]) -> Tensor:
    """The share `[n 1 h w]` of some classes together, exactly 0 or 1 where the network is nearly
    sure.
    """
    rows = [CLASSES.index(name) for name in classes]
    share = shares[:, rows].sum(dim=1, keepdim=True)
    return ((share - _HAZE) / (1 - 2 * _HAZE)).clamp(0, 1)


def _extent(mass: np.ndarray) -> tuple[float, float]:
    """From where to where along an axis the part reaches that has so much of each pixel `[n]`."""
    cumulated = np.concatenate([[0.0], np.cumsum(mass, dtype=np.float64)])
    tails = np.array([_TAIL, 1 - _TAIL]) * cumulated[-1]
    low, high = np.interp(tails, cumulated, np.arange(len(cumulated)))
    tail = (high - low) * _TAIL / (1 - 2 * _TAIL)
    return float(low - tail), float(high + tail)
