"""The layers that StyleGAN2's generator is made of.

Why activations are scaled and not weights: `demodulate(W * s) * x == d(s) * (W * (s * x))`. With
the style on the activations one ordinary convolution serves the whole batch, and a gradient with
respect to the latents never computes one with respect to the weights. On a GPU what lies between
the convolutions is done by fused kernels (`fused/`); here it stands in torch's own operations.

Features lie in memory with their channels innermost (`channels_last`), which kernels bring about:
other layouts are turned into it and back for every convolution, on a CPU too.

The convolution that upsamples is a transposed one and a depthwise blur. As one plain convolution
(four 3x3 kernels whose outputs interleave) it would need no blur and four times the arithmetic,
which costs more than it saves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insetgan_batch.nets.windows import Window

# What a layer adds: the file's constant noise, none, or fresh normal noise, one source per image.
Noise = Literal["const", "none"] | Sequence[torch.Generator]

EPS = 1e-8
LEAKY_SLOPE = 0.2
ACTIVATION_GAIN = math.sqrt(2.0)
RESIDUAL_GAIN = math.sqrt(0.5)


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


class StyledConv(nn.Module):
    """A 3x3 convolution whose input channels are scaled by a style; then noise, bias, leaky ReLU.

    Karras et al. 2020, equations 1 to 3. In low precision the kernel and the styles are brought to
    sizes near 1 first, and what was divided out returns with the demodulation, in float32: else the
    sums would leave float16's range.
    """

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
        super().__init__()
        self.affine = Dense(w_dim, channels_in, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size))
        self.gain = 1.0 / math.sqrt(channels_in * 9)
        self.blur = Blur(channels_out) if upsample else None
        self.clamp = clamp
        self.low_precision: torch.dtype | None = None
        self._kernels: tuple[Tensor, Tensor, Tensor | None] | None = None

    def cache_kernels(self) -> None:
        """Keep the kernels from now on; only for weights that will not change any more."""
        self._kernels = self._compute_kernels()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StyledConv:
        # The cache is no buffer (it must not be saved), so a move to another device renews it.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._kernels is not None:
            self.cache_kernels()
        return self

    def _compute_kernels(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The convolution's kernel, the power of every (output, input) pair `[o i]`, and what the
        kernel was divided by `[o]`, None for nothing.
        """
        # Demodulation makes the gain cancel but for the epsilon, which is defined on unscaled
        # weights.
        weight: Tensor = self.weight
        power = weight.square().sum(dim=(2, 3))
        divisor = None
        if self.low_precision is not None:
            divisor = weight.abs().amax(dim=(1, 2, 3)).clamp_min(EPS) / self.gain
            weight = (weight / divisor[:, None, None, None]).to(self.low_precision)
        kernel = weight if self.blur is None else weight.transpose(0, 1)
        return kernel.contiguous(memory_format=torch.channels_last), power, divisor

    def modulation(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """From latents `[n c]`: the style `[n i]` that features are multiplied by before the
        convolution, and the factor `[n o]` after it, which demodulates.
        """
        _, power, divisor = self._kernels or self._compute_kernels()
        style = self.affine(w)
        factor = torch.rsqrt(style.square() @ power.T + EPS)
        if divisor is not None:
            largest = style.abs().amax(dim=1, keepdim=True).clamp_min(EPS)
            style = style / largest
            factor = factor * largest * divisor
        return style, factor

    def scale(self, x: Tensor, style: Tensor) -> Tensor:
        """Features `[n i h w]` times their style."""
        if not has_fused_kernels(x, self.weight):
            return _affine(x, style)
        from insetgan_batch.nets.fused import features

        return features.scale(x, style)

    def forward(
        self,
        x: Tensor,
        factor: Tensor,
        noise: Noise = "const",
        *,
        gain: float = 1.0,
        window: Window | None = None,
        after: Tensor | None = None,
    ) -> Tensor:
        """Features `[n i h w]`, already times their style, to features `[n o h w]` (doubled with
        `upsample`), times `gain` and the style `[n o]` of what comes after. `ValueError` where
        there are not `n` sources of noise.

        window: where the result lies in the whole, None for all of it.
        """
        kernel = (self._kernels or self._compute_kernels())[0]
        if self.blur is None:
            x = F.conv2d(x, kernel, padding=1)
        else:
            x = F.conv_transpose2d(x, kernel, stride=2)
        added = self._noise(noise, len(x))
        if window is not None:
            added = window.crop(added[:, None])[:, 0]
        # Demodulation, noise, bias and gain in one pass over the features, whose size is what costs
        # time here: leaky ReLU passes a positive factor through.
        clamp = None if self.clamp is None else self.clamp * gain
        gain *= ACTIVATION_GAIN
        factor = factor * gain
        if not has_fused_kernels(x, self.weight):
            x = self._finish(x, factor, added, gain, clamp)
            return x if after is None else self.scale(x, after)
        from insetgan_batch.nets.fused import features

        return features.finish(
            x,
            factor,
            added,
            self.bias,
            after,
            blur=self.blur is not None,
            gain=gain,
            slope=LEAKY_SLOPE,
            clamp=clamp,
        )

    def _finish(
        self, x: Tensor, factor: Tensor, added: Tensor, gain: float, clamp: float | None
    ) -> Tensor:
        """What follows the convolution: noise `[1|n h w]` is added, factors `[n o]` multiply."""
        if self.blur is not None:
            x = self.blur(x)
        x = _affine(x, factor, self.bias * gain)
        # For every channel in memory first: added as it is, a few channels take ten times as long.
        noise = (added[:, None] * gain).to(x.dtype).expand(-1, x.shape[1], -1, -1)
        x = x.add_(noise.contiguous(memory_format=torch.channels_last))
        x = F.leaky_relu(x, LEAKY_SLOPE, inplace=True)
        return x if clamp is None else x.clamp(-clamp, clamp)

    def _noise(self, noise: Noise, images: int) -> Tensor:
        """What is added to every channel: `[1 h w]` for all images, or `[n h w]`."""
        if noise == "none":
            return torch.zeros_like(self.noise_const)[None]
        if noise == "const":
            return (self.noise_const * self.noise_strength)[None]
        if len(noise) != images:
            raise ValueError(f"found {len(noise)} sources of noise for {images} images")
        size, device = self.noise_const.shape, self.noise_const.device
        fresh = [torch.randn(size, generator=source, device=source.device) for source in noise]
        return torch.stack(fresh).to(device) * self.noise_strength


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to colours, without demodulation.

    Here the weights take the style, not the features: there are few of them.
    """

    def __init__(
        self, channels: int, image_channels: int, w_dim: int, *, clamp: float | None
    ) -> None:
        super().__init__()
        self.affine = Dense(w_dim, channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.gain = 1.0 / math.sqrt(channels)
        self.clamp = clamp
        self.twice = Upsample(image_channels)

    def forward(self, x: Tensor, w: Tensor, below: Tensor | None = None) -> Tensor:
        """Features `[n c h w]` and latent `[n c]` to colours `[n 3 h w]` in the weights' type.

        below: an image of half the size, to which they are added.
        """
        weights = self.weight[:, :, 0, 0] * (self.affine(w) * self.gain)[:, None]
        if has_fused_kernels(x, self.weight) and len(self.bias) in (1, 3):
            from insetgan_batch.nets.fused import colours

            return colours.colours(x, weights, self.bias, below, self.clamp)
        # Image by image: the gradient of one product for all of them takes four times as long.
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2).to(weights.dtype)
        mixed = [torch.addmm(self.bias, *own) for own in zip(pixels, weights.mT, strict=True)]
        image = torch.stack(mixed).mT.reshape(len(x), -1, *x.shape[2:])
        if self.clamp is not None:
            image = image.clamp(-self.clamp, self.clamp)
        return image if below is None else self.twice(below) + image


class Shortcut(nn.Module):
    """The residual path: a 1x1 convolution without bias, and twice the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 1, 1))
        self.gain = RESIDUAL_GAIN / math.sqrt(channels_in)
        self.upsample = Upsample(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """`[n i h w]` to `[n o 2h 2w]`."""
        upsampled: Tensor = self.upsample(F.conv2d(x, (self.weight * self.gain).to(x.dtype)))
        return upsampled


class Blur(nn.Module):
    """The [1 3 3 1] filter on every channel of what a transposed convolution has spread out."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The mean stays: the kernel sums to 4 because three of four samples that are spread are 0.
        kernel = (4.0 * blur_kernel()).expand(channels, 1, 4, 4)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[n c 2h+1 2w+1]` to `[n c 2h 2w]`."""
        return F.conv2d(x, self.kernel.to(x.dtype), padding=1, groups=x.shape[1])


class Upsample(Blur):
    """Twice the height and width with the [1 3 3 1] filter, zeros outside."""

    def forward(self, x: Tensor) -> Tensor:
        """`[n c h w]` to `[n c 2h 2w]`: spread and filtered at once."""
        kernel: Tensor = self.kernel.to(x.dtype)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def blur_kernel() -> Tensor:
    """The [1 3 3 1] filter in two dimensions, `[4 4]`; its sum is 1."""
    # On the CPU also where a network is only outlined, on the device `meta`.
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu") / 8.0
    return torch.outer(taps, taps)


def _affine(x: Tensor, factor: Tensor, offset: Tensor | None = None) -> Tensor:
    """Features `[n c h w]` times `[n c]` plus `[c]`.

    Computed as a batch norm with mean 0 and variance 1: that is one pass over memory in each
    direction, and rounds low-precision features once. Rounding the factors too would tint pictures.
    """
    factor = factor.to(torch.promote_types(x.dtype, torch.float32))
    mean, variance = torch.zeros_like(factor[0]), torch.ones_like(factor[0])
    offset = None if offset is None else offset.to(factor.dtype)
    images = (x,) if len(x) == 1 else torch.split(x, 1)  # the gradient of a split is a copy
    scaled = [
        F.batch_norm(image, mean, variance, own, offset, eps=0.0)
        for image, own in zip(images, factor, strict=True)
    ]
    return scaled[0] if len(x) == 1 else torch.cat(scaled)


def has_fused_kernels(x: Tensor, weight: Tensor) -> bool:
    """Whether `fused/` serves: on a GPU (Triton is installed there), for weights without gradient.

    Its modules are imported where they are used, because Triton is not installed elsewhere.
    """
    return x.is_cuda and not weight.requires_grad and x.dtype != torch.float64
