"""A z-buffer in numpy, and the small vector functions that drawing needs.

Every candidate pixel of every triangle is tested at once; the nearest hit of a pixel is found by
writing all hits in the order of falling depth, so that the last write wins.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest surface point of each covered pixel."""

    pixels: Array  # [n] flat index, row * width + column
    triangles: Array  # [n] index of the triangle that was hit
    barycentrics: Array  # [n 3]
    depth: Array  # [n]
    from_behind: Array  # [n] whether the back of a two-sided triangle was hit


def rasterize(
    xy_px: Array,
    depth: Array,
    triangles: Array,
    size: tuple[int, int],
    *,
    keep: Array | None = None,
    two_sided: Array | None = None,
) -> Hits:
    """Draw triangles into a frame of size (height, width).

    `keep` holds one number per vertex: where its interpolated value is negative the surface is cut
    away before the depth test (collars, cuffs, hems). Triangles that turn their back are left out
    unless they are `two_sided`.
    """
    height, width = size
    a, b, c = (xy_px[triangles[:, corner]] for corner in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    first = np.ceil(np.minimum(np.minimum(a, b), c) - 0.5).astype(np.int64).clip(0)
    last = np.floor(np.maximum(np.maximum(a, b), c) - 0.5).astype(np.int64)
    extent = (np.minimum(last, [width - 1, height - 1]) - first + 1).clip(0)
    facing = area < 0  # anticlockwise with y up is a negative area with y down
    drawn = facing if two_sided is None else facing | two_sided
    count = np.where(drawn & (np.abs(area) > 1e-9), extent[:, 0] * extent[:, 1], 0)

    index = np.repeat(np.arange(len(triangles)), count)
    offset = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
    row = offset // extent[index, 0]
    column = offset - row * extent[index, 0] + first[index, 0]
    row = row + first[index, 1]
    inverse = 1 / np.where(area == 0, 1, area)
    weight_a = _edge(b, c, inverse, index, column + 0.5, row + 0.5)
    weight_b = _edge(c, a, inverse, index, column + 0.5, row + 0.5)
    weight_c = 1 - weight_a - weight_b
    inside = np.flatnonzero((weight_a >= 0) & (weight_b >= 0) & (weight_c >= 0))
    index, pixel = index[inside], (row * width + column)[inside]
    weights = np.stack([weight_a[inside], weight_b[inside], weight_c[inside]], 1)
    if keep is not None:
        kept = np.flatnonzero(interpolate(keep, triangles[index], weights) >= 0)
        index, weights, pixel = index[kept], weights[kept], pixel[kept]
    hit_depth = interpolate(depth, triangles[index], weights)

    far_to_near = np.argsort(-hit_depth, kind="stable")
    nearest = np.full(height * width, -1, np.int64)
    nearest[pixel[far_to_near]] = far_to_near
    covered = np.flatnonzero(nearest >= 0)
    hit = nearest[covered]
    index = index[hit]
    return Hits(covered, index, weights[hit], hit_depth[hit], ~facing[index])


def _edge(start: Array, end: Array, inverse: Array, index: Array, x: Array, y: Array) -> Array:
    """The barycentric weight of the corner opposite to an edge, at the points (x, y)."""
    by_x = (start[:, 1] - end[:, 1]) * inverse
    by_y = (end[:, 0] - start[:, 0]) * inverse
    constant = (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]) * inverse
    return np.asarray(by_x[index] * x + by_y[index] * y + constant[index])


def interpolate(values: Array, corners: Array, weights: Array) -> Array:
    """Values of vertices (one or several numbers each) at points inside triangles."""
    a, b, c = weights.T if values.ndim == 1 else weights.T[..., None]
    return np.asarray(
        a * values[corners[:, 0]] + b * values[corners[:, 1]] + c * values[corners[:, 2]]
    )


def smooth(start: float, end: float, x: ArrayLike) -> Array:
    """0 before `start`, 1 after `end`, a cubic S between; `start` may be the larger one."""
    t = np.clip((np.asarray(x) - start) / (end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def mix(first: ArrayLike, second: ArrayLike, amount: ArrayLike) -> Array:
    """`first` where amount is 0, `second` where it is 1; a per-pixel amount mixes colours."""
    first, amount = np.asarray(first), np.asarray(amount)
    if amount.ndim == 1 and first.ndim == 2:
        amount = amount[:, None]
    return np.asarray(first * (1 - amount) + np.asarray(second) * amount)


def normalize(vectors: Array) -> Array:
    """Vectors of length one; the zero vector stays zero."""
    length = np.sqrt(dot(vectors, vectors))
    return np.asarray(vectors / (length[..., None] + 1e-9))


def dot(first: Array, second: Array) -> Array:
    """Products of vectors, or of each vector with one."""
    x, y, z = (first[..., i] * second[..., i] for i in range(3))
    return np.asarray(x + y + z)


def vertex_normals(points: Array, triangles: Array) -> Array:
    """The area-weighted mean normal of the triangles around each vertex."""
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    faces = np.cross(b - a, c - a)
    corners = triangles.ravel()
    sums = [np.bincount(corners, np.repeat(faces[:, i], 3), len(points)) for i in range(3)]
    return normalize(np.stack(sums, 1))


def wave_noise(points: Array, seed: int) -> Array:
    """Cheap smooth noise in [-1, 1]: five sines along fixed directions, which the seed chooses."""
    rng = np.random.default_rng(seed)
    total = np.zeros(len(points))
    for _ in range(5):
        total += np.sin(points @ rng.normal(size=3) + rng.uniform(0, 2 * np.pi))
    return total / 5
