"""The mesh of a clothed person: the posed body, dressed and with hair.

Only head, neck and hands are drawn from the body mesh. Everything else comes from MakeHuman's
helper layers `tights` and `skirt`, smoothed and lifted along their normals, so that nobody is ever
bare.

Colours and edges are decided in canonical space: the coordinates that a surface point has on one
mean adult.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from insetgan_batch.people.body import (
    BODY_END,
    EYE_VERTICES,
    SKIRT_VERTICES,
    TIGHTS_VERTICES,
    Body,
)
from insetgan_batch.people.occlusion import bake_occlusion
from insetgan_batch.people.person import Person
from insetgan_batch.people.raster import Array, normalize, smooth, vertex_normals, wave_noise

_CROWN_M = 0.815  # where the curtain of hair starts
_LONGEST_HAIR_M = 0.46
_LONGEST_SKIRT_M = 0.62  # below the hip
_CURTAIN_ROWS, _CURTAIN_COLUMNS = 30, 49
_SMOOTHING_STEPS = 8


class Layer(IntEnum):
    """Which mesh a triangle belongs to. The hair comes last: its vertices follow the body's."""

    BODY = 0
    TIGHTS = 1
    SKIRT = 2
    EYE = 3
    LASH = 4
    SCALP = 5  # the cap of hair
    CURTAIN = 6  # hair that falls


@dataclass(frozen=True, slots=True)
class Styling:
    """The dimensions of one person's hair and clothes, in canonical metres."""

    hem: float  # lower edge of the top
    skirt_edge: float  # lower edge of the skirt; at the hem there is none
    hair_thickness: float
    hair_fall: float  # how far hair hangs from the crown; at 0 the curtain is inside the head
    hairline_shift: float
    bangs: float  # 0 none, 1 full
    curl: float  # 0 straight, 1 curly

    @classmethod
    def of(cls, person: Person) -> "Styling":
        """Of the appearance, the femininity and the age."""
        appearance, femininity = person.appearance, person.shape.femininity
        skirt = femininity * _ramp(0.42, 1.0, appearance.skirt_length)
        length = _ramp(0.0, 1.0, appearance.hair_length * 1.35 - 0.95 + 0.75 * femininity)
        age = float(smooth(0.80, 0.93, person.shape.age))
        volume = appearance.hair_volume * (1 - 0.4 * age * (1 - femininity))
        return cls(
            hem=appearance.top_hem,
            skirt_edge=appearance.top_hem - skirt * (appearance.top_hem + _LONGEST_SKIRT_M),
            hair_thickness=0.004 + 0.018 * volume + 0.014 * appearance.hair_curl**2,
            hair_fall=_LONGEST_HAIR_M * length,
            hairline_shift=-0.006 + (1 - femininity) * (0.004 + 0.010 * age),
            bangs=_ramp(0.5, 1.0, appearance.bangs) * (0.25 + 0.75 * femininity),
            curl=float(smooth(0.45, 1.0, appearance.hair_curl)),
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """A posed and dressed person in world space: z up, metres, the camera looks along +y."""

    person: Person
    styling: Styling
    points: Array  # [n 3]
    normals: Array  # [n 3]
    canonical: Array  # [n 3]
    keep: Array  # [n], surface is cut away where negative
    joints: Array  # [joint 3]


class Template:
    """The canonical body, and the measures that are taken on it."""

    def __init__(self, points: Array, elbow: Array, wrist: Array) -> None:
        """`points` are all vertices of the mean adult; elbow and wrist are the left ones."""
        self.points = points
        self.eye_centre = points[EYE_VERTICES].mean(0)
        self._wrist, self._arm_axis = wrist, normalize(wrist - elbow)

    def beyond_wrist(self, points: Array) -> Array:
        """Metres along the forearm, positive on the hand; the same for both arms."""
        return np.asarray((mirrored(points) - self._wrist) @ self._arm_axis)

    def above_hairline(self, points: Array, styling: Styling) -> Array:
        """Metres above a person's hairline, positive on the scalp."""
        return _above_hairline(points, styling.bangs) - styling.hairline_shift

    def is_scalp(self) -> Array:
        """Vertices that any hair can grow on, full bangs and a margin included."""
        return _above_hairline(self.points, bangs=1.0) > -0.012

    def is_skull(self) -> Array:
        """Vertices of the body that follow the skull, whatever the face does."""
        body = np.arange(len(self.points)) < BODY_END
        return body & (self.points[:, 2] > 0.68) & (_above_hairline(self.points, bangs=1.0) > 0)


class FigureMaker:
    """Poses and dresses persons. Building one loads anny and takes seconds."""

    def __init__(self) -> None:
        self.body = Body()
        self.template = _template(self.body)
        self._collect_triangles()
        self._prepare_cloth()
        self.occlusion = self._bake_occlusion()
        self._garment = self.template.points.copy()
        self._garment[self._cloth] = self._soften(self._garment[self._cloth])
        self._curtain_angle, self._curtain_drop = _curtain_grid()

    def make(self, person: Person) -> Figure:
        """The person's mesh in world space."""
        styling = Styling.of(person)
        bare = self.body.posed(person)
        dressed, base_normals = self._dress(bare, styling)
        cap = bare[self._scalp] + base_normals[self._scalp] * self._cap_thickness(styling)[:, None]
        curtain = self._curtain(styling)
        hair = np.concatenate([cap, _homogeneous(curtain) @ self._head_fit(bare)])
        # Garments are coloured by their smoothed canonical shape, else hems and stripes zigzag.
        canonical = np.concatenate([self._garment, self.template.points[self._scalp], curtain])
        return Figure(
            person=person,
            styling=styling,
            points=np.concatenate([dressed, hair]),
            normals=np.concatenate([base_normals, vertex_normals(hair, self._hair_triangles)]),
            canonical=canonical,
            keep=self._keep(styling, len(canonical)),
            joints=self.body.joints(bare),
        )

    # ---- clothes -------------------------------------------------------------------------

    def _dress(self, bare: Array, styling: Styling) -> tuple[Array, Array]:
        """All base vertices with the cloth layers lifted off the body, and their normals."""
        dressed = bare.copy()
        dressed[self._cloth] = self._soften(bare[self._cloth])
        normals = vertex_normals(dressed, self._base_triangles)
        height = self.template.points[self._cloth, 2]
        is_skirt = self._cloth >= SKIRT_VERTICES.start
        top = smooth(styling.hem - 0.02, styling.hem + 0.01, height) * ~is_skirt
        leg = smooth(-0.1, -0.6, height) * smooth(-0.872, -0.852, height) * ~is_skirt
        shoe = smooth(-0.84, -0.87, height) * ~is_skirt
        swing = 0.06 * (styling.hem - height).clip(0) * is_skirt
        lift = 0.010 + 0.016 * top + 0.009 * leg + 0.010 * is_skirt + swing + 0.004 * shoe
        dressed[self._cloth] += normals[self._cloth] * lift[:, None]
        return dressed, normals

    def _soften(self, points: Array) -> Array:
        """Laplacian smoothing of the cloth, which hides the anatomy; feet, neck and cuffs stay."""
        for _ in range(_SMOOTHING_STEPS):
            points = points + self._softness * (points[self._neighbours].mean(1) - points)
        return points

    def _keep(self, styling: Styling, n: int) -> Array:
        """Cuts collar, cuffs and the skirt's hem, and the trousers where a skirt hides them."""
        keep = np.ones(n)
        points = self._garment[TIGHTS_VERTICES]
        side, depth, height = np.abs(points[:, 0]), points[:, 1], points[:, 2]
        collar = 0.572 + 0.22 * (depth + 0.10) - 0.010 * smooth(0.035, 0.075, side)
        cuff = np.where(side > 0.3, 0.004 - self.template.beyond_wrist(points), 1.0)
        hidden = np.minimum(styling.hem - 0.05 - height, height - styling.skirt_edge - 0.04)
        hidden = np.where(side < 0.3, -hidden, 1.0)
        keep[TIGHTS_VERTICES] = np.minimum(np.minimum(collar - height, cuff), hidden)
        height = self._garment[SKIRT_VERTICES, 2]
        keep[SKIRT_VERTICES] = np.minimum(height - styling.skirt_edge, styling.hem - height)
        return keep

    # ---- hair ----------------------------------------------------------------------------

    def _cap_thickness(self, styling: Styling) -> Array:
        """How far the cap of hair stands off each vertex of the scalp, in metres."""
        scalp = self.template.points[self._scalp]
        above = self.template.above_hairline(scalp, styling)
        lumps = 1 + (0.04 + 0.26 * styling.curl) * wave_noise(scalp * 170, 1)
        sunk = 0.004 * smooth(0.0, -0.005, above)  # below the hairline the cap dives under the skin
        return np.asarray(styling.hair_thickness * smooth(-0.002, 0.05, above) * lumps - sunk)

    def _curtain(self, styling: Styling) -> Array:
        """Canonical points of the falling hair: a half cylinder behind the face.

        Near the crown it lies inside the head; hair of length zero is hidden there completely.
        """
        column, row = self._curtain_angle, self._curtain_drop
        drop = row * (0.02 + styling.hair_fall)
        angle = column * np.radians(117)
        out = 0.55 + 0.45 * smooth(0, 0.10, drop)
        grown = smooth(0.0, 0.5, drop)
        strands = 0.020 * np.sin(column * 23) + 0.015 * np.sin(column * 51)
        curls = 0.05 * styling.curl * np.sin(drop * 75 + 3 * np.sin(column * 9))
        # The tips of a bob turn in.
        tuck = 0.22 * (1 - styling.hair_fall / _LONGEST_HAIR_M) * row**3
        out = out * (1 + (strands + curls) * row) - tuck
        x = np.sin(angle) * (0.083 + styling.hair_thickness) * out * (1 + 0.10 * grown)
        y = np.cos(angle) * ((0.092 + styling.hair_thickness) * out + 0.012 * grown) - 0.118
        return np.stack([x, y, _CROWN_M - drop], -1).reshape(-1, 3)

    def _head_fit(self, bare: Array) -> Array:
        """The affine map that takes the canonical head to the posed one. [4 3]"""
        canonical = _homogeneous(self.template.points[self._skull])
        return np.asarray(np.linalg.lstsq(canonical, bare[self._skull], rcond=None)[0])

    # ---- preparations --------------------------------------------------------------------

    def _collect_triangles(self) -> None:
        """Vertices, texture corners and layer of every triangle that can be drawn."""
        collected: list[tuple[Array, Array, Layer]] = []

        def add(layer: Layer, names: list[str], wanted: Callable[[Array], Array] | None) -> None:
            for name in names:
                corners, texture = self.body.groups[name]
                if wanted is not None:
                    chosen = wanted(self.template.points[corners].mean(1))
                    corners, texture = corners[chosen], texture[chosen]
                collected.append((corners, texture, layer))

        add(Layer.BODY, ["body"], self._is_bare)
        add(Layer.TIGHTS, ["helper-tights"], None)
        add(Layer.SKIRT, ["helper-skirt"], None)
        add(Layer.EYE, ["helper-l-eye", "helper-r-eye"], None)
        lashes = [f"helper-{side}-eyelashes-{row}" for side in "lr" for row in (1, 2)]
        add(Layer.LASH, lashes, None)
        self._base_triangles = np.concatenate([corners for corners, _, _ in collected])
        cap, curtain = self._hair(body=collected[0][0])
        self._hair_triangles = np.concatenate([cap, curtain])
        for layer, corners in ((Layer.SCALP, cap), (Layer.CURTAIN, curtain)):
            corners = corners + len(self.template.points)
            collected.append((corners, np.zeros_like(corners), layer))
        self.triangles = np.concatenate([corners for corners, _, _ in collected])
        self.texture_corners = np.concatenate([texture for _, texture, _ in collected])
        self.layers = np.concatenate([np.full(len(c), layer) for c, _, layer in collected])

    def _is_bare(self, points: Array) -> Array:
        """Hands, and head and neck."""
        side = np.abs(points[:, 0])
        hand = (self.template.beyond_wrist(points) > -0.10) & (side > 0.36)
        return hand | ((points[:, 2] > 0.50) & (side < 0.13))

    def _hair(self, body: Array) -> tuple[Array, Array]:
        """Triangles of the cap, a copy of the scalp's, and of the curtain's grid."""
        above_neck = self.template.points[body][:, :, 2].min(1) > 0.60
        on_scalp = self.template.is_scalp()[body].any(1) & above_neck
        self._scalp, corners = np.unique(body[on_scalp].ravel(), return_inverse=True)
        self._skull = np.flatnonzero(self.template.is_skull())
        rows = np.arange(_CURTAIN_ROWS - 1)[:, None] * _CURTAIN_COLUMNS
        i = (rows + np.arange(_CURTAIN_COLUMNS - 1)).ravel() + len(self._scalp)
        upper = np.stack([i, i + _CURTAIN_COLUMNS, i + 1], 1)
        lower = np.stack([i + 1, i + _CURTAIN_COLUMNS, i + _CURTAIN_COLUMNS + 1], 1)
        return corners.reshape(-1, 3), np.concatenate([upper, lower])

    def _prepare_cloth(self) -> None:
        """The cloth's vertices, their neighbours and how far each may be smoothed."""
        is_cloth = np.isin(self.layers, (Layer.TIGHTS, Layer.SKIRT))
        self._cloth, corners = np.unique(self.triangles[is_cloth].ravel(), return_inverse=True)
        self._neighbours = _neighbours(corners.reshape(-1, 3))
        points = self.template.points[self._cloth]
        height = points[:, 2]
        softness = smooth(-0.86, -0.78, height) * smooth(0.60, 0.52, height)
        sleeve = smooth(-0.02, -0.09, self.template.beyond_wrist(points))
        self._softness = 0.6 * (softness * sleeve)[:, None]

    def _bake_occlusion(self) -> Array:
        solid = np.isin(self.layers, (Layer.BODY, Layer.TIGHTS, Layer.EYE))
        points = self.template.points
        share = bake_occlusion(points, self.triangles[solid])
        # Neck and wrists sit inside the cloth layer, which would make them black.
        is_body = np.arange(len(points)) < BODY_END
        neck = (np.abs(points[:, 2] - 0.57) < 0.05) & is_body
        wrist = (self.template.beyond_wrist(points) > -0.12) & (np.abs(points[:, 0]) > 0.36)
        share = np.where(neck, np.maximum(share, 0.62), share)
        return np.where(wrist, np.maximum(share, 0.70), share)


def mirrored(points: Array) -> Array:
    """Points of the right side brought to the left."""
    return np.asarray(points * [0, 1, 1] + np.abs(points) * [1, 0, 0])


def _template(body: Body) -> Template:
    points = body.mean_adult()
    joints = dict(zip(body.joint_names, body.joints(points), strict=True))
    return Template(points, elbow=joints["left_elbow"], wrist=joints["left_wrist"])


def _above_hairline(points: Array, bangs: float) -> Array:
    """Metres above the mean adult's hairline: from the forehead over the ears to the neck."""
    depth_m = [-0.25, -0.205, -0.185, -0.155, -0.138, -0.09, -0.075, -0.055, 0]
    line_m = [0.80, 0.797, 0.785, 0.755, 0.748, 0.745, 0.69, 0.655, 0.64]
    line = np.interp(points[:, 1], depth_m, line_m)
    line = line - 0.036 * bangs * smooth(-0.175, -0.195, points[:, 1])
    on_ear = np.abs(points[:, 0]) > 0.081
    return np.minimum(points[:, 2] - line, np.where(on_ear, -0.01, 1.0))


def _neighbours(triangles: Array) -> Array:
    """The neighbours of each vertex, repeated in turn to the same number for all. [n k]"""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    count = np.bincount(edges[:, 0])
    start = np.cumsum(count) - count
    turn = np.arange(count.max()) % np.maximum(count, 1)[:, None]
    return np.asarray(edges[start[:, None] + turn, 1])


def _curtain_grid() -> tuple[Array, Array]:
    """Place around the head (-1 right to 1 left) and along the hair (0 to 1). Both [row column]"""
    around = np.linspace(-1, 1, _CURTAIN_COLUMNS)[None].repeat(_CURTAIN_ROWS, 0)
    along = np.linspace(0, 1, _CURTAIN_ROWS)[:, None].repeat(_CURTAIN_COLUMNS, 1)
    return around, along


def _homogeneous(points: Array) -> Array:
    return np.concatenate([points, np.ones((len(points), 1))], 1)


def _ramp(start: float, end: float, x: float) -> float:
    return min(1.0, max(0.0, (x - start) / (end - start)))
