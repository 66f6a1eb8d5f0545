"""StyleGAN2's generator: mapping and synthesis for any base height x width.

Written from the equations of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(2020), section 2.2. Module names follow the layout that checkpoints use
(`synthesis.b64.conv0.weight`), so that weights load by name; `b64` is the block that is 64 pixels
high.

Why activations are scaled and not weights: `demodulate(W * s) * x == d(s) * (W * (s * x))`. With
the style on the activations one ordinary convolution serves the whole batch, and a gradient with
respect to the latents never computes one with respect to the weights.

Why the upsampling convolution is a plain one: a transposed 3x3 convolution followed by the [1 3 3
1] blur is one 6x6 kernel with stride 2, and that is four 3x3 kernels whose outputs interleave
(`pixel_shuffle`). The result is the same; ordinary 3x3 convolutions are the fastest thing on every
device.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DEMODULATION_EPS = 1e-8
_LEAKY_SLOPE = 0.2
_ACTIVATION_GAIN = math.sqrt(2.0)
_LARGEST_SIZE = 1 << 14


@dataclasses.dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that fixes the shapes of a generator.

    base: height and width of the learned constant; every block after the first doubles both.
    channels: one number per block, from the base upwards.
    mapping_lr_multiplier: the mapping network's weights are stored divided by it (0.01 in the
    paper).
    conv_clamp: activations are clamped to +- this, None for never.
    """

    base: tuple[int, int]
    channels: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    image_channels: int = 3
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        """Raises `ValueError`: these fields also come from files."""
        sizes = (self.z_dim, self.w_dim, self.mapping_layers, self.image_channels)
        for size in (*self.base, *self.channels, *sizes):
            if not (isinstance(size, int) and 0 < size <= _LARGEST_SIZE):
                raise ValueError(f"found size {size!r}, expected 1 to {_LARGEST_SIZE}")
        if len(self.base) != 2 or not self.channels:
            raise ValueError(f"found base {self.base} and channels {self.channels}")
        for number in (self.mapping_lr_multiplier, self.conv_clamp):
            if number is not None and not number > 0:
                raise ValueError(f"found {number!r}, expected a number above 0")

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
            if isinstance(module, ModulatedConv):
                module.cache_kernels()
        return self


class Mapping(nn.Module):
    """z `[n z]` to w `[n c]`: pixel norm, then dense layers with leaky ReLU."""

    w_avg: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        sizes = [architecture.z_dim] + [architecture.w_dim] * architecture.mapping_layers
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            self.add_module(f"fc{i}", Dense(fan_in, fan_out, architecture.mapping_lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(architecture.w_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Map latents z `[n z]`, any scale, to w `[n c]`."""
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + _DEMODULATION_EPS)
        for layer in self.children():
            x = F.leaky_relu(layer(x), _LEAKY_SLOPE) * _ACTIVATION_GAIN
        return x


class Dense(nn.Module):
    """A linear layer with equalised learning rate: the stored weight is scaled when it is used."""

    def __init__(
        self, fan_in: int, fan_out: int, lr_multiplier: float = 1.0, bias_init: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((fan_out,), bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(fan_in)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """`[n in]` to `[n out]`."""
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class Synthesis(nn.Module):
    """ws `[n l c]` to an image `[n 3 H W]`, nominally in -1..1, with skip connections of RGB."""

    rgb_kernel: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        previous = 0
        for (height, width), channels in zip(
            architecture.resolutions, architecture.channels, strict=True
        ):
            block = Block(architecture, previous, channels, (height, width))
            self.add_module(f"b{height}", block)
            previous = channels
        taps = _blur_taps()
        # Upsampling by 2 keeps the mean: the kernel sums to 4 because three of four input samples
        # are zero.
        kernel = (4.0 * torch.outer(taps, taps)).expand(architecture.image_channels, 1, 4, 4)
        self.register_buffer("rgb_kernel", kernel.contiguous(), persistent=False)

    def forward(self, ws: Tensor, blocks: int | None = None) -> Tensor:
        """Paint the image from ws `[n l c]`; `blocks` stops early, at the resolution of that many
        blocks.
        """
        x: Tensor | None = None
        image: Tensor | None = None
        for i, block in enumerate(list(self.children())[:blocks]):
            # Block i > 0 starts with the latent that the RGB layer of block i - 1 used as its own.
            first = max(2 * i - 1, 0)
            x, rgb = block(x, ws[:, first : 2 * i + 2])
            image = rgb if image is None else self._upsample(image) + rgb
        assert image is not None
        return image

    def _upsample(self, image: Tensor) -> Tensor:
        """Double height and width of `[n 3 h w]` with the [1 3 3 1] filter, zeros outside."""
        groups = image.shape[1]
        return F.conv_transpose2d(image, self.rgb_kernel, stride=2, padding=1, groups=groups)


class Block(nn.Module):
    """One resolution: two convolutions (one at the base) and the RGB layer."""

    def __init__(
        self, architecture: Architecture, channels_in: int, channels: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        w_dim, clamp = architecture.w_dim, architecture.conv_clamp
        if channels_in:
            self.conv0 = StyledConv(channels_in, channels, w_dim, size, upsample=True, clamp=clamp)
        else:
            self.const = nn.Parameter(torch.randn(channels, *size))
        self.conv1 = StyledConv(channels, channels, w_dim, size, upsample=False, clamp=clamp)
        self.torgb = ToRGB(channels, architecture.image_channels, w_dim, clamp=clamp)

    def forward(self, x: Tensor | None, ws: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[n c h w]` (None at the base) and this block's latents to features and RGB."""
        if x is None:
            x = self.const.expand(ws.shape[0], -1, -1, -1)
        else:
            x = self.conv0(x, ws[:, 0])
        x = self.conv1(x, ws[:, -2])
        return x, self.torgb(x, ws[:, -1])


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style.

    Karras et al. 2020, equations 1 to 3.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        w_dim: int,
        *,
        size: int,
        upsample: bool,
        demodulate: bool,
    ) -> None:
        super().__init__()
        self.affine = Dense(w_dim, channels_in, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, size, size))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.gain = 1.0 / math.sqrt(channels_in * size * size)
        self.upsample = upsample
        self.demodulate = demodulate
        self._kernels: tuple[Tensor, Tensor] | None = None

    def cache_kernels(self) -> None:
        """Keep the kernels from now on; only for weights that will not change any more."""
        self._kernels = self._compute_kernels()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ModulatedConv:
        # The cache is no buffer (it must not be saved), so a move to another device renews it.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._kernels is not None:
            self.cache_kernels()
        return self

    def _compute_kernels(self) -> tuple[Tensor, Tensor]:
        """The convolution's kernel, and the power of every (output, input) pair `[o i]`."""
        # Demodulation makes the gain cancel but for the epsilon, which is defined on unscaled
        # weights.
        weight = self.weight if self.demodulate else self.weight * self.gain
        kernel = _interleaved_kernel(weight) if self.upsample else weight
        return kernel, weight.square().sum(dim=(2, 3))

    def convolve(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Style x `[n i h w]` from w `[n c]` and convolve it; twice the size with `upsample`.

        Returns the features, not demodulated, and the factor that demodulates them `[n o 1 1]`.
        """
        kernel, power = self._kernels or self._compute_kernels()
        style = self.affine(w)
        x = F.conv2d(x * style[:, :, None, None], kernel, padding=self.weight.shape[-1] // 2)
        if self.upsample:
            x = F.pixel_shuffle(x, 2)
        demodulation = torch.rsqrt(style.square() @ power.T + _DEMODULATION_EPS)
        return x, demodulation[:, :, None, None]


class StyledConv(ModulatedConv):
    """Modulated 3x3 convolution, constant noise, bias, leaky ReLU."""

    noise_const: Tensor

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        w_dim: int,
        size: tuple[int, int],
        *,
        upsample: bool,
        clamp: float | None,
    ) -> None:
        super().__init__(
            channels_in, channels_out, w_dim, size=3, upsample=upsample, demodulate=True
        )
        self.clamp = clamp
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Features `[n i h w]` and latent `[n c]` to features `[n o h w]` (doubled with
        `upsample`).
        """
        x, demodulation = self.convolve(x, w)
        # Demodulation, noise, bias and gain in one pass over the features, whose size is what costs
        # time here: leaky ReLU passes a positive factor through.
        offset = (
            self.noise_const * self.noise_strength + self.bias[:, None, None]
        ) * _ACTIVATION_GAIN
        x = F.leaky_relu(torch.addcmul(offset, x, demodulation * _ACTIVATION_GAIN), _LEAKY_SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRGB(ModulatedConv):
    """Modulated 1x1 convolution to colours, without demodulation."""

    def __init__(
        self, channels: int, image_channels: int, w_dim: int, *, clamp: float | None
    ) -> None:
        super().__init__(channels, image_channels, w_dim, size=1, upsample=False, demodulate=False)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Features `[n c h w]` and latent `[n c]` to colours `[n 3 h w]`."""
        x = self.convolve(x, w)[0] + self.bias[:, None, None]
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


def _blur_taps() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return taps / taps.sum()


def _interleaved_kernel(weight: Tensor) -> Tensor:
    """The four 3x3 kernels `[4o i 3 3]` of "transposed convolution with stride 2, then blur".

    The 6x6 kernel is the product of both; output pixel `2m + r` sees taps `r, r + 2, r + 4` of it.
    The channel order is the one of `pixel_shuffle`.
    """
    out_channels, in_channels = weight.shape[:2]
    # Linear in the nine weights: one matrix product makes all phases of all kernels.
    phases = weight.reshape(-1, 9) @ _interleaving_matrix().to(weight)
    phases = phases.reshape(out_channels, in_channels, 4, 3, 3)
    return phases.transpose(1, 2).reshape(4 * out_channels, in_channels, 3, 3)


@functools.cache
def _interleaving_matrix() -> Tensor:
    """What one weight of a 3x3 kernel adds to the four phases of the 6x6 kernel: `[9 4*9]`."""
    taps = _blur_taps()
    blur = 4.0 * torch.outer(taps, taps)
    six = F.conv2d(torch.eye(9).reshape(9, 1, 3, 3), blur[None, None], padding=3)
    six = six.reshape(9, 3, 2, 3, 2).flip(1, 3)
    return six.permute(0, 2, 4, 1, 3).reshape(9, 36)
