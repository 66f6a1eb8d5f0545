"""What lies between two convolutions of a generator: one Triton kernel for each direction.

Features are filtered, scaled, shifted, put through a leaky ReLU and scaled again. Nearly all of its
time is memory traffic, so each kernel reads and writes them once, and a backward pass needs only
what the next convolution keeps anyway. `layers.py` has the same steps in torch's own
operations, which these are tested against and which other devices use.

Features are `[n c h w]` with the channels innermost in memory (`torch.channels_last`), in float32,
bfloat16 or float16; sums are made in float32, in an order that does not change from run to run.
Nothing here has a gradient with respect to weights.
"""

# What Triton compiles has arguments without types; and a gradient is no method of Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,untyped-decorator,no-any-return"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import math
from typing import Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor
from torch.autograd.function import once_differentiable

from insetgan_batch.nets.fused.tiles import (
    SIZES,
    channels_last,
    empty,
    empty_sums,
    pixels_of,
    place,
    strip_grid,
    tap,
    tile_count,
    tile_grid,
)


@triton.jit(do_not_specialize=SIZES)
def _scale_forward(x, style, out, pixels, channels, tile: tl.constexpr, wide: tl.constexpr):
    n, c, p = place(1, tile, wide)
    x += n * pixels * channels
    out += n * pixels * channels
    mask = (p < pixels)[:, None] & (c < channels)[None, :]
    at = p[:, None] * channels + c[None, :]
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
    factor = tl.load(style + n * channels + c, mask=c < channels, other=0)
    tl.store(out + at, value * factor[None, :], mask=mask)


@triton.jit(do_not_specialize=SIZES)
def _scale_backward(
    gradient, x, style, out, sums, pixels, channels, tiles, tile: tl.constexpr, wide: tl.constexpr
):
    n, c, p = place(tiles, tile, wide)
    gradient += n * pixels * channels
    x += n * pixels * channels
    out += n * pixels * channels
    factor = tl.load(style + n * channels + c, mask=c < channels, other=0)[None, :]
    total = tl.zeros((tile, wide), tl.float32)
    for _ in range(tiles):
        mask = (p < pixels)[:, None] & (c < channels)[None, :]
        at = p[:, None] * channels + c[None, :]
        g = tl.load(gradient + at, mask=mask, other=0).to(tl.float32)
        total += g * tl.load(x + at, mask=mask, other=0).to(tl.float32)
        tl.store(out + at, g * factor, mask=mask)
        p += tile
    row = n * tl.num_programs(0) + tl.program_id(0)
    tl.store(sums + row * channels + c, tl.sum(total, axis=0), mask=c < channels)


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, style: Tensor) -> Tensor:
        x, style = channels_last(x), style.float().contiguous()
        out = torch.empty_like(x)
        grid, tile = tile_grid(x)
        _scale_forward[grid](x, style, out, pixels_of(x), x.shape[1], *tile)
        context.save_for_backward(x, style)
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, style = context.saved_tensors
        out = torch.empty_like(x)
        tiles = tile_count(x)
        grid, tile = tile_grid(x, tiles)
        sums = empty_sums(x, grid[0])
        _scale_backward[grid](
            channels_last(gradient), x, style, out, sums, pixels_of(x), x.shape[1], tiles, *tile
        )
        return out, sums.sum(dim=1)


def scale(x: Tensor, style: Tensor) -> Tensor:
    """Features times a factor for each image and channel `[n c]`."""
    return _Scale.apply(x, style)


@triton.jit
def _bend(value, slope, clamp):
    value = tl.where(value > 0, value, value * slope)
    return tl.minimum(tl.maximum(value, -clamp), clamp)


@triton.jit(do_not_specialize=SIZES)
def _finish_forward(
    x, factor, noise, bias, after, out, pixels, channels, noise_step, gain, slope, clamp,
    styled: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = place(1, tile, wide)
    x += n * pixels * channels
    out += n * pixels * channels
    is_channel = c < channels
    mask = (p < pixels)[:, None] & is_channel[None, :]
    at = p[:, None] * channels + c[None, :]
    f = tl.load(factor + n * channels + c, mask=is_channel, other=0)[None, :]
    shift = tl.load(noise + n * noise_step + p, mask=p < pixels, other=0)[:, None]
    shift = (shift + tl.load(bias + c, mask=is_channel, other=0)[None, :]) * gain
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32) * f + shift
    value = _bend(value, slope, clamp)
    if styled:
        value *= tl.load(after + n * channels + c, mask=is_channel, other=0)[None, :]
    tl.store(out + at, value, mask=mask)


@triton.jit(do_not_specialize=SIZES)
def _finish_backward(
    gradient, y, factor, noise, bias, after, out, sums, style_sums, pixels, channels, noise_step,
    tiles, gain, slope, clamp, styled: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = place(tiles, tile, wide)
    gradient += n * pixels * channels
    y += n * pixels * channels
    out += n * pixels * channels
    is_channel = c < channels
    f = tl.load(factor + n * channels + c, mask=is_channel, other=0)[None, :]
    b = tl.load(bias + c, mask=is_channel, other=0)[None, :]
    total = tl.zeros((tile, wide), tl.float32)
    if styled:
        style = tl.load(after + n * channels + c, mask=is_channel, other=0)[None, :]
        unstyle = tl.where(style == 0, 0.0, 1 / style)
        style_total = tl.zeros((tile, wide), tl.float32)
    for _ in range(tiles):
        mask = (p < pixels)[:, None] & is_channel[None, :]
        at = p[:, None] * channels + c[None, :]
        shift = tl.load(noise + n * noise_step + p, mask=p < pixels, other=0)[:, None]
        g = tl.load(gradient + at, mask=mask, other=0).to(tl.float32)
        bent = tl.load(y + at, mask=mask, other=0).to(tl.float32)
        if styled:
            bent *= unstyle
            style_total += g * bent
            g *= style
        g *= tl.where(bent > 0, 1.0, slope)
        g = tl.where(tl.abs(bent) < clamp, g, 0.0)
        # What the convolution gave follows from what has become of it.
        total += g * (bent * tl.where(bent > 0, 1.0, 1 / slope) - (shift + b) * gain)
        tl.store(out + at, g * f, mask=mask)
        p += tile
    row = n * tl.num_programs(0) + tl.program_id(0)
    # Beyond the image all gradients are 0, and there is nothing to add.
    tl.store(sums + row * channels + c, tl.sum(total, axis=0), mask=is_channel)
    if styled:
        tl.store(style_sums + row * channels + c, tl.sum(style_total, axis=0), mask=is_channel)


@triton.jit(do_not_specialize=SIZES)
def _blur(
    x, factor, noise, bias, after, out, height_in, width_in, height, width, channels, noise_step,
    gain, slope, clamp, before: tl.constexpr, finish: tl.constexpr, styled: tl.constexpr,
    rows: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """The [1 3 3 1] filter with so many zeros before each row and column; what follows it, too."""
    across = tl.cdiv(width, tile)
    top = tl.program_id(0) // across * rows
    columns = tl.program_id(0) % across * tile + tl.arange(0, tile)
    c = tl.program_id(1) * wide + tl.arange(0, wide)
    n = tl.program_id(2).to(tl.int64)
    is_channel = c < channels
    x += n * height_in * width_in * channels
    out += n * height * width * channels
    if finish:
        f = tl.load(factor + n * channels + c, mask=is_channel, other=0)[None, :]
        b = tl.load(bias + c, mask=is_channel, other=0)[None, :]
    if styled:
        style = tl.load(after + n * channels + c, mask=is_channel, other=0)[None, :]
    first = tl.zeros((tile, wide), tl.float32)
    second = tl.zeros((tile, wide), tl.float32)
    third = tl.zeros((tile, wide), tl.float32)
    for i in tl.static_range(rows + 3):
        row = top + i - before + tl.zeros((tile,), tl.int32)
        fourth = tl.zeros((tile, wide), tl.float32)
        for k in tl.static_range(4):
            column = columns + k - before
            is_in = (row >= 0) & (row < height_in) & (column >= 0) & (column < width_in)
            at = (row * width_in + column)[:, None] * channels + c[None, :]
            seen = tl.load(x + at, mask=is_in[:, None] & is_channel[None, :], other=0)
            fourth += tap(k) * seen.to(tl.float32)
        if i > 2:
            row = top + i - 3 + tl.zeros((tile,), tl.int32)
            is_in = (row < height) & (columns < width)
            value = tap(0) * first + tap(1) * second + tap(2) * third + tap(3) * fourth
            if finish:
                shift = tl.load(noise + n * noise_step + row * width + columns, mask=is_in, other=0)
                value = _bend(value * f + (shift[:, None] + b) * gain, slope, clamp)
            if styled:
                value *= style
            at = (row * width + columns)[:, None] * channels + c[None, :]
            tl.store(out + at, value, mask=is_in[:, None] & is_channel[None, :])
        first = second
        second = third
        third = fourth


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        factor: Tensor,
        noise: Tensor,
        bias: Tensor,
        after: Tensor | None,
        blur: bool,
        gain: float,
        slope: float,
        clamp: float,
    ) -> Tensor:
        x, factor = channels_last(x), factor.float().contiguous()
        noise, bias = noise.float().contiguous(), bias.float()
        styled = after is not None
        after = factor if after is None else after.float().contiguous()
        n, channels, height, width = x.shape
        if blur:
            height, width = height - 1, width - 1
        step = 0 if len(noise) == 1 else height * width
        out = empty(x, n, channels, height, width)
        numbers = gain, slope, clamp
        if blur:
            grid, strip = strip_grid(out)
            _blur[grid](
                x, factor, noise, bias, after, out, height + 1, width + 1, height, width, channels,
                step, *numbers, 1, True, styled, *strip,
            )  # fmt: skip
        else:
            grid, tile = tile_grid(x)
            _finish_forward[grid](
                x, factor, noise, bias, after, out, pixels_of(x), channels, step, *numbers, styled,
                *tile,
            )  # fmt: skip
        context.save_for_backward(out, factor, noise, bias, after)
        limit = clamp * (1 - torch.finfo(x.dtype).eps)  # what was clamped has been rounded since
        context.step, context.numbers = step, (gain, slope, limit)
        context.blur, context.styled = blur, styled
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, factor, noise, bias, after = context.saved_tensors
        n, channels, height, width = y.shape
        out = torch.empty_like(y)
        tiles = tile_count(y)
        grid, tile = tile_grid(y, tiles)
        sums = empty_sums(y, grid[0])
        style_sums = empty_sums(y, grid[0]) if context.styled else sums
        _finish_backward[grid](
            channels_last(gradient), y, factor, noise, bias, after, out, sums, style_sums,
            pixels_of(y), channels, context.step, tiles, *context.numbers, context.styled, *tile,
        )  # fmt: skip
        if context.blur:
            unblurred = empty(y, n, channels, height + 1, width + 1)
            grid, strip = strip_grid(unblurred)
            _blur[grid](
                out, factor, noise, bias, after, unblurred, height, width, height + 1, width + 1,
                channels, 0, *context.numbers, 2, False, False, *strip,
            )  # fmt: skip
            out = unblurred
        of_factor = sums.sum(dim=1) / factor
        of_style = style_sums.sum(dim=1) if context.styled else None
        return out, of_factor, None, None, of_style, None, None, None, None


def finish(
    x: Tensor,
    factor: Tensor,
    noise: Tensor,
    bias: Tensor,
    after: Tensor | None,
    *,
    blur: bool,
    gain: float,
    slope: float,
    clamp: float | None,
) -> Tensor:
    """`leaky_relu(x * factor + (noise + bias) * gain)`, clamped, times `after` where it is given.

    factor: `[n c]`, above 0, with the gain in it; noise `[1|n h w]`; bias `[c]`; after `[n c]`.
    blur: x `[n c h+1 w+1]` comes from a transposed convolution and first needs its filter.
    """
    limit = math.inf if clamp is None else clamp
    return _Finish.apply(x, factor, noise, bias, after, blur, gain, slope, limit)
