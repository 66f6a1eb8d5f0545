"""StyleGAN2's generator: mapping and synthesis for any base height x width.

Written from the equations of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(2020), sections 2.2 and 4.1 (`skip`, `resnet` and `orig` are its figure 7). Module names follow the
layout that checkpoints use (`synthesis.b64.conv0.weight`), so that weights load by name; `b64` is
the block that is 64 pixels high.

Why activations are scaled and not weights: `demodulate(W * s) * x == d(s) * (W * (s * x))`. With
the style on the activations one ordinary convolution serves the whole batch, and a gradient with
respect to the latents never computes one with respect to the weights.

The convolution that upsamples is a transposed one and a depthwise blur. As one plain convolution
(four 3x3 kernels whose outputs interleave) it would need no blur and four times the arithmetic: two
to three times slower on a CPU, measured by `benchmarks/generators.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What a layer adds: the file's constant noise, none, or fresh normal noise, one source per image.
Noise = Literal["const", "none"] | Sequence[torch.Generator]

_EPS = 1e-8
_LEAKY_SLOPE = 0.2
_ACTIVATION_GAIN = math.sqrt(2.0)
_RESIDUAL_GAIN = math.sqrt(0.5)
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
            if isinstance(module, ModulatedConv):
                module.cache_kernels()
        return self

    def set_layout(self, memory_format: torch.memory_format) -> None:
        """Keep kernels in this layout, which features then follow; the weights stay where they are,
        which may be pages of a file that other processes use too.
        """
        for module in self.modules():
            if isinstance(module, ModulatedConv):
                module.memory_format = memory_format
                module.renew_kernels()

    def set_precision(self, dtype: torch.dtype, resolutions: int) -> None:
        """Let so many of the highest resolutions compute in `dtype`; colours stay in float32."""
        names = self.synthesis.blocks
        for i, name in enumerate(names):
            low = dtype if i >= len(names) - resolutions else None
            for module in self.synthesis.get_submodule(name).modules():
                if isinstance(module, Block | ModulatedConv):
                    module.low_precision = low
                if isinstance(module, ModulatedConv):
                    module.renew_kernels()


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
            x = _normalise(torch.cat(parts, dim=1))
        else:
            x = torch.cat([_normalise(part) for part in parts], dim=1)
        for name in self.layers:
            x = F.leaky_relu(self.get_submodule(name)(x), _LEAKY_SLOPE) * _ACTIVATION_GAIN
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
    """ws `[n l c]` to an image `[n 3 H W]`, nominally in -1..1."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.can_stop_early = architecture.synthesis == "skip"
        self.upsample = Upsample(architecture.image_channels)
        self.blocks = [f"b{height}" for height, _ in architecture.resolutions]
        for i, name in enumerate(self.blocks):
            self.add_module(name, Block(architecture, i))

    def forward(self, ws: Tensor, blocks: int | None = None, noise: Noise = "const") -> Tensor:
        """Paint the image from ws `[n l c]`.

        blocks: stop early, at the resolution of that many blocks; `ValueError` where colours are
        made in the last block only.
        """
        names = self.blocks[:blocks]
        if len(names) < len(self.blocks) and not self.can_stop_early:
            raise ValueError(
                "only `skip` synthesis has images at lower resolutions: paint the whole one"
            )
        x: Tensor | None = None
        image: Tensor | None = None
        for i, name in enumerate(names):
            # Block i > 0 starts with the latent that the RGB layer of block i - 1 used as its own.
            first = max(2 * i - 1, 0)
            x, rgb = self.get_submodule(name)(x, ws[:, first : 2 * i + 2], noise)
            if image is None:
                image = rgb
            else:
                image = self.upsample(image) + rgb
        assert image is not None
        return image


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

    def forward(self, x: Tensor | None, ws: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Features `[n c h w]` (None at the base) and this block's latents to features and RGB."""
        if x is None:
            x = self.const.expand(ws.shape[0], -1, -1, -1)
        if self.low_precision is not None:
            x = x.to(self.low_precision)
        if self.is_residual:
            detour = self.conv1(self.conv0(x, ws[:, 0], noise), ws[:, -2], noise, _RESIDUAL_GAIN)
            x = self.skip(x) + detour
        else:
            if ws.shape[1] > 2:  # not at the base
                x = self.conv0(x, ws[:, 0], noise)
            x = self.conv1(x, ws[:, -2], noise)
        return x, None if self.torgb is None else self.torgb(x, ws[:, -1])


class Shortcut(nn.Module):
    """The residual path: a 1x1 convolution without bias, and twice the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 1, 1))
        self.gain = _RESIDUAL_GAIN / math.sqrt(channels_in)
        self.upsample = Upsample(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """`[n i h w]` to `[n o 2h 2w]`."""
        upsampled: Tensor = self.upsample(F.conv2d(x, (self.weight * self.gain).to(x.dtype)))
        return upsampled


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
            divisor = weight.abs().amax(dim=(1, 2, 3)).clamp_min(_EPS) / self.gain
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
        factor = torch.rsqrt(style.square() @ power.T + _EPS) if self.demodulate else None
        if divisor is not None:
            largest = style.abs().amax(dim=1, keepdim=True).clamp_min(_EPS)
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

    def forward(self, x: Tensor, w: Tensor, noise: Noise = "const", gain: float = 1.0) -> Tensor:
        """Features `[n i h w]` and latent `[n c]` to features `[n o h w]` (doubled with
        `upsample`), times `gain`. `ValueError` where there are not `n` sources of noise.
        """
        x, demodulation = self.convolve(x, w)
        assert demodulation is not None
        # Demodulation, noise, bias and gain in one pass over the features, whose size is what costs
        # time here: leaky ReLU passes a positive factor through.
        gain *= _ACTIVATION_GAIN
        offset = (self._noise(noise, len(x)) + self.bias[:, None, None]) * gain
        x = torch.addcmul(offset.to(x.dtype), x, (demodulation * gain).to(x.dtype))
        x = F.leaky_relu(x, _LEAKY_SLOPE)
        if self.clamp is None:
            return x
        clamp = self.clamp * gain / _ACTIVATION_GAIN
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


def _normalise(x: Tensor) -> Tensor:
    """Vectors `[n c]` with a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + _EPS)


def blur_kernel() -> Tensor:
    """The [1 3 3 1] filter in two dimensions, `[4 4]`; its sum is 1."""
    # On the CPU also where a network is only outlined, on the device `meta`.
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu") / 8.0
    return torch.outer(taps, taps)
