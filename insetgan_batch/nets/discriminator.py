"""StyleGAN2's discriminator: an image of any base height x width to a score.

Written from the equations of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(2020), section 4.1 and figure 7 (`skip`, `resnet`, `orig`), and of the progressive GAN (Karras et
al. 2018, section 3) for the deviation over a batch.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insetgan_batch.nets.layers import (
    ACTIVATION_GAIN,
    EPS,
    LEAKY_SLOPE,
    RESIDUAL_GAIN,
    Dense,
    blur_kernel,
)
from insetgan_batch.nets.stylegan2 import normalise

Kind = Literal["resnet", "skip", "orig"]


@dataclasses.dataclass(frozen=True, slots=True)
class DiscriminatorArchitecture:
    """Everything that fixes the shapes and the arithmetic of a discriminator.

    base, channels: as the generator's, from the base upwards. kind: how colours enter. c_dim:
    number of classes, 0 for none. deviation_group: images whose deviation is one more channel at
    the base; a batch is whole groups of so many, or one smaller group. conv_clamp: as the
    generator's. mapping_layers: of labels.
    """

    base: tuple[int, int]
    channels: tuple[int, ...]
    kind: Kind = "resnet"
    image_channels: int = 3
    c_dim: int = 0
    deviation_group: int = 4
    conv_clamp: float | None = None
    mapping_layers: int = 8

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return tuple(side << (len(self.channels) - 1) for side in self.base)  # type: ignore[return-value]


class Discriminator(nn.Module):
    """Images `[n 3 H W]`, nominally in -1..1, to scores `[n]`: above 0 where they look real."""

    def __init__(self, architecture: DiscriminatorArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        base, channels = architecture.base, architecture.channels
        self.blocks = [f"b{base[0] << i}" for i in range(len(channels) - 1, 0, -1)]
        for i, name in zip(range(len(channels) - 1, 0, -1), self.blocks, strict=True):
            is_first = i == len(channels) - 1
            self.add_module(name, _Block(architecture, channels[i], channels[i - 1], is_first))
        self.mapping = _LabelMapping(architecture, channels[0]) if architecture.c_dim else None
        self.add_module(f"b{base[0]}", _Epilogue(architecture))
        self._last = f"b{base[0]}"

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Score images; label: one-hot `[n c]` where there are classes, else a `ValueError`."""
        if (label is None) != (self.mapping is None):
            raise ValueError("give a label where there are classes, and only there")
        x: Tensor | None = None
        picture: Tensor | None = image
        for name in self.blocks:
            x, picture = self.get_submodule(name)(x, picture)
        mapped = None if self.mapping is None else self.mapping(label)
        scores: Tensor = self.get_submodule(self._last)(x, picture, mapped)
        return scores

    def layers_from_image(self) -> list[nn.Module]:
        """Its layers from the image on, in the order in which freezing takes them."""
        found: list[nn.Module] = []
        for name in self.blocks:
            block = self.get_submodule(name)
            assert isinstance(block, _Block)
            found += [layer for layer in (block.fromrgb, block.conv0, block.conv1) if layer]
            found += [block.skip] if block.skip else []
        return found

    def freeze_layers(self, layers: int) -> None:
        """Let so many layers keep their weights, from the image on (Freeze-D, Mo et al. 2020)."""
        for layer in self.layers_from_image()[:layers]:
            layer.requires_grad_(False)


class _Conv(nn.Module):
    """A convolution with equalised learning rate, leaky ReLU or none, that may halve the size."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        side: int,
        *,
        down: bool = False,
        linear: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, side, side))
        self.bias = None if linear else nn.Parameter(torch.zeros(channels_out))
        self.gain = 1.0 / math.sqrt(channels_in * side**2)
        self.side, self.is_linear, self.clamp = side, linear, clamp
        self.down = _Down(channels_in, side) if down else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """`[n i h w]` to `[n o h w]`, or half as high and wide; times a gain."""
        weight = self.weight * self.gain
        if self.down is None:
            x = F.conv2d(x, weight, self.bias, padding=self.side // 2)
        elif self.side == 1:  # every second pixel of what is blurred
            x = F.conv2d(self.down(x), weight, self.bias)
        else:
            x = F.conv2d(self.down(x), weight, self.bias, stride=2)
        if self.is_linear:
            return x * gain
        x = F.leaky_relu(x, LEAKY_SLOPE) * (ACTIVATION_GAIN * gain)
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)


class _Down(nn.Module):
    """The [1 3 3 1] filter before a convolution that halves: of a 1x1 one it takes the stride."""

    kernel: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.stride, self.padding = (2, 1) if side == 1 else (1, 2)
        kernel = blur_kernel().expand(channels, 1, 4, 4).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[n c h w]` to `[n c h/2 w/2]`, or to `[n c h+1 w+1]` before a 3x3 convolution."""
        kernel = self.kernel.to(x.dtype)
        return F.conv2d(x, kernel, stride=self.stride, padding=self.padding, groups=x.shape[1])


class _Block(nn.Module):
    """One resolution: two convolutions, the second halves; a residual path in `resnet`."""

    def __init__(
        self,
        architecture: DiscriminatorArchitecture,
        channels_in: int,
        channels_out: int,
        is_first: bool,
    ) -> None:
        super().__init__()
        kind, clamp = architecture.kind, architecture.conv_clamp
        self.fromrgb: _Conv | None = None
        if is_first or kind == "skip":
            self.fromrgb = _Conv(architecture.image_channels, channels_in, 1, clamp=clamp)
        self.conv0 = _Conv(channels_in, channels_in, 3, clamp=clamp)
        self.conv1 = _Conv(channels_in, channels_out, 3, down=True, clamp=clamp)
        self.skip: _Conv | None = None
        if kind == "resnet":
            self.skip = _Conv(channels_in, channels_out, 1, down=True, linear=True)
        self.halve: _Down | None = None
        if kind == "skip":
            self.halve = _Down(architecture.image_channels, 1)

    def forward(self, x: Tensor | None, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features `[n i h w]` (None at the top) and image to features `[n o h/2 w/2]` and, in
        `skip`, the image of that size.
        """
        if self.fromrgb is not None:
            assert image is not None
            colours = self.fromrgb(image)
            x = colours if x is None else x + colours
            image = None if self.halve is None else self.halve(image)
        assert x is not None
        if self.skip is None:
            return self.conv1(self.conv0(x)), image
        shortcut = self.skip(x, gain=RESIDUAL_GAIN)
        return shortcut + self.conv1(self.conv0(x), gain=RESIDUAL_GAIN), image


class _Epilogue(nn.Module):
    """The base: deviation over the batch, a convolution, and two dense layers."""

    def __init__(self, architecture: DiscriminatorArchitecture) -> None:
        super().__init__()
        channels, (height, width) = architecture.channels[0], architecture.base
        self.group = architecture.deviation_group
        clamp = architecture.conv_clamp
        self.fromrgb: _Conv | None = None
        if architecture.kind == "skip" or len(architecture.channels) == 1:
            self.fromrgb = _Conv(architecture.image_channels, channels, 1, clamp=clamp)
        self.conv = _Conv(channels + 1, channels, 3, clamp=clamp)
        self.fc = Dense(channels * height * width, channels)
        self.out = Dense(channels, channels if architecture.c_dim else 1)

    def forward(self, x: Tensor | None, image: Tensor | None, mapped: Tensor | None) -> Tensor:
        """Features `[n c h w]`, and in `skip` the image, to scores `[n]`.

        mapped: labels `[n c]`, whose product with the features is the score (Miyato and Koyama
        2018).
        """
        if self.fromrgb is not None:
            assert image is not None
            colours = self.fromrgb(image)
            x = colours if x is None else x + colours
        assert x is not None
        x = self.conv(torch.cat([x, deviation(x, self.group)], dim=1))
        x = F.leaky_relu(self.fc(x.flatten(1)), LEAKY_SLOPE) * ACTIVATION_GAIN
        x = self.out(x)
        if mapped is None:
            return x[:, 0]
        return (x * mapped).sum(dim=1) / math.sqrt(x.shape[1])


class _LabelMapping(nn.Module):
    """One-hot labels `[n c_dim]` to normalised vectors `[n c]`."""

    def __init__(self, architecture: DiscriminatorArchitecture, features: int) -> None:
        super().__init__()
        self.embed = Dense(architecture.c_dim, features)
        layers = architecture.mapping_layers
        self.layers = nn.ModuleList(Dense(features, features, 0.01) for _ in range(layers))

    def forward(self, label: Tensor) -> Tensor:
        """Embed, normalise, and map."""
        x = normalise(self.embed(label))
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LEAKY_SLOPE) * ACTIVATION_GAIN
        return x


def deviation(x: Tensor, group: int) -> Tensor:
    """How much features `[n c h w]` differ within groups of images: one channel `[n 1 h w]`, the
    mean over features and pixels of their standard deviation.

    Image i is in group `i mod n/group`. Raises `ValueError` where the batch is not whole groups.
    """
    group = min(group, len(x))
    if len(x) % group:
        raise ValueError(
            f"found a batch of {len(x)} images, expected a multiple of {group}, the images whose"
            " deviation is compared"
        )
    groups = x.reshape(group, len(x) // group, -1)
    spread = (groups.var(dim=0, unbiased=False) + EPS).sqrt().mean(dim=1)
    return spread.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
