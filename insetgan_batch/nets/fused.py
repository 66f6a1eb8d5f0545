"""What lies between convolutions, on NVIDIA GPUs: one Triton kernel for each step of it.

Between two convolutions of a generator features are filtered, scaled, shifted, bent and scaled
again; those of LPIPS are normalised and compared. What that costs is moving them through memory, so
each step reads and writes them once, and a backward pass needs only what the next convolution keeps
anyway. `layers.py` and `perceptual.py` have the same steps in torch's own operations, which is what
these are tested against and what other devices use.

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

_TILE = 2048  # elements of a tile, so that several programs are under way on each processor
_MOST_CHANNELS = 128  # of a tile
_MOST_TILES = 16  # of a program that adds up: more tiles, fewer sums
_PROGRAMS = 2048  # that keep a GPU busy
_ROWS = 4  # of a strip that is filtered: more rows, fewer rows that two strips read
_STRIP = (32, 32)  # columns and channels of a strip
# Compile once for all sizes, not anew for each that is a multiple of 16 or 1.
_SIZES = ["pixels", "tiles", "height", "width", "height_in", "width_in", "noise_step"]


# ---- scale by a style --------------------------------------------------------------------------


@triton.jit(do_not_specialize=_SIZES)
def _scale_forward(x, style, out, pixels, channels, tile: tl.constexpr, wide: tl.constexpr):
    n, c, p = _place(1, tile, wide)
    x += n * pixels * channels
    out += n * pixels * channels
    mask = (p < pixels)[:, None] & (c < channels)[None, :]
    at = p[:, None] * channels + c[None, :]
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
    factor = tl.load(style + n * channels + c, mask=c < channels, other=0)
    tl.store(out + at, value * factor[None, :], mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def _scale_backward(
    gradient, x, style, out, sums, pixels, channels, tiles, tile: tl.constexpr, wide: tl.constexpr
):
    n, c, p = _place(tiles, tile, wide)
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
        x, style = _channels_last(x), style.float().contiguous()
        out = torch.empty_like(x)
        grid, tile = _grid(x)
        _scale_forward[grid](x, style, out, _pixels(x), x.shape[1], *tile)
        context.save_for_backward(x, style)
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, style = context.saved_tensors
        out = torch.empty_like(x)
        tiles = _tiles(x)
        grid, tile = _grid(x, tiles)
        sums = _sums(x, grid[0])
        _scale_backward[grid](
            _channels_last(gradient), x, style, out, sums, _pixels(x), x.shape[1], tiles, *tile
        )
        return out, sums.sum(dim=1)


def scale(x: Tensor, style: Tensor) -> Tensor:
    """Features times a factor for each image and channel `[n c]`."""
    return _Scale.apply(x, style)


# ---- factor, noise, bias, leaky ReLU, clamp, style ---------------------------------------------


@triton.jit
def _bend(value, slope, clamp):
    value = tl.where(value > 0, value, value * slope)
    return tl.minimum(tl.maximum(value, -clamp), clamp)


@triton.jit(do_not_specialize=_SIZES)
def _finish_forward(
    x, factor, noise, bias, after, out, pixels, channels, noise_step, gain, slope, clamp,
    styled: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = _place(1, tile, wide)
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


@triton.jit(do_not_specialize=_SIZES)
def _finish_backward(
    gradient, y, factor, noise, bias, after, out, sums, style_sums, pixels, channels, noise_step,
    tiles, gain, slope, clamp, styled: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = _place(tiles, tile, wide)
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


@triton.jit(do_not_specialize=_SIZES)
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
            fourth += _tap(k) * seen.to(tl.float32)
        if i > 2:
            row = top + i - 3 + tl.zeros((tile,), tl.int32)
            is_in = (row < height) & (columns < width)
            value = _tap(0) * first + _tap(1) * second + _tap(2) * third + _tap(3) * fourth
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


@triton.jit
def _tap(i: tl.constexpr):
    """Of the filter that a transposed convolution needs, in one dimension: its sum is 2."""
    return 0.25 if i % 3 == 0 else 0.75


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
        x, factor = _channels_last(x), factor.float().contiguous()
        noise, bias = noise.float().contiguous(), bias.float()
        styled = after is not None
        after = factor if after is None else after.float().contiguous()
        n, channels, height, width = x.shape
        if blur:
            height, width = height - 1, width - 1
        step = 0 if len(noise) == 1 else height * width
        out = _empty(x, n, channels, height, width)
        numbers = gain, slope, clamp
        if blur:
            grid, strip = _strips(out)
            _blur[grid](
                x, factor, noise, bias, after, out, height + 1, width + 1, height, width, channels,
                step, *numbers, 1, True, styled, *strip,
            )  # fmt: skip
        else:
            grid, tile = _grid(x)
            _finish_forward[grid](
                x, factor, noise, bias, after, out, _pixels(x), channels, step, *numbers, styled,
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
        tiles = _tiles(y)
        grid, tile = _grid(y, tiles)
        sums = _sums(y, grid[0])
        style_sums = _sums(y, grid[0]) if context.styled else sums
        _finish_backward[grid](
            _channels_last(gradient), y, factor, noise, bias, after, out, sums, style_sums,
            _pixels(y), channels, context.step, tiles, *context.numbers, context.styled, *tile,
        )  # fmt: skip
        if context.blur:
            unblurred = _empty(y, n, channels, height + 1, width + 1)
            grid, strip = _strips(unblurred)
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


# ---- colours -----------------------------------------------------------------------------------


@triton.jit(do_not_specialize=_SIZES)
def _colours_forward(
    x, weights, bias, below, out, height, width, channels, clamp, adds: tl.constexpr,
    colours: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = _place(1, tile, wide)
    pixels = height * width
    x += n * pixels * channels
    out += n * colours * pixels
    below += n * colours * (pixels // 4)
    is_channel, is_pixel = c < channels, p < pixels
    at = p[:, None] * channels + c[None, :]
    value = tl.load(x + at, mask=is_pixel[:, None] & is_channel[None, :], other=0).to(tl.float32)
    row, column = p // width, p % width
    # Of the filter's taps on pixels that are spread two are not on a zero: the near one and a far.
    near_row, near_column = row // 2, column // 2
    far_row, far_column = near_row + 2 * (row % 2) - 1, near_column + 2 * (column % 2) - 1
    for k in tl.static_range(colours):
        weight = tl.load(weights + (n * colours + k) * channels + c, mask=is_channel, other=0)
        mixed = tl.sum(value * weight[None, :], axis=1) + tl.load(bias + k)
        mixed = tl.minimum(tl.maximum(mixed, -clamp), clamp)
        if adds:
            image = below + k * (pixels // 4)
            for i in tl.static_range(4):
                y = far_row if i // 2 else near_row
                z = far_column if i % 2 else near_column
                share = (0.25 if i // 2 else 0.75) * (0.25 if i % 2 else 0.75)
                is_in = is_pixel & (y >= 0) & (y < height // 2) & (z >= 0) & (z < width // 2)
                mixed += share * tl.load(image + y * (width // 2) + z, mask=is_in, other=0)
        tl.store(out + k * pixels + p, mixed, mask=is_pixel)


@triton.jit(do_not_specialize=_SIZES)
def _colours_backward(
    gradient, x, weights, bias, out, sums, pixels, channels, tiles, clamp, clamps: tl.constexpr,
    colours: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = _place(tiles, tile, wide)
    gradient += n * colours * pixels
    x += n * pixels * channels
    out += n * pixels * channels
    is_channel = c < channels
    row = n * tl.num_programs(0) + tl.program_id(0)
    first = tl.zeros((tile, wide), tl.float32)
    second = tl.zeros((tile, wide), tl.float32)
    third = tl.zeros((tile, wide), tl.float32)
    for _ in range(tiles):
        is_pixel = p < pixels
        mask = is_pixel[:, None] & is_channel[None, :]
        at = p[:, None] * channels + c[None, :]
        value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
        back = tl.zeros((tile, wide), tl.float32)
        for k in tl.static_range(colours):
            to = (n * colours + k) * channels + c
            weight = tl.load(weights + to, mask=is_channel, other=0)[None, :]
            g = tl.load(gradient + k * pixels + p, mask=is_pixel, other=0)
            if clamps:
                mixed = tl.sum(value * weight, axis=1) + tl.load(bias + k)
                g = tl.where(tl.abs(mixed) < clamp, g, 0.0)
            back += g[:, None] * weight
            if k == 0:
                first += g[:, None] * value
            elif k == 1:
                second += g[:, None] * value
            else:
                third += g[:, None] * value
        tl.store(out + at, back, mask=mask)
        p += tile
    to = sums + row * colours * channels + c
    tl.store(to, tl.sum(first, axis=0), mask=is_channel)
    if colours > 1:
        tl.store(to + channels, tl.sum(second, axis=0), mask=is_channel)
        tl.store(to + 2 * channels, tl.sum(third, axis=0), mask=is_channel)


@triton.jit(do_not_specialize=_SIZES)
def _shrink(gradient, out, height, width, tile: tl.constexpr):
    """What doubling an image by the [1 3 3 1] filter passes back; height, width: of the result."""
    p = tl.program_id(0) * tile + tl.arange(0, tile)
    row, column = p // width, p % width
    image = tl.program_id(1).to(tl.int64)
    gradient += image * 4 * height * width
    value = tl.zeros((tile,), tl.float32)
    for i in tl.static_range(4):
        for k in tl.static_range(4):
            y, z = 2 * row + i - 1, 2 * column + k - 1
            is_in = (row < height) & (y >= 0) & (y < 2 * height) & (z >= 0) & (z < 2 * width)
            value += _tap(i) * _tap(k) * tl.load(gradient + y * 2 * width + z, mask=is_in, other=0)
    tl.store(out + image * height * width + p, value, mask=row < height)


class _Colours(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        weights: Tensor,
        bias: Tensor,
        below: Tensor | None,
        clamp: float,
    ) -> Tensor:
        x, weights, bias = _channels_last(x), weights.float().contiguous(), bias.float()
        n, channels, height, width = x.shape
        out = x.new_empty((n, weights.shape[1], height, width), dtype=torch.float32)
        grid, tile = _grid(x, together=channels)
        adds = below is not None
        _colours_forward[grid](
            x, weights, bias, below.float().contiguous() if below is not None else out, out, height,
            width, channels, clamp, adds, weights.shape[1], *tile,
        )  # fmt: skip
        context.save_for_backward(x, weights, bias)
        context.adds, context.clamp = adds, clamp
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, bias = context.saved_tensors
        n, channels, height, width = x.shape
        colours = weights.shape[1]
        gradient, out, tiles = gradient.float().contiguous(), torch.empty_like(x), _tiles(x)
        grid, tile = _grid(x, tiles, together=channels)
        sums = x.new_empty((n, grid[0], colours, channels), dtype=torch.float32)
        _colours_backward[grid](
            gradient, x, weights, bias, out, sums, _pixels(x), channels, tiles, context.clamp,
            context.clamp < math.inf, colours, *tile,
        )  # fmt: skip
        below = None
        if context.adds:
            below = gradient.new_empty((n, colours, height // 2, width // 2))
            strips = (triton.cdiv(_pixels(below), _TILE // 4), n * colours)
            _shrink[strips](gradient, below, height // 2, width // 2, _TILE // 4)
        return out, sums.sum(dim=1), None, below, None


def colours(
    x: Tensor, weights: Tensor, bias: Tensor, below: Tensor | None, clamp: float | None
) -> Tensor:
    """Features mixed to colours `[n 3 h w]` in float32, by each image's own weights `[n 3 c]`, with
    a bias `[3]`, clamped; added to an image `[n 3 h/2 w/2]` at twice its size. One colour or three.
    """
    return _Colours.apply(x, weights, bias, below, math.inf if clamp is None else clamp)


# ---- LPIPS -------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=_SIZES)
def _apart_forward(
    x, target, weights, sums, pixels, channels, eps, tile: tl.constexpr, wide: tl.constexpr
):
    n, c, p = _place(1, tile, wide)
    x += n * pixels * channels
    target += n * pixels * channels
    mask = (p < pixels)[:, None] & (c < channels)[None, :]
    at = p[:, None] * channels + c[None, :]
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
    weight = tl.load(weights + c, mask=c < channels, other=0)[None, :]
    value *= tl.rsqrt(tl.sum(value * value, axis=1) + eps)[:, None]
    difference = value - tl.load(target + at, mask=mask, other=0).to(tl.float32)
    total = tl.sum(tl.sum(weight * difference * difference, axis=1), axis=0)
    tl.store(sums + n * tl.num_programs(0) + tl.program_id(0), total)


@triton.jit(do_not_specialize=_SIZES)
def _apart_backward(
    gradient, x, target, weights, out, pixels, channels, eps, tile: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    n, c, p = _place(1, tile, wide)
    x += n * pixels * channels
    target += n * pixels * channels
    out += n * pixels * channels
    mask = (p < pixels)[:, None] & (c < channels)[None, :]
    at = p[:, None] * channels + c[None, :]
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
    weight = tl.load(weights + c, mask=c < channels, other=0)[None, :]
    length = tl.rsqrt(tl.sum(value * value, axis=1) + eps)[:, None]
    value *= length
    difference = value - tl.load(target + at, mask=mask, other=0).to(tl.float32)
    g = 2 * tl.load(gradient + n) / pixels * weight * difference
    g = length * (g - value * tl.sum(g * value, axis=1)[:, None])
    tl.store(out + at, g, mask=mask)


class _Apart(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, target: Tensor, weights: Tensor, eps: float) -> Tensor:
        x, target = _channels_last(x), _channels_last(target)
        grid, tile = _grid(x, together=x.shape[1])
        sums = x.new_empty((len(x), grid[0]), dtype=torch.float32)
        _apart_forward[grid](x, target, weights, sums, _pixels(x), x.shape[1], eps, *tile)
        context.save_for_backward(x, target, weights)
        context.eps = eps
        return sums.sum(dim=1) / _pixels(x)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        x, target, weights = context.saved_tensors
        out = torch.empty_like(x)
        grid, tile = _grid(x, together=x.shape[1])
        _apart_backward[grid](
            gradient.contiguous(), x, target, weights, out, _pixels(x), x.shape[1], context.eps,
            *tile,
        )  # fmt: skip
        return out, None, None, None


def apart(x: Tensor, target: Tensor, weights: Tensor, eps: float) -> Tensor:
    """How far features `[n c h w]`, normalised over channels here, are from features that are
    already: the weighted sum of squares over channels `[c]`, its mean over pixels `[n]`.
    """
    return _Apart.apply(x, target, weights, eps)


# ---- tiles -------------------------------------------------------------------------------------


@triton.jit
def _place(tiles, tile: tl.constexpr, wide: tl.constexpr):
    """Image, channels and first pixels of a program."""
    p = tl.program_id(0) * tiles * tile + tl.arange(0, tile)
    c = tl.program_id(1) * wide + tl.arange(0, wide)
    return tl.program_id(2).to(tl.int64), c, p


def _grid(
    x: Tensor, tiles: int = 1, *, together: int = 0
) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Programs, and the (pixels, channels) of a tile, for features `[n c h w]`.

    tiles: of each program. together: so many channels are in one tile at least.
    """
    wide = triton.next_power_of_2(max(16, min(x.shape[1], max(together, _MOST_CHANNELS))))
    tile = max(8, _TILE // wide)
    programs = triton.cdiv(_pixels(x), tile * tiles)
    return (programs, triton.cdiv(x.shape[1], wide), len(x)), (tile, wide)


def _tiles(x: Tensor) -> int:
    """Of each program that adds up."""
    return max(1, min(_MOST_TILES, x.numel() // (_TILE * _PROGRAMS)))


def _strips(out: Tensor) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Programs, and the (rows, columns, channels) of each, for results `[n c h w]`."""
    tile, wide = _STRIP
    strips = triton.cdiv(out.shape[2], _ROWS) * triton.cdiv(out.shape[3], tile)
    return (strips, triton.cdiv(out.shape[1], wide), len(out)), (_ROWS, tile, wide)


def _empty(like: Tensor, *size: int) -> Tensor:
    return torch.empty(
        size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _sums(x: Tensor, programs: int) -> Tensor:
    """Room for what each program adds up of an image's channels: `[n programs c]`."""
    return x.new_empty((len(x), programs, x.shape[1]), dtype=torch.float32)


def _pixels(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
