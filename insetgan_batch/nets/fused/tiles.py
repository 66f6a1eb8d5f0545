"""What the kernels share: how features are divided among programs, and the upsampling filter."""

# What Triton compiles has arguments without types; and a gradient is no method of Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,untyped-decorator,no-any-return"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

TILE = 2048  # elements of a tile, so that several programs are under way on each processor
_MOST_CHANNELS = 128  # of a tile
_MOST_TILES = 16  # of a program that adds up: more tiles, fewer sums
_PROGRAMS = 2048  # that keep a GPU busy
_ROWS = 4  # of a strip that is filtered: more rows, fewer rows that two strips read
_STRIP = (32, 32)  # columns and channels of a strip
# Compile once for all sizes, not anew for each that is a multiple of 16 or 1.
SIZES = ["pixels", "tiles", "height", "width", "height_in", "width_in", "noise_step"]


@triton.jit
def tap(i: tl.constexpr):
    """The [1 3 3 1] filter of the upsampling convolution, in one dimension: its sum is 2."""
    return 0.25 if i % 3 == 0 else 0.75


@triton.jit
def place(tiles, tile: tl.constexpr, wide: tl.constexpr):
    """Image, channels and first pixels of a program."""
    p = tl.program_id(0) * tiles * tile + tl.arange(0, tile)
    c = tl.program_id(1) * wide + tl.arange(0, wide)
    return tl.program_id(2).to(tl.int64), c, p


def tile_grid(
    x: Tensor, tiles: int = 1, *, together: int = 0
) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Programs, and the (pixels, channels) of a tile, for features `[n c h w]`.

    tiles: of each program. together: so many channels are in one tile at least.
    """
    wide = triton.next_power_of_2(max(16, min(x.shape[1], max(together, _MOST_CHANNELS))))
    tile = max(8, TILE // wide)
    programs = triton.cdiv(pixels_of(x), tile * tiles)
    return (programs, triton.cdiv(x.shape[1], wide), len(x)), (tile, wide)


def tile_count(x: Tensor) -> int:
    """How many tiles a program that adds up goes through."""
    return max(1, min(_MOST_TILES, x.numel() // (TILE * _PROGRAMS)))


def strip_grid(out: Tensor) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Programs, and the (rows, columns, channels) of each, for results `[n c h w]`."""
    tile, wide = _STRIP
    strips = triton.cdiv(out.shape[2], _ROWS) * triton.cdiv(out.shape[3], tile)
    return (strips, triton.cdiv(out.shape[1], wide), len(out)), (_ROWS, tile, wide)


def empty(like: Tensor, *size: int) -> Tensor:
    """Uninitialised features `[n c h w]` with the channels innermost in memory."""
    return torch.empty(
        size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def empty_sums(x: Tensor, programs: int) -> Tensor:
    """Uninitialised sums over pixels, by image, program and channel: `[n programs c]`."""
    return x.new_empty((len(x), programs, x.shape[1]), dtype=torch.float32)


def pixels_of(x: Tensor) -> int:
    """Of each image of features `[n c h w]`."""
    return x.shape[2] * x.shape[3]


def channels_last(x: Tensor) -> Tensor:
    """The same features with the channels innermost in memory."""
    return x.contiguous(memory_format=torch.channels_last)
