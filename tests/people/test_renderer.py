"""Pictures of persons. Tests that draw need the optional package anny."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from insetgan_batch.errors import MissingPackageError
from insetgan_batch.people.labels import BodyPart
from insetgan_batch.people.person import PARAMETERS, Z_DIM, Person, seeds_to_z
from insetgan_batch.people.renderer import PeopleRenderer, Picture, View

BODY = (256, 128)
FACE = (128, 128)


def z_of(seed: int) -> np.ndarray:
    z: np.ndarray = seeds_to_z([seed])[0]
    return z


@pytest.fixture(scope="module")
def renderer() -> Iterator[PeopleRenderer]:
    pytest.importorskip("anny")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield PeopleRenderer()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def crowd(renderer: PeopleRenderer) -> list[Picture]:
    return [renderer.render(Person.from_z(z_of(seed)), BODY) for seed in range(300, 312)]


def test_without_anny_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(MissingPackageError, match=r"pip install insetgan-batch\[people\]"):
        PeopleRenderer()


def test_the_same_z_gives_the_same_pixels(renderer: PeopleRenderer) -> None:
    before = renderer.render(Person.from_z(z_of(5)), BODY)
    renderer.render(Person.from_z(z_of(6)), BODY)
    after = renderer.render(Person.from_z(z_of(5)), BODY)
    assert (before.rgb == after.rgb).all()
    assert (before.parts == after.parts).all()


def test_pictures_are_still_those_that_the_generators_were_trained_on(
    renderer: PeopleRenderer,
) -> None:
    for seed, expected in TRAINED_ON.items():
        rgb = renderer.render(Person.from_z(z_of(seed)), BODY).rgb
        quarters = rgb.reshape(4, -1, 3).mean(1).ravel()
        assert quarters == pytest.approx(np.array(expected), abs=1.0)


@pytest.mark.parametrize("size", [(256, 128), (96, 160), (65, 33)])
@pytest.mark.parametrize("view", ["body", "face"])
def test_a_picture_has_the_size_that_was_asked_for(
    renderer: PeopleRenderer, size: tuple[int, int], view: View
) -> None:
    picture = renderer.render(Person.from_z(z_of(2)), size, view=view)
    assert picture.rgb.shape == (*size, 3)
    assert picture.mask.shape == picture.parts.shape == size
    assert picture.rgb.dtype == picture.parts.dtype == np.uint8
    assert picture.mask.dtype == np.float32
    assert picture.joints.shape == (len(picture.joint_names), 2)
    assert picture.shoe_boxes.shape == (2, 4)


def test_an_unknown_view_is_refused(renderer: PeopleRenderer) -> None:
    with pytest.raises(ValueError, match="expected one of body, face, shoes"):
        renderer.render(Person.from_z(z_of(2)), BODY, view="back")  # type: ignore[arg-type]


def test_several_views_pose_the_body_once(renderer: PeopleRenderer) -> None:
    figure = renderer.pose(Person.from_z(z_of(3)))
    renderer.render(Person.from_z(z_of(3)), FACE, view="face")
    assert renderer.pose(Person.from_z(z_of(3))) is figure


def test_the_body_fills_the_height_and_never_touches_the_border(crowd: list[Picture]) -> None:
    for picture in crowd:
        rows, columns = (np.flatnonzero(picture.mask.any(axis)) for axis in (1, 0))
        assert 0.04 <= rows[0] / BODY[0] <= 0.06
        assert 0.94 <= (rows[-1] + 1) / BODY[0] <= 0.96
        assert columns[0] >= 2
        assert columns[-1] <= BODY[1] - 3


def test_joints_and_boxes_lie_inside_the_frame(crowd: list[Picture]) -> None:
    size_xy = np.array([BODY[1], BODY[0]])
    for picture in crowd:
        corners = np.concatenate([[picture.face_box], picture.shoe_boxes]).reshape(-1, 2)
        for points in (picture.joints, corners):
            assert (points > 0).all()
            assert (points < size_xy).all()


def test_the_face_box_holds_the_nose_both_eyes_and_mostly_skin(crowd: list[Picture]) -> None:
    for picture in crowd:
        x0, y0, x1, y1 = picture.face_box
        for name in ("nose", "left_eye", "right_eye"):
            x, y = picture.joints[picture.joint_names.index(name)]
            assert x0 < x < x1
            assert y0 < y < y1
        rows, columns = np.nonzero(picture.parts == BodyPart.EYES)
        assert ((columns + 1 >= x0) & (columns <= x1) & (rows + 1 >= y0) & (rows <= y1)).all()
        inside = picture.parts[round(y0) : round(y1), round(x0) : round(x1)]
        assert np.isin(inside, (BodyPart.SKIN, BodyPart.EYES)).mean() > 0.5


def test_the_face_view_is_the_same_face_enlarged(renderer: PeopleRenderer) -> None:
    for seed in range(4):
        picture = renderer.render(Person.from_z(z_of(seed)), FACE, view="face")
        x0, y0, x1, y1 = picture.face_box
        assert (y1 - y0) / FACE[0] == pytest.approx(1 / 1.75, abs=0.01)
        assert (x0 + x1) / 2 == pytest.approx(FACE[1] / 2, abs=0.5)
        assert {BodyPart.SKIN, BodyPart.HAIR, BodyPart.EYES, BodyPart.TOP} <= set(
            picture.parts.ravel().tolist()
        )


def test_shoe_boxes_hold_the_shoes(crowd: list[Picture]) -> None:
    for picture in crowd:
        rows, columns = np.nonzero(picture.parts == BodyPart.SHOES)
        held = [
            (columns + 1 >= x0) & (columns <= x1) & (rows + 3 >= y0) & (rows <= y1)
            for x0, y0, x1, y1 in picture.shoe_boxes
        ]
        assert (held[0] | held[1]).all()


def test_the_mask_agrees_with_the_parts(crowd: list[Picture]) -> None:
    for picture in crowd:
        person = picture.parts != BodyPart.BACKGROUND
        assert (picture.mask[person] > 0).all()
        assert person[picture.mask == 1].all()
        assert picture.mask.sum() == pytest.approx(person.sum(), rel=0.02)


def test_skin_is_seen_at_head_neck_and_hands_only(crowd: list[Picture]) -> None:
    for picture in crowd:
        joints = dict(zip(picture.joint_names, picture.joints, strict=True))
        shoulders = max(joints["left_shoulder"][1], joints["right_shoulder"][1])
        assert np.nonzero(picture.parts == BodyPart.SKIN)[0].max() <= shoulders
        rows, columns = np.nonzero(picture.parts == BodyPart.HANDS)
        to_wrist = [
            np.hypot(columns - joints[name][0], rows - joints[name][1])
            for name in ("left_wrist", "right_wrist")
        ]
        assert np.minimum(*to_wrist).max() < 0.13 * BODY[0]


def test_a_small_step_of_any_parameter_is_a_small_step_of_the_picture(
    renderer: PeopleRenderer,
) -> None:
    z = z_of(11)
    start = drawn(renderer, z)
    for i, name in enumerate(PARAMETERS):
        step = z.copy()
        step[i] += 0.02
        change = np.abs(drawn(renderer, step) - start)
        assert change.mean() < 0.4, name  # of 255 levels


def test_every_parameter_is_seen_in_the_picture(renderer: PeopleRenderer) -> None:
    plain = -np.ones(Z_DIM)  # no stripes, no belt, short hair
    plain[PARAMETERS.index("european")] = 2  # light eyes and fair hair need the ancestry
    gender = PARAMETERS.index("gender")
    man, woman = plain.copy(), plain.copy()
    man[gender], woman[gender] = -2, 2
    start = {"man": drawn(renderer, man), "woman": drawn(renderer, woman)}
    for i, name in enumerate(PARAMETERS):
        who = "man" if name == "beard" else "woman"  # skirt and lipstick are worn by women only
        z = man.copy() if who == "man" else woman.copy()
        z[i] = -2 if i == gender else 1.5
        assert np.abs(drawn(renderer, z) - start[who]).mean() > 0.05, name


def drawn(renderer: PeopleRenderer, z: np.ndarray) -> np.ndarray:
    """Body and face of a person in small, side by side."""
    person = Person.from_z(z)
    body = renderer.render(person, (128, 64)).rgb
    face = renderer.render(person, (128, 64), view="face").rgb
    return np.concatenate([body, face], 1).astype(float)


# Mean colours of the four quarters of the pictures, from top to bottom.
TRAINED_ON = {
    0: [189, 192, 193, 149, 168, 177, 142, 146, 150, 164, 164, 164],
    1: [214, 210, 207, 189, 188, 200, 173, 168, 161, 180, 176, 168],
    2: [186, 175, 178, 190, 152, 181, 127, 126, 127, 144, 142, 139],
}
