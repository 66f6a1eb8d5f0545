"""The renderer draws a person into a picture, with exact masks, labels, joints and boxes.

    renderer = PeopleRenderer()
    person = Person.from_z(np.random.RandomState(7).randn(Z_DIM))
    body = renderer.render(person, (256, 128))
    face = renderer.render(person, (128, 128), view="face")
    shoes = renderer.render(person, (128, 128), view="shoes")

All views are windows into one scene: the face view shows the body's face enlarged, in the same
light. The body comes from `anny`, which is an optional extra: pip install insetgan-batch[people].

The demo's generators were trained on these pictures: whoever changes what a z looks like has to
train them again.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from insetgan_batch.people.body import BODY_END, TIGHTS_VERTICES
from insetgan_batch.people.figure import Figure, FigureMaker, Layer, Template
from insetgan_batch.people.labels import BodyPart
from insetgan_batch.people.paint import SHOE_TOP_M, Painter, load_masks
from insetgan_batch.people.palette import oklab
from insetgan_batch.people.person import Person
from insetgan_batch.people.raster import (
    Array,
    Hits,
    dot,
    interpolate,
    mix,
    normalize,
    rasterize,
    wave_noise,
)

View = Literal["body", "face", "shoes"]

_CAMERA_M = 5.0  # distance of the camera
_BODY_MARGIN = 0.05  # of the height, above and below the body
_FACE_WINDOW = 1.75  # heights of the face
_SHOES_WINDOW = 1.4  # widths of both shoes
_FLOOR = 0.1  # of the shoes' window, below them


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn person and where everything is; coordinates in pixels, (x, y), y down.

    Joints and boxes may lie outside of an enlarged view.
    """

    rgb: Array  # uint8 [height width 3]
    mask: Array  # float32 [height width], the person's share of each pixel
    parts: Array  # uint8 [height width], a BodyPart
    joints: Array  # float32 [joint 2]
    joint_names: tuple[str, ...]  # COCO's 17 joints, then toes and heels
    face_box: tuple[float, float, float, float]  # x0 y0 x1 y1
    shoe_boxes: Array  # float32 [2 4], the left shoe and the right one


class PeopleRenderer:
    """Draws persons. Starting takes seconds, a picture less than a tenth of one."""

    def __init__(self) -> None:
        self._maker = FigureMaker()
        self._painter = Painter(self._maker.template, load_masks(self._maker.body.textures))
        self.joint_names = tuple(self._maker.body.joint_names)
        self._hips = [self.joint_names.index(name) for name in ("left_hip", "right_hip")]
        self._face, self._shoes = _face_and_shoes(self._maker.template)
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
        view: View = "body",
        supersampling: int = 2,
    ) -> Picture:
        """Draw a person into a picture of size (height, width).

        `supersampling` is the number of samples per pixel along each side.
        """
        figure = self.pose(person)
        window = self._window(figure, view)
        fine = (size[0] * supersampling, size[1] * supersampling)
        image, parts = self._draw(figure, window, fine)
        middle = supersampling // 2
        joints = window.pixels(figure.joints, size)
        face = _box(window.pixels(figure.points[self._face], size))
        shoes = [_box(window.pixels(figure.points[shoe], size)) for shoe in self._shoes]
        return Picture(
            rgb=(_shrink(image, size).clip(0, 1) * 255 + 0.5).astype(np.uint8),
            mask=_shrink((parts > 0)[..., None], size)[..., 0].astype(np.float32),
            parts=parts[middle::supersampling, middle::supersampling],
            joints=joints.astype(np.float32),
            joint_names=self.joint_names,
            face_box=(float(face[0]), float(face[1]), float(face[2]), float(face[3])),
            shoe_boxes=np.stack(shoes).astype(np.float32),
        )

    def _draw(
        self, figure: Figure, window: "_Window", size: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Colours [height width 3], not yet clipped, and parts [height width] of every sample."""
        xy, depth = window.pixels(figure.points, size), _depth(figure.points)
        triangles = self._maker.triangles
        hits = rasterize(xy, depth, triangles, size, keep=figure.keep, two_sided=self._open)
        surface = self._surface(figure, hits)
        paint = self._painter.paint(figure, surface.layers, surface.canonical, surface.uv)
        image = _backdrop(figure, size, [_box(xy[shoe]) for shoe in self._shoes])
        image[hits.pixels] = self._lit(figure, surface, paint.colour, paint.shine)
        parts = np.full(size[0] * size[1], BodyPart.BACKGROUND, np.uint8)
        parts[hits.pixels] = paint.part
        return image.reshape(*size, 3), parts.reshape(size)

    def _window(self, figure: Figure, view: View) -> "_Window":
        horizon = float(_box(figure.points[:BODY_END])[[2, 5]].mean())
        plane = _Window(0.0, 0.0, 1.0, horizon)
        if view == "body":
            _, top, _, bottom = _box(plane.project(figure.points[figure.keep > 0])).tolist()
            x = float(plane.project(figure.joints[self._hips])[:, 0].mean())
            half = (bottom - top) / 2 / (1 - 2 * _BODY_MARGIN)
            return _Window(x, (top + bottom) / 2, half, horizon)
        if view == "face":
            left, top, right, bottom = _box(plane.project(figure.points[self._face])).tolist()
            height = bottom - top
            y = (top + bottom) / 2 - 0.06 * height
            return _Window((left + right) / 2, y, height * _FACE_WINDOW / 2, horizon)
        if view == "shoes":
            shoes = np.concatenate(self._shoes)
            left, _, right, bottom = _box(plane.project(figure.points[shoes])).tolist()
            side = (right - left) * _SHOES_WINDOW
            y = bottom + side * (_FLOOR - 0.5)
            return _Window((left + right) / 2, y, side / 2, horizon)
        raise ValueError(f"view is {view!r}, expected one of {', '.join(get_args(View))}")

    # ---- light ---------------------------------------------------------------------------

    def _surface(self, figure: Figure, hits: Hits) -> "_Surface":
        """Interpolate everything that painting and light need at the hits."""
        maker, weights = self._maker, hits.barycentrics
        corners = maker.triangles[hits.triangles]
        layers = maker.layers[hits.triangles]
        points = interpolate(figure.points, corners, weights)
        normals = normalize(interpolate(figure.normals, corners, weights))
        normals = np.where(hits.from_behind[:, None], -normals, normals)
        canonical = interpolate(figure.canonical, corners, weights)
        hair = np.ones(len(figure.points) - len(maker.occlusion))
        return _Surface(
            layers=layers,
            normals=_wrinkle(normals, layers, canonical, figure.styling.curl),
            canonical=canonical,
            uv=interpolate(maker.body.uv, maker.texture_corners[hits.triangles], weights),
            occlusion=interpolate(np.concatenate([maker.occlusion, hair]), corners, weights),
            to_camera=normalize(np.array([0, -_CAMERA_M, 0]) - points * [1, 1, 0]),
            inside=hits.from_behind,
        )

    def _lit(self, figure: Figure, surface: "_Surface", colour: Array, shine: Array) -> Array:
        """Wrapped Lambert light, occluded light from everywhere and a small highlight."""
        appearance = figure.person.appearance
        light = normalize(np.array([appearance.light_side, -1.0, appearance.light_height]))
        wrap = np.where(surface.layers == Layer.BODY, 0.30, 0.15)
        direct = ((dot(surface.normals, light) + wrap) / (1 + wrap)).clip(0)
        # Eyes lie deep in their sockets; fully occluded they would look dead.
        darkest = np.where(surface.layers == Layer.EYE, 0.55, 0.30)
        open_sky = mix(darkest, 1.0, surface.occlusion)
        open_sky = open_sky * np.where(surface.inside, 0.5, 1.0) * self._under_hair(figure, surface)
        strength = appearance.ambient * (0.85 + 0.15 * surface.normals[:, 2]) * open_sky
        strength = strength + (0.98 - 0.6 * appearance.ambient) * direct * (0.45 + 0.55 * open_sky)
        halfway = normalize(surface.to_camera + light)
        highlight = dot(surface.normals, halfway).clip(0) ** 22 * shine * open_sky
        return np.asarray(colour * strength[:, None] + highlight[:, None])

    def _under_hair(self, figure: Figure, surface: "_Surface") -> Array:
        """Hair shades the skin just below its edge."""
        shade = np.ones(len(surface.layers))
        near = np.flatnonzero((surface.layers == Layer.BODY) & (surface.canonical[:, 2] > 0.72))
        above = self._maker.template.above_hairline(surface.canonical[near], figure.styling)
        shade[near] -= 0.25 * np.exp(-((above / 0.012) ** 2))
        return shade


@dataclass(frozen=True, slots=True)
class _Window:
    """What a picture shows of the plane through the body, seen in perspective; all in metres."""

    x: float
    y: float  # down from the horizon
    half_height: float
    horizon: float  # height of the camera

    def project(self, points: Array) -> Array:
        """Points of the world onto the plane: x and y down, in metres."""
        scale = _CAMERA_M / _depth(points)
        return np.stack([points[:, 0] * scale, (self.horizon - points[:, 2]) * scale], 1)

    def pixels(self, points: Array, size: tuple[int, int]) -> Array:
        """Points of the world in a picture of size (height, width)."""
        height, width = size
        scale = height / 2 / self.half_height
        return np.asarray(
            (self.project(points) - [self.x, self.y]) * scale + [width / 2, height / 2]
        )


@dataclass(frozen=True, slots=True)
class _Surface:
    """What the rays of all covered samples hit."""

    layers: Array
    normals: Array
    canonical: Array
    uv: Array
    occlusion: Array  # the seen share of the sky
    to_camera: Array
    inside: Array  # whether the back of an open layer is seen


def _face_and_shoes(template: Template) -> tuple[Array, list[Array]]:
    """The vertices that span the face's box, and those of the left and the right shoe."""
    side, depth, height = template.points.T
    body = np.arange(len(template.points)) < BODY_END
    face = body & (height > 0.606) & (height < 0.80) & (depth < -0.13) & (np.abs(side) < 0.075)
    tights = np.arange(TIGHTS_VERTICES.start, TIGHTS_VERTICES.stop)
    shoes = tights[height[tights] < SHOE_TOP_M]
    return np.flatnonzero(face), [shoes[side[shoes] * sign > 0] for sign in (1, -1)]


def _wrinkle(normals: Array, layers: Array, canonical: Array, curl: float) -> Array:
    """Folds in the cloth and strands in the hair; the same pattern for everybody."""
    bumps = np.zeros_like(normals)
    cloth = np.flatnonzero((layers == Layer.TIGHTS) | (layers == Layer.SKIRT))
    bumps[cloth] = 0.14 * _noise_vectors(canonical[cloth] * [38, 30, 22], 20)
    hair = np.flatnonzero((layers == Layer.SCALP) | (layers == Layer.CURTAIN))
    strands = _noise_vectors(canonical[hair] * [160, 160, 14], 30)
    curls = _noise_vectors(canonical[hair] * 240, 40)
    bumps[hair] = 0.15 * (1 - curl) * strands + 0.45 * curl * curls
    return normalize(normals + bumps)


def _noise_vectors(points: Array, seed: int) -> Array:
    return np.stack([wave_noise(points, seed + i) for i in range(3)], 1)


def _backdrop(figure: Figure, size: tuple[int, int], shoe_boxes: list[Array]) -> Array:
    """A plain gradient with a soft shadow under each shoe. [height * width, 3]"""
    height, width = size
    appearance = figure.person.appearance
    top = oklab(appearance.backdrop_lightness, 0.0, appearance.backdrop_yellow)
    bottom = oklab(
        appearance.backdrop_lightness - appearance.backdrop_fall, 0.0, appearance.backdrop_yellow
    )
    down = np.linspace(0, 1, height)[:, None, None]
    image = np.broadcast_to(mix(top, bottom, down), (height, width, 3)).copy()
    column, row = np.arange(width) + 0.5, np.arange(height) + 0.5
    for x0, y0, x1, y1 in shoe_boxes:
        x, radius_x, radius_y = (x0 + x1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
        across = np.exp(-(((column - x) / (1.5 * radius_x)) ** 2))
        along = np.exp(-(((row - y1 + 0.3 * radius_y) / (0.7 * radius_y)) ** 2))
        image *= 1 - 0.4 * (along[:, None] * across)[..., None]
    return np.asarray(image.reshape(-1, 3))


def _depth(points: Array) -> Array:
    return np.asarray(_CAMERA_M + points[:, 1])


def _box(points: Array) -> Array:
    """The smallest values of all coordinates, then the largest ones."""
    return np.concatenate([points.min(0), points.max(0)])


def _shrink(image: Array, size: tuple[int, int]) -> Array:
    """The mean over the samples of each pixel. [height width channel]"""
    height, width = size
    blocks = image.reshape(height, image.shape[0] // height, width, image.shape[1] // width, -1)
    return np.asarray(blocks.mean((1, 3)))
