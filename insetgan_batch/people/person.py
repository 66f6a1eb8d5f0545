"""A person as numbers: shape, pose and appearance, each parameter with its own entry of z.

Every parameter acts continuously on the picture, so that a small network can learn z -> picture.
There are no styles to choose from: short hair is long hair of length zero, a plain top has stripes
of no contrast.

The order of z is the order in which the fields are declared: shape, then pose, then appearance.
Entries after the last field are ignored.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np

from insetgan_batch.people.raster import Array, smooth

Z_DIM = 64
_BELL_LIMIT = 2.2  # standard deviations; further out poses and faces stop looking natural


@dataclass(frozen=True, slots=True)
class Range:
    """How a standard normal number becomes a parameter."""

    low: float
    high: float
    unit: str
    bell: bool  # a clipped normal around the middle instead of a uniform number

    def value(self, u: float) -> float:
        """The parameter for a standard normal u."""
        if self.bell:
            share = 0.5 + 0.5 * max(-1.0, min(1.0, u / _BELL_LIMIT))
        else:
            share = 0.5 * (1 + math.erf(u / math.sqrt(2)))
        return self.low + (self.high - self.low) * share


def _uniform(low: float, high: float, unit: str) -> float:
    return _field(Range(low, high, unit, bell=False))


def _bell(mid: float, sigma: float, unit: str) -> float:
    reach = _BELL_LIMIT * sigma
    return _field(Range(mid - reach, mid + reach, unit, bell=True))


def _field(values: Range) -> float:
    """A field without default; the type checker has to take it for a number, as `field` itself."""
    declared: float = field(metadata={"range": values})
    return declared


@dataclass(frozen=True, slots=True)
class Shape:
    """What stays of a person in any pose and any clothes: body and face."""

    gender: float = _uniform(0, 1, "0 man, 1 woman; see femininity")
    age: float = _uniform(0.667, 0.93, "anny's age: 2/3 young adult, 1 old")
    height: float = _uniform(0.35, 0.85, "anny's height, 0 to 1")
    weight: float = _uniform(0.30, 0.75, "anny's weight, 0 to 1")
    muscle: float = _uniform(0.35, 0.75, "anny's muscle, 0 to 1")
    african: float = _bell(0, 2.0, "logit of the ancestry weight")
    asian: float = _bell(0, 2.0, "logit of the ancestry weight")
    european: float = _bell(0, 2.0, "logit of the ancestry weight")
    nose_width: float = _bell(0, 0.35, "morph, -1 to 1")
    nose_length: float = _bell(0, 0.35, "morph, -1 to 1")
    nose_bridge: float = _bell(0, 0.35, "morph, -1 snub to 1 hooked")
    chin_height: float = _bell(0, 0.30, "morph, -1 to 1")
    jaw_width: float = _bell(0, 0.35, "morph, -1 to 1")
    mouth_width: float = _bell(0, 0.30, "morph, -1 to 1")
    lip_fullness: float = _bell(0, 0.35, "morph, -1 to 1")
    eye_size: float = _bell(0.05, 0.28, "morph, -1 to 1")
    eye_spacing: float = _bell(0, 0.30, "morph, -1 to 1")
    brow_height: float = _bell(0, 0.35, "morph, -1 to 1")
    cheekbones: float = _bell(0, 0.35, "morph, -1 to 1")
    head_width: float = _bell(0, 0.30, "morph, -1 to 1")

    @property
    def femininity(self) -> float:
        """0 man, 1 woman; the S-curve leaves few people between."""
        return float(smooth(0.34, 0.66, self.gender))

    @property
    def ancestry(self) -> tuple[float, float, float]:
        """The weights (african, asian, european), which sum to one."""
        powers = np.exp([self.african, self.asian, self.european])
        african, asian, european = (powers / powers.sum()).tolist()
        return african, asian, european


@dataclass(frozen=True, slots=True)
class Pose:
    """How the person stands and looks."""

    yaw: float = _bell(0, 7, "degrees, the whole body")
    head_turn: float = _bell(0, 5, "degrees, to the person's left")
    head_nod: float = _bell(0, 2.5, "degrees, down")
    arm_left: float = _bell(23, 3.2, "degrees below anny's A-pose")
    arm_right: float = _bell(23, 3.2, "degrees below anny's A-pose")
    elbow_left: float = _bell(24, 8, "degrees straighter than at rest")
    elbow_right: float = _bell(24, 8, "degrees straighter than at rest")
    lean: float = _bell(0, 1.4, "degrees, sideways")
    twist: float = _bell(0, 2.5, "degrees, the chest against the hips")
    stance: float = _bell(2.5, 1.2, "degrees, each leg inward from rest")
    step: float = _bell(0, 3, "degrees, left leg forward and right leg back")
    smile: float = _uniform(0.1, 0.8, "facial action, 0 to 1")


@dataclass(frozen=True, slots=True)
class Appearance:
    """Skin, hair, clothes, light and background."""

    skin_tone: float = _bell(0, 0.09, "added to the tone of the ancestry, 0 light to 1 dark")
    hair_tone: float = _uniform(0, 1, "0 black, 1 as fair as the ancestry allows")
    hair_red: float = _uniform(0, 1, "auburn; visible in the upper half")
    hair_length: float = _uniform(0, 1, "0 cropped, 1 down to the chest; shorter for men")
    hair_volume: float = _uniform(0, 1, "0 flat, 1 thick")
    hair_curl: float = _uniform(0, 1, "0 straight, 1 curly")
    bangs: float = _uniform(0, 1, "fringe over the forehead; visible in the upper half")
    beard: float = _uniform(0, 1, "visible in the upper half, and on men only")
    lip_colour: float = _uniform(0, 1, "lipstick; visible in the upper part, and on women only")
    brow_thickness: float = _uniform(0.0029, 0.0048, "metres")
    eye_tone: float = _uniform(0, 1, "0 brown, 1 as light as the ancestry allows")
    top_lightness: float = _uniform(0.36, 0.86, "OKLab L")
    top_red: float = _uniform(-0.14, 0.16, "OKLab a, green to red")
    top_yellow: float = _uniform(-0.16, 0.14, "OKLab b, blue to yellow")
    stripes: float = _uniform(-1, 1, "-1 dark stripes, 1 light stripes, none in the middle half")
    top_hem: float = _uniform(0.0, 0.10, "metres above the canonical hip")
    trousers_lightness: float = _uniform(0.28, 0.72, "OKLab L")
    trousers_yellow: float = _uniform(-0.11, 0.055, "OKLab b, denim to khaki")
    belt: float = _uniform(0, 1, "visible in the upper half")
    skirt_length: float = _uniform(0, 1, "visible in the upper part, and on women only")
    skirt_lightness: float = _uniform(0.30, 0.80, "OKLab L")
    skirt_hue: float = _uniform(-170, 60, "degrees in OKLab, teal over blue and red to orange")
    shoe_lightness: float = _uniform(0.18, 0.92, "OKLab L")
    shoe_yellow: float = _uniform(-0.03, 0.09, "OKLab b")
    backdrop_lightness: float = _uniform(0.74, 0.96, "OKLab L")
    backdrop_yellow: float = _uniform(-0.03, 0.018, "OKLab b, cool to warm")
    backdrop_fall: float = _uniform(0.02, 0.14, "OKLab L lost from top to bottom")
    light_side: float = _uniform(-0.75, 0.75, "where the light stands, against 1 to the front")
    light_height: float = _uniform(0.30, 0.95, "where the light stands, against 1 to the front")
    ambient: float = _uniform(0.46, 0.62, "light from everywhere")


Group = TypeVar("Group", Shape, Pose, Appearance)
N_SHAPE, N_POSE, N_APPEARANCE = (len(fields(group)) for group in (Shape, Pose, Appearance))
# The name of the parameter that each entry of z drives.
PARAMETERS = tuple(f.name for group in (Shape, Pose, Appearance) for f in fields(group))


@dataclass(frozen=True, slots=True)
class Person:
    """One clothed adult."""

    shape: Shape
    pose: Pose
    appearance: Appearance

    @classmethod
    def from_z(cls, z: Array) -> "Person":
        """The person of a latent; only its direction counts, as in StyleGAN2's mapping network."""
        z = np.asarray(z, np.float64)
        if z.shape != (Z_DIM,):
            raise ValueError(f"z has shape {z.shape}, expected ({Z_DIM},)")
        u = (z / np.sqrt(np.mean(z**2) + 1e-8)).tolist()
        pose_at, appearance_at = N_SHAPE, N_SHAPE + N_POSE
        return cls(
            _group(Shape, u[:pose_at]),
            _group(Pose, u[pose_at:appearance_at]),
            _group(Appearance, u[appearance_at : appearance_at + N_APPEARANCE]),
        )

    @classmethod
    def from_seeds(cls, shape: int, pose: int, appearance: int) -> "Person":
        """Each group from its own seed, so that one can change while the others stay."""
        return cls(
            _group(Shape, np.random.RandomState(shape).randn(N_SHAPE).tolist()),
            _group(Pose, np.random.RandomState(pose).randn(N_POSE).tolist()),
            _group(Appearance, np.random.RandomState(appearance).randn(N_APPEARANCE).tolist()),
        )


def seeds_to_z(seeds: Iterable[int]) -> Array:
    """z `[n 64]` of each seed, as `numpy.random.RandomState(seed).randn(1, z_dim)` gives it."""
    return np.concatenate([np.random.RandomState(seed).randn(1, Z_DIM) for seed in seeds])


def _group(kind: type[Group], u: Sequence[float]) -> Group:
    ranges: list[Range] = [f.metadata["range"] for f in fields(kind)]
    return kind(*(r.value(x) for r, x in zip(ranges, u, strict=True)))
