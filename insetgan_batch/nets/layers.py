"""The layers that StyleGAN2's generator is made of.

Why activations are scaled and not weights: `demodulate(W * s) * x == d(s) * (W * (s * x))`. With
the style on the activations one ordinary convolution serves the whole batch, and a gradient with
respect to the latents never computes one with respect to the weights.

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


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style.

    Karras et al. 2020, equations 1 to 3. In low precision the kernel and the styles are brought to
    sizes near 1 first, and what was divided out returns with the demodulation, in float32: else the
    sums would leave float16's range.
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
        self.blur = Blur(channels_out) if upsample else None
        self.demodulate = demodulate
        self.low_precision: torch.dtype | None = None
        self.memory_format = torch.preserve_format
        self._kernels: tuple[Tensor, Tensor, Tensor | None] | None = None

    def cache_kernels(self) -> None:
        """Keep the kernels from now on; only for weights that will not change any more."""
        self._kernels = self._compute_kernels()

    def renew_kernels(self) -> None:
        """Compute kept kernels anew, after a change of device or precision."""
        if self._kernels is not None:
            self.cache_kernels()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ModulatedConv:
        # The cache is no buffer (it must not be saved), so a move to another device renews it.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.renew_kernels()
        return self

    def _compute_kernels(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The convolution's kernel, the power of every (output, input) pair `[o i]`, and what the
        kernel was divided by `[o]`, None for nothing.
        """
        # Demodulation makes the gain cancel but for the epsilon, which is defined on unscaled
        # weights.
        weight = self.weight if self.demodulate else self.weight * self.gain
        power = weight.square().sum(dim=(2, 3))
        divisor = None
        if self.low_precision is not None:
            divisor = weight.abs().amax(dim=(1, 2, 3)).clamp_min(EPS) / self.gain
            weight = (weight / divisor[:, None, None, None]).to(self.low_precision)
        kernel = weight if self.blur is None else weight.transpose(0, 1).contiguous()
        if self.memory_format != torch.preserve_format:
            kernel = kernel.contiguous(memory_format=self.memory_format)
        return kernel, power, divisor

    def convolve(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """Style x `[n i h w]` from w `[n c]` and convolve it; twice the size with `upsample`.

        Returns the features and the factor that they still need `[n o 1 1]`, None for 1.
        """
        kernel, power, divisor = self._kernels or self._compute_kernels()
        style = self.affine(w)
        factor = torch.rsqrt(style.square() @ power.T + EPS) if self.demodulate else None
        if divisor is not None:
            largest = style.abs().amax(dim=1, keepdim=True).clamp_min(EPS)
            style = style / largest
            factor = (largest if factor is None else factor * largest) * divisor
        x = x * style[:, :, None, None].to(x.dtype)
        if self.blur is None:
            x = F.conv2d(x, kernel, padding=self.weight.shape[-1] // 2)
        else:
            x = self.blur(F.conv_transpose2d(x, kernel, stride=2))
        return x, None if factor is None else factor[:, :, None, None]


class StyledConv(ModulatedConv):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU."""

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

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        noise: Noise = "const",
        gain: float = 1.0,
        window: Window | None = None,
    ) -> Tensor:
        """Features `[n i h w]` and latent `[n c]` to features `[n o h w]` (doubled with
        `upsample`), times `gain`. `ValueError` where there are not `n` sources of noise.

        window: where the result lies in the whole, None for all of it.
        """
        x, demodulation = self.convolve(x, w)
        assert demodulation is not None
        # Demodulation, noise, bias and gain in one pass over the features, whose size is what costs
        # time here: leaky ReLU passes a positive factor through.
        gain *= ACTIVATION_GAIN
        added = self._noise(noise, len(x))
        if window is not None and isinstance(added, Tensor):
            added = window.cut(added.view(-1, 1, *self.noise_const.shape))
        offset = (added + self.bias[:, None, None]) * gain
        x = torch.addcmul(offset.to(x.dtype), x, (demodulation * gain).to(x.dtype))
        x = F.leaky_relu(x, LEAKY_SLOPE)
        if self.clamp is None:
            return x
        clamp = self.clamp * gain / ACTIVATION_GAIN
        return x.clamp(-clamp, clamp)

    def _noise(self, noise: Noise, images: int) -> Tensor | float:
        """What is added to every channel: `[h w]` for all images, or `[n 1 h w]`."""
        if noise == "none":
            return 0.0
        if noise == "const":
            return self.noise_const * self.noise_strength
        if len(noise) != images:
            raise ValueError(f"found {len(noise)} sources of noise for {images} images")
        size, device = self.noise_const.shape, self.noise_const.device
        fresh = [torch.randn(size, generator=source, device=source.device) for source in noise]
        return torch.stack(fresh)[:, None].to(device) * self.noise_strength


class ToRGB(ModulatedConv):
    """Modulated 1x1 convolution to colours, without demodulation."""

    def __init__(
        self, channels: int, image_channels: int, w_dim: int, *, clamp: float | None
    ) -> None:
        super().__init__(channels, image_channels, w_dim, size=1, upsample=False, demodulate=False)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Features `[n c h w]` and latent `[n c]` to colours `[n 3 h w]` in the weights' type."""
        x, factor = self.convolve(x, w)
        x = x.to(self.bias.dtype)
        x = (x if factor is None else x * factor) + self.bias[:, None, None]
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


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
        self.register_buffer("kernel", kernel.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[n c 2h+1 2w+1]` to `[n c 2h 2w]`."""
        return F.conv2d(x, self.kernel.to(x.dtype), padding=1, groups=x.shape[1])


class Upsample(Blur):
    """Twice the height and width with the [1 3 3 1] filter, zeros outside."""

    def forward(self, x: Tensor) -> Tensor:
        """`[n c h w]` to `[n c 2h 2w]`: spread and filtered at once."""
        kernel = self.kernel.to(x.dtype)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def blur_kernel() -> Tensor:
    """The [1 3 3 1] filter in two dimensions, `[4 4]`; its sum is 1."""
    # On the CPU also where a network is only outlined, on the device `meta`.
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu") / 8.0
    return torch.outer(taps, taps)
