"""Rendered people as photographs: scenes that no demo generator was trained on.

A person of a seed that was never trained on is drawn large, in half length, and photographed: the
camera may be turned, nearer or further away, and not point at the face. Needs `pip install
insetgan-batch[people]`.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image

from insetgan_batch.people.person import Z_DIM, Person
from insetgan_batch.people.renderer import PeopleRenderer

FIRST_SEED = 3_000_000  # the training's are 1,000,000 to 1,005,999
SIZE = 512
_DRAWN = (2048, 1024)
_SHOWN = 3.2  # heights of the face, in the width of an unmoved photograph


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """How a photograph differs from the unmoved one: turned clockwise, enlarged, shifted by shares
    of its side.
    """

    degrees: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Where points `[n 2]` of the unmoved photograph are in this one."""
        middle = SIZE / 2
        angle = math.radians(self.degrees)
        turn = self.scale * np.array(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
        moved: np.ndarray = (points - middle) @ turn.T + middle + SIZE * np.array(self.shift)
        return moved


class Camera:
    """Photographs people; starting takes a minute."""

    def __init__(self) -> None:
        self._renderer = PeopleRenderer()
        self._last: tuple[int, Image.Image, tuple[float, float, float]] | None = None

    def photograph(self, seed: int, move: Move = Move()) -> Image.Image:
        """An RGB picture of SIZE pixels."""
        drawn, (x, y, side) = self._drawn(seed)
        corners = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]) * SIZE
        # From here back to the drawing: the affine map that these three corners determine.
        origin, right, down = (_unmoved(move, corner) for corner in corners)
        factor = side / SIZE
        a, d = (right - origin) / SIZE * factor
        b, e = (down - origin) / SIZE * factor
        c, f = origin * factor + (x, y)
        fine = 2 * SIZE
        sampled = drawn.transform(
            (fine, fine),
            Image.Transform.AFFINE,
            (a / 2, b / 2, c, d / 2, e / 2, f),
            Image.Resampling.BICUBIC,
            fillcolor=drawn.getpixel((4, 4)),
        )
        return sampled.resize((SIZE, SIZE), Image.Resampling.BOX)

    def whole(self, seed: int) -> Image.Image:
        """The whole person, as the demo's canvas is trained on: 256x128."""
        person = Person.from_z(np.random.RandomState(seed).randn(Z_DIM))
        return Image.fromarray(self._renderer.render(person, (256, 128)).rgb)

    def _drawn(self, seed: int) -> tuple[Image.Image, tuple[float, float, float]]:
        """The person, large, and the square that an unmoved photograph shows: x, y, side."""
        if self._last is None or self._last[0] != seed:
            person = Person.from_z(np.random.RandomState(seed).randn(Z_DIM))
            picture = self._renderer.render(person, _DRAWN, supersampling=1)
            x0, y0, x1, y1 = picture.face_box
            side = _SHOWN * (y1 - y0)
            square = ((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side)
            self._last = seed, Image.fromarray(picture.rgb), square
        return self._last[1], self._last[2]


def _unmoved(move: Move, point: np.ndarray) -> np.ndarray:
    """The inverse of a move, of one point."""
    middle = SIZE / 2
    angle = math.radians(-move.degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    offset = point - middle - SIZE * np.array(move.shift)
    back: np.ndarray = turn @ offset / move.scale + middle
    return back
