"""LPIPS of features against a target's: one Triton kernel for each direction.

Features are normalised and compared in one pass; `perceptual.py` has the same in torch's own
operations. Memory layout, types and sums are those of `features.py`.
"""

# What Triton compiles has arguments without types; and a gradient is no method of Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,untyped-decorator,no-any-return"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from typing import Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor
from torch.autograd.function import once_differentiable

from insetgan_batch.nets.fused.tiles import (
    SIZES,
    channels_last,
    pixels_of,
    place,
    tile_grid,
)


@triton.jit(do_not_specialize=SIZES)
def _apart_forward(
    x, target, weights, sums, pixels, channels, eps, tile: tl.constexpr, wide: tl.constexpr
):
    n, c, p = place(1, tile, wide)
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


@triton.jit(do_not_specialize=SIZES)
def _apart_backward(
    gradient, x, target, weights, out, pixels, channels, eps, tile: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    n, c, p = place(1, tile, wide)
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
        x, target = channels_last(x), channels_last(target)
        grid, tile = tile_grid(x, together=x.shape[1])
        sums = x.new_empty((len(x), grid[0]), dtype=torch.float32)
        _apart_forward[grid](x, target, weights, sums, pixels_of(x), x.shape[1], eps, *tile)
        context.save_for_backward(x, target, weights)
        context.eps = eps
        return sums.sum(dim=1) / pixels_of(x)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        x, target, weights = context.saved_tensors
        out = torch.empty_like(x)
        grid, tile = tile_grid(x, together=x.shape[1])
        _apart_backward[grid](
            gradient.contiguous(), x, target, weights, out, pixels_of(x), x.shape[1], context.eps,
            *tile,
        )  # fmt: skip
        return out, None, None, None


def apart(x: Tensor, target: Tensor, weights: Tensor, eps: float) -> Tensor:
    """How far features `[n c h w]`, normalised over channels here, are from features that are
    already: the weighted sum of squares over channels `[c]`, its mean over pixels `[n]`.
    """
    return _Apart.apply(x, target, weights, eps)
