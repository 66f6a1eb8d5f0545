"""Ambient occlusion: the share of the sky that each vertex of a mesh sees.

It is what makes eye sockets, nostrils and the underside of the chin dark. It is baked once, on the
mean adult.
"""

import numpy as np

from insetgan_batch.people.raster import Array, normalize, rasterize, vertex_normals

_DIRECTIONS = 48
_SIDE_PX = 420
_HEAD_ABOVE_M = 0.5
_HEAD_WINDOW_M = 0.42
_BODY_WINDOW_M = 1.9
_TOLERANCE_M = 0.004  # how far behind the nearest surface still counts as seen


def bake_occlusion(points: Array, triangles: Array) -> Array:
    """The seen share (0 to 1) of each point; the head is looked at through a window of its own."""
    normals = vertex_normals(points, triangles)
    head = points[:, 2] > _HEAD_ABOVE_M
    seen, total = np.zeros(len(points)), np.zeros(len(points))
    for direction in _sky():
        facing = np.maximum(normals @ direction, 0)
        for region, metres in ((head, _HEAD_WINDOW_M), (~head, _BODY_WINDOW_M)):
            seen += facing * region * _visible_from(direction, points, triangles, region, metres)
            total += facing * region
    return np.clip(seen / np.maximum(total, 1e-6), 0, 1)


def _sky() -> Array:
    """Directions spread evenly over the sky and somewhat below the horizon. [n 3]"""
    i = np.arange(_DIRECTIONS) + 0.5
    z = 1 - 1.6 * i / _DIRECTIONS
    turn = np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - z**2)
    return np.stack([np.cos(turn) * flat, np.sin(turn) * flat, z], 1)


def _visible_from(
    direction: Array, points: Array, triangles: Array, region: Array, metres: float
) -> Array:
    """Whether each point is the nearest thing seen from far away in that direction."""
    right = normalize(np.cross([0, 0, 1.0], direction))
    x, y, depth = points @ right, points @ np.cross(direction, right), -(points @ direction)
    centre = [(a[region].min() + a[region].max()) / 2 for a in (x, y)]
    xy = np.stack([x - centre[0], centre[1] - y], 1) * (_SIDE_PX / metres) + _SIDE_PX / 2
    every = np.ones(len(triangles), bool)
    hits = rasterize(xy, depth, triangles, (_SIDE_PX, _SIDE_PX), two_sided=every)
    nearest = np.full(_SIDE_PX * _SIDE_PX, np.inf)
    nearest[hits.pixels] = hits.depth
    column, row = np.floor(xy).astype(int).clip(0, _SIDE_PX - 1).T
    return np.asarray(depth <= nearest[row * _SIDE_PX + column] + _TOLERANCE_M)
