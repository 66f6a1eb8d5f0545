"""StyleGAN2's generator: mapping and synthesis for any base height x width.

Written from the equations of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(2020), sections 2.2 and 4.1 (`skip`, `resnet` and `orig` are its figure 7). Module names follow the
layout that checkpoints use (`synthesis.b64.conv0.weight`), so that weights load by name; `b64` is
the block that is 64 pixels high.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
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
    Noise,
    Shortcut,
    StyledConv,
    ToRGB,
)
from insetgan_batch.nets.windows import Window

_LARGEST_SIZE = 1 << 14


@dataclasses.dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that fixes the shapes and the arithmetic of a generator.

    base: height and width of the learned constant; every block after the first doubles both.
    channels: one number per block, from the base upwards.
    mapping_lr_multiplier: the mapping network's weights are stored divided by it (0.01 in the
    paper).
    conv_clamp: activations are clamped to +- this, None for never.
    c_dim: number of classes of a conditional generator, 0 for none.
    layer_features, embed_features: width of the mapping's hidden layers and of the embedded label,
    None for `w_dim`.
    label_norm: z and the embedded label are normalised each by itself (`separate`) or as one vector
    (`joint`, the first TensorFlow version).
    synthesis: where colours are made: in every block, summed (`skip`), or in the last one only,
    with residual blocks (`resnet`) or without (`orig`).
    num_fp16_res: so many of the highest resolutions were trained in float16. It changes nothing in
    float32.
    """

    base: tuple[int, int]
    channels: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    image_channels: int = 3
    conv_clamp: float | None = None
    c_dim: int = 0
    layer_features: int | None = None
    embed_features: int | None = None
    label_norm: Literal["separate", "joint"] = "separate"
    synthesis: Literal["skip", "resnet", "orig"] = "skip"
    num_fp16_res: int = 0

    def __post_init__(self) -> None:
        """Raises `ValueError`: these fields also come from files."""
        sizes = (self.z_dim, self.w_dim, self.mapping_layers, self.image_channels)
        widths = (size for size in (self.layer_features, self.embed_features) if size is not None)
        for size in (*self.base, *self.channels, *sizes, *widths):
            if not (isinstance(size, int) and 0 < size <= _LARGEST_SIZE):
                raise ValueError(f"found size {size!r}, expected 1 to {_LARGEST_SIZE}")
        for count in (self.c_dim, self.num_fp16_res):
            if not (isinstance(count, int) and 0 <= count <= _LARGEST_SIZE):
                raise ValueError(f"found count {count!r}, expected 0 to {_LARGEST_SIZE}")
        if len(self.base) != 2 or not self.channels:
            raise ValueError(f"found base {self.base} and channels {self.channels}")
        if max(self.base) << (len(self.channels) - 1) > _LARGEST_SIZE:
            raise ValueError(f"found {len(self.channels)} blocks: more than {_LARGEST_SIZE} pixels")
        for number in (self.mapping_lr_multiplier, self.conv_clamp):
            if number is not None and not 0 < number < math.inf:
                raise ValueError(f"found {number!r}, expected a number above 0")
        if self.label_norm not in ("separate", "joint"):
            raise ValueError(f"found label_norm {self.label_norm!r}, expected separate or joint")
        if self.synthesis not in ("skip", "resnet", "orig"):
            raise ValueError(f"found synthesis {self.synthesis!r}, expected skip, resnet or orig")

    @property
    def num_ws(self) -> int:
        """Latents that synthesis takes: one per convolution, and one for the last RGB layer."""
        return 2 * len(self.channels)

    @property
    def resolutions(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every block in pixels."""
        return tuple((self.base[0] << i, self.base[1] << i) for i in range(len(self.channels)))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.resolutions[-1]


class StyleGAN2(nn.Module):
    """Mapping and synthesis under the names that checkpoints use; `mapping.w_avg` is `[c]`."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.mapping = Mapping(architecture)
        self.synthesis = Synthesis(architecture)

    def freeze(self) -> StyleGAN2:
        """Fix the weights: no gradients, and the kernels are computed once. Returns itself, in eval
        mode.
        """
        self.requires_grad_(False).eval()
        for module in self.modules():
            if isinstance(module, StyledConv):
                module.cache_kernels()
        return self

    def in_precision(self, dtype: torch.dtype, resolutions: int) -> StyleGAN2:
        """A frozen twin that shares the weights and computes so many of the highest resolutions in
        `dtype`; colours stay in float32.
        """
        with torch.device("meta"):  # shapes without memory
            twin = StyleGAN2(self.architecture)
        twin.load_state_dict(self.state_dict(), assign=True)
        twin.to(self.mapping.w_avg.device)  # the filters, which are no weights
        names = self.synthesis.blocks
        for name in names[len(names) - resolutions :]:
            for module in twin.synthesis.get_submodule(name).modules():
                if isinstance(module, Block | StyledConv):
                    module.low_precision = dtype
        return twin.freeze()


class Mapping(nn.Module):
    """z `[n z]`, and a label where there are classes, to w `[n c]`: pixel norm, then dense layers
    with leaky ReLU.
    """

    w_avg: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        w_dim, c_dim = architecture.w_dim, architecture.c_dim
        self.joint = architecture.label_norm == "joint"
        embed_features = (architecture.embed_features or w_dim) if c_dim else 0
        self.embed = Dense(c_dim, embed_features) if c_dim else None
        hidden = architecture.layer_features or w_dim
        between = [hidden] * (architecture.mapping_layers - 1)
        sizes = [architecture.z_dim + embed_features, *between, w_dim]
        self.layers = [f"fc{i}" for i in range(architecture.mapping_layers)]
        for name, (fan_in, fan_out) in zip(self.layers, itertools.pairwise(sizes), strict=True):
            self.add_module(name, Dense(fan_in, fan_out, architecture.mapping_lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map latents z `[n z]`, any scale, to w `[n c]`.

        c: labels `[n c_dim]`, one-hot; a `ValueError` where it is missing or out of place.
        """
        if (c is None) != (self.embed is None):
            raise ValueError(
                "this generator has no classes: leave the label"
                if self.embed is None
                else "this generator has classes: give a label"
            )
        parts = [z] if self.embed is None else [z, self.embed(c)]
        if self.joint:
            x = normalise(torch.cat(parts, dim=1))
        else:
            x = torch.cat([normalise(part) for part in parts], dim=1)
        for name in self.layers:
            x = F.leaky_relu(self.get_submodule(name)(x), LEAKY_SLOPE) * ACTIVATION_GAIN
        return x


class Synthesis(nn.Module):
    """ws `[n l c]` to an image `[n 3 H W]`, nominally in -1..1."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.can_stop_early = architecture.synthesis == "skip"
        self.resolutions = architecture.resolutions
        self.blocks = [f"b{height}" for height, _ in architecture.resolutions]
        for i, name in enumerate(self.blocks):
            self.add_module(name, Block(architecture, i))

    def forward(self, ws: Tensor, blocks: int | None = None, noise: Noise = "const") -> Tensor:
        """Paint the image from ws `[n l c]`.

        blocks: stop early, at the resolution of that many blocks; `ValueError` where colours are
        made in the last block only.
        """
        names = self.blocks[:blocks]
        if len(names) < len(self.blocks):
            self._check_early()
        return self._paint(ws, len(names), noise)[1]

    def synthesise_crops(
        self, ws: Tensor, blocks: int, windows: Sequence[Window]
    ) -> tuple[Tensor, list[Tensor]]:
        """The image at the resolution of so many blocks, and crops `[n 3 h w]` of the full one.

        windows: in pixels of the full image; corners and sizes are multiples of one pixel of the
        lower resolution. Raises `ValueError` where colours are made in the last block only.
        """
        self._check_early()
        x, image = self._paint(ws, blocks, "const")
        return image, [self._crop(x, image, ws, blocks, window) for window in windows]

    def _check_early(self) -> None:
        if not self.can_stop_early:
            raise ValueError(
                "only `skip` synthesis has images at lower resolutions: paint the whole one"
            )

    def _paint(self, ws: Tensor, blocks: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Features and image after so many blocks."""
        x: Tensor | None = None
        image: Tensor | None = None
        for i in range(blocks):
            x, image = self._block(i, x, image, ws, noise)
        assert x is not None
        assert image is not None
        return x, image

    def _crop(self, x: Tensor, image: Tensor, ws: Tensor, blocks: int, window: Window) -> Tensor:
        """Go on from features and image after so many blocks, in a window only."""
        here = Window.whole(len(ws), self.resolutions[blocks - 1])
        for i in range(blocks, len(self.blocks)):
            factor = self.resolutions[-1][0] // self.resolutions[i - 1][0]
            # What lies in the margin is spoilt by this block, and cut off before the next.
            wider = window.scaled_down(factor).with_margin(self.resolutions[i - 1])
            x, below = (wider.within(here).crop(tensor) for tensor in (x, image))
            here = wider.scaled_up(2)
            x, painted = self._block(i, x, below, ws, "const", here)
            assert painted is not None
            image = painted
        return window.within(here).crop(image)

    def _block(
        self,
        i: int,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor,
        noise: Noise,
        window: Window | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Features and image after one block, from those of the one before."""
        # Block i > 0 starts with the latent that the RGB layer of block i - 1 used as its own.
        first = max(2 * i - 1, 0)
        block = self.get_submodule(self.blocks[i])
        features, painted = block(x, image, ws[:, first : 2 * i + 2], noise, window)
        return features, painted


class Block(nn.Module):
    """One resolution: two convolutions (one at the base), a residual path in `resnet`, and the RGB
    layer in every block of `skip` and in the last of the others.
    """

    def __init__(self, architecture: Architecture, index: int) -> None:
        super().__init__()
        height, width = size = architecture.resolutions[index]
        channels = architecture.channels[index]
        w_dim, clamp = architecture.w_dim, architecture.conv_clamp
        self.low_precision: torch.dtype | None = None
        self.is_residual = architecture.synthesis == "resnet" and index > 0
        if index > 0:
            before = architecture.channels[index - 1]
            self.conv0 = StyledConv(before, channels, w_dim, size, upsample=True, clamp=clamp)
        else:
            self.const = nn.Parameter(torch.randn(channels, height, width))
        if self.is_residual:
            self.skip = Shortcut(before, channels)
        self.conv1 = StyledConv(channels, channels, w_dim, size, upsample=False, clamp=clamp)
        is_last = index == len(architecture.channels) - 1
        self.torgb: ToRGB | None = None
        if is_last or architecture.synthesis == "skip":
            self.torgb = ToRGB(channels, architecture.image_channels, w_dim, clamp=clamp)

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor,
        noise: Noise,
        window: Window | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Features `[n c h w]` and image (None at the base) and this block's latents to features
        and image.

        window: where the result lies in the whole, None for all of it.
        """
        if x is None:
            x = self.const.expand(ws.shape[0], -1, -1, -1)
        if self.low_precision is not None:
            x = x.to(self.low_precision)
        detour, gain = x, RESIDUAL_GAIN if self.is_residual else 1.0
        style, factor = self.conv1.modulation(ws[:, -2])
        if ws.shape[1] > 2:  # not at the base
            style0, factor0 = self.conv0.modulation(ws[:, 0])
            detour = self.conv0.scale(x, style0)
            detour = self.conv0(detour, factor0, noise, window=window, after=style)
        else:
            detour = self.conv1.scale(x, style)
        detour = self.conv1(detour, factor, noise, gain=gain, window=window)
        x = self.skip(x) + detour if self.is_residual else detour
        return x, image if self.torgb is None else self.torgb(x, ws[:, -1], image)


def normalise(x: Tensor) -> Tensor:
    """Vectors `[n c]` with a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPS)
