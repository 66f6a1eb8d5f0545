"""The colours of a person, from the parameters of shape and appearance.

Clothes and backdrops are mixed in OKLab, where two numbers of colour stand beside one of lightness:
unlike a hue they have no seam where red meets red. Skin, hair and eyes run along lists of natural
colours.
"""

from dataclasses import dataclass

import numpy as np

from insetgan_batch.people.person import Person
from insetgan_batch.people.raster import Array, mix, smooth

_SKIN_RAMP = np.array(  # light to dark
    [[244, 208, 184], [230, 184, 152], [200, 147, 109], [152, 102, 71], [94, 62, 46]]
)
_HAIR_RAMP = np.array(  # black, dark brown, brown, light brown, blond
    [[30, 24, 23], [52, 35, 26], [92, 60, 38], [146, 104, 62], [214, 176, 116]]
)
_IRIS_RAMP = np.array(  # dark brown, brown, green, blue
    [[58, 37, 24], [82, 60, 36], [92, 104, 72], [98, 128, 146]]
)


@dataclass(frozen=True, slots=True)
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
    def of(cls, person: Person) -> "Palette":
        """Of the appearance; lips, lashes and beard follow the femininity too."""
        appearance, femininity = person.appearance, person.shape.femininity
        skin = _skin(person)
        lipstick = femininity * _upper(0.35, appearance.lip_colour)
        top = np.array([appearance.top_lightness, appearance.top_red, appearance.top_yellow])
        return cls(
            skin=skin,
            hair=_hair(person),
            lips=mix(skin * [0.94, 0.66, 0.62], np.array([0.70, 0.20, 0.26]), 0.85 * lipstick),
            iris=_iris(person),
            top=oklab(*top),
            stripe=oklab(*_stripe(top, appearance.stripes)),
            trousers=_trousers(appearance.trousers_lightness, appearance.trousers_yellow),
            skirt=_hue(appearance.skirt_lightness, 0.10, appearance.skirt_hue),
            shoe=oklab(
                appearance.shoe_lightness, 0.4 * appearance.shoe_yellow, appearance.shoe_yellow
            ),
            beard=(1 - femininity) * 0.85 * _upper(0.45, appearance.beard),
            belt=_upper(0.5, appearance.belt),
            lashes=femininity,
        )


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


def _skin(person: Person) -> Array:
    tone = np.dot(person.shape.ancestry, [0.82, 0.34, 0.14]) + person.appearance.skin_tone
    return _along(_SKIN_RAMP, float(tone))


def _hair(person: Person) -> Array:
    """Fair and red hair come with European ancestry, grey hair with age."""
    appearance = person.appearance
    european = smooth(0.15, 0.7, person.shape.ancestry[2])
    colour = _along(_HAIR_RAMP, float(appearance.hair_tone * (0.35 + 0.65 * european)))
    auburn = 0.6 * _upper(0.55, appearance.hair_red) * european
    colour = mix(colour, np.array([0.52, 0.22, 0.10]), auburn)
    grey = 0.80 * smooth(0.84, 0.92, person.shape.age)
    return mix(colour, np.array([0.66, 0.65, 0.64]), grey)


def _iris(person: Person) -> Array:
    light = person.appearance.eye_tone * float(smooth(0.2, 0.8, person.shape.ancestry[2]))
    return _along(_IRIS_RAMP, light)


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
