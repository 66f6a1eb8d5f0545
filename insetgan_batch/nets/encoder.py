"""An image → latents that nearly paint it: where an inversion starts.

`EncoderNetwork` is our own small one, for the demo's generators: plain convolutions down to 4x4,
then one w for the whole picture and an offset for each layer, as e4e has it (Tov et al. 2021,
section 4). Encoders of e4e and pSp are in `foreign/psp.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insetgan_batch.nets import bundled
from insetgan_batch.nets.foreign import psp

KIND = "encoder"
CHANNELS = (24, 48, 96, 128, 192)
_GROUPS = 8
_FEATURES = 384
_LAST_SIDE = 4

_SAFETENSORS_ENDING = ".safetensors"


class Encoder(Protocol):
    """Finds latents for images. num_ws, w_dim: of the generator that it was trained for."""

    num_ws: int
    w_dim: int

    def encode(self, images: Tensor) -> Tensor:
        """Latents `[n 1+l c]` (w, then the offset of each layer) of images `[n 3 H W]` in -1..1."""
        ...


class EncoderNetwork(nn.Module):
    """Convolutions of stride 2, a dense layer, then w and the offsets in units of the generator's
    own spread.

    channels: of its levels; images are `4 * 2**len(channels)` pixels high and wide.
    """

    w_avg: Tensor
    w_std: Tensor

    def __init__(self, num_ws: int, w_dim: int, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.num_ws, self.w_dim, self.channels = num_ws, w_dim, channels
        self.size = _LAST_SIDE << len(channels)
        self.levels = nn.Sequential()
        before = 3
        for width in channels:
            self.levels.append(nn.Conv2d(before, width, 3, stride=2, padding=1))
            self.levels.append(nn.GroupNorm(_GROUPS, width))
            self.levels.append(nn.LeakyReLU(0.1))
            self.levels.append(nn.Conv2d(width, width, 3, padding=1))
            self.levels.append(nn.LeakyReLU(0.1))
            before = width
        self.features = nn.Linear(before * _LAST_SIDE**2, _FEATURES)
        self.to_w = nn.Linear(_FEATURES, w_dim)
        self.to_offsets = nn.Linear(_FEATURES, num_ws * w_dim)
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.register_buffer("w_std", torch.ones(w_dim))

    def forward(self, images: Tensor) -> Tensor:
        """Latents `[n 1+l c]` of images `[n 3 size size]` in -1..1."""
        x = F.leaky_relu(self.features(self.levels(images).flatten(1)), 0.1)
        w = self.w_avg + self.w_std * self.to_w(x)
        offsets = self.w_std * self.to_offsets(x).view(-1, self.num_ws, self.w_dim)
        return torch.cat([w[:, None], offsets], dim=1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents `[n 1+l c]` of images `[n 3 H W]` in -1..1, of any size."""
        if images.shape[2:] != (self.size, self.size):
            size = (self.size, self.size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        latents: Tensor = self(images)
        return latents


def load(path: Path, device: torch.device) -> Encoder:
    """Read an encoder that `save` wrote, or, from any file but safetensors, one of e4e or pSp.

    Frozen. Raises `CheckpointError` for anything else.
    """
    if path.suffix == _SAFETENSORS_ENDING:
        return bundled.load(path, KIND, _build, device)
    return psp.load(path, device)


def save(path: Path, network: EncoderNetwork, about: dict[str, Any]) -> None:
    """Write an encoder with where it comes from; never half a file."""
    fields = {"num_ws": network.num_ws, "w_dim": network.w_dim, "channels": network.channels}
    bundled.save(path, KIND, network, fields, about)


def _build(header: dict[str, Any]) -> EncoderNetwork:
    num_ws, w_dim, channels = header["num_ws"], header["w_dim"], header["channels"]
    if not (isinstance(channels, list) and 0 < len(channels) < 9):
        raise ValueError(f"channels {channels!r:.60}, expected 1 to 8 numbers")
    for number in (num_ws, w_dim, *channels):
        if not (type(number) is int and 0 < number < 4096):
            raise ValueError(f"found {number!r:.60}, expected a number in 1..4095")
    if any(width % _GROUPS for width in channels):
        raise ValueError(f"channels {channels}, expected multiples of {_GROUPS}")
    return EncoderNetwork(num_ws, w_dim, tuple(channels))
