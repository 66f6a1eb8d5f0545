"""Features to colours, added to an image of half the size: one Triton kernel for each direction.

Memory layout, types and sums are those of `features.py`.
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
    TILE,
    channels_last,
    pixels_of,
    place,
    tap,
    tile_count,
    tile_grid,
)


@triton.jit(do_not_specialize=SIZES)
def _colours_forward(
    x, weights, bias, below, out, height, width, channels, clamp, adds: tl.constexpr,
    colours: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = place(1, tile, wide)
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


@triton.jit(do_not_specialize=SIZES)
def _colours_backward(
    gradient, x, weights, bias, out, sums, pixels, channels, tiles, clamp, clamps: tl.constexpr,
    colours: tl.constexpr, tile: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    n, c, p = place(tiles, tile, wide)
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


@triton.jit(do_not_specialize=SIZES)
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
            value += tap(i) * tap(k) * tl.load(gradient + y * 2 * width + z, mask=is_in, other=0)
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
        x, weights, bias = channels_last(x), weights.float().contiguous(), bias.float()
        n, channels, height, width = x.shape
        out = x.new_empty((n, weights.shape[1], height, width), dtype=torch.float32)
        grid, tile = tile_grid(x, together=channels)
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
        gradient, out, tiles = (
            gradient.float().contiguous(),
            torch.empty_like(x),
            tile_count(x),
        )
        grid, tile = tile_grid(x, tiles, together=channels)
        sums = x.new_empty((n, grid[0], colours, channels), dtype=torch.float32)
        _colours_backward[grid](
            gradient, x, weights, bias, out, sums, pixels_of(x), channels, tiles, context.clamp,
            context.clamp < math.inf, colours, *tile,
        )  # fmt: skip
        below = None
        if context.adds:
            below = gradient.new_empty((n, colours, height // 2, width // 2))
            strips = (triton.cdiv(pixels_of(below), TILE // 4), n * colours)
            _shrink[strips](gradient, below, height // 2, width // 2, TILE // 4)
        return out, sums.sum(dim=1), None, below, None


def colours(
    x: Tensor, weights: Tensor, bias: Tensor, below: Tensor | None, clamp: float | None
) -> Tensor:
    """Features mixed to colours `[n 3 h w]` in float32, by each image's own weights `[n 3 c]`, with
    a bias `[3]`, clamped; added to an image `[n 3 h/2 w/2]` at twice its size. One colour or three.
    """
    return _Colours.apply(x, weights, bias, below, math.inf if clamp is None else clamp)
