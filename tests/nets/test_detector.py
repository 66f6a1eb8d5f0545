"""Finding faces on pictures of demo people whose true face boxes are known.

The pictures in `tests/data/people` were drawn by `insetgan_batch.people`; `face_boxes.json`
holds the face box that the renderer gave for each, in pixels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.nets.detector import Detector, FaceDetector, FixedBox

PEOPLE = Path(__file__).parents[1] / "data" / "people"
BOXES = {
    name: Box(*corners)
    for name, corners in json.loads((PEOPLE / "face_boxes.json").read_text()).items()
}
BODIES = sorted(name for name in BOXES if name.startswith("body"))
FACES = sorted(name for name in BOXES if name.startswith("face"))
CPU = torch.device("cpu")


def pictures(names: list[str]) -> Tensor:
    """Bytes `[n H W 3]`."""
    return torch.stack([torch.from_numpy(np.array(Image.open(PEOPLE / name))) for name in names])


def enlarged(pixels: Tensor, factor: int) -> Tensor:
    floats = pixels.permute(0, 3, 1, 2).float()
    larger = F.interpolate(floats, scale_factor=factor, mode="bilinear")
    return larger.round().byte().permute(0, 2, 3, 1)


@pytest.fixture(scope="module")
def on_bodies() -> FaceDetector:
    return FaceDetector(CPU, smallest_face=0.07)


@pytest.fixture(scope="module")
def on_faces() -> FaceDetector:
    return FaceDetector(CPU, smallest_face=0.35)


def assert_near(found: Box | None, expected: Box, share: float = 0.35) -> None:
    """Every side within a share of the face's height."""
    assert found is not None
    for a, b in zip(found.as_tuple(), expected.as_tuple(), strict=True):
        assert abs(a - b) < share * expected.height


def test_a_fixed_box_is_the_same_for_every_image() -> None:
    box = Box(1.5, 2.0, 3.0, 4.5)
    detector: Detector = FixedBox(box)
    assert detector.find(torch.zeros(3, 8, 4, 3, dtype=torch.uint8)) == [box] * 3


def test_faces_of_whole_people_are_found_where_they_are(on_bodies: FaceDetector) -> None:
    for name, found in zip(BODIES, on_bodies.find(pictures(BODIES)), strict=True):
        assert_near(found, BOXES[name])


def test_faces_that_fill_the_image_are_found_where_they_are(on_faces: FaceDetector) -> None:
    for name, found in zip(FACES, on_faces.find(pictures(FACES)), strict=True):
        assert_near(found, BOXES[name])


def test_a_batch_gives_one_answer_per_image_in_order(on_bodies: FaceDetector) -> None:
    people = pictures(BODIES)
    blank = torch.full_like(people[:1], 128)
    noise = torch.randint(
        0, 256, people[:1].shape, generator=torch.Generator().manual_seed(0)
    ).byte()
    found = on_bodies.find(torch.cat([blank, people[:1], noise, people[1:2]]))
    assert found[0] is None
    assert found[2] is None
    assert_near(found[1], BOXES[BODIES[0]])
    assert_near(found[3], BOXES[BODIES[1]])


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_images_have_no_face(on_bodies: FaceDetector, level: int) -> None:
    assert on_bodies.find(torch.full((2, 64, 32, 3), level, dtype=torch.uint8)) == [None, None]


def test_an_image_twice_as_large_has_its_box_at_twice_the_place(on_bodies: FaceDetector) -> None:
    people = pictures(BODIES[:1])
    small, large = on_bodies.find(people)[0], on_bodies.find(enlarged(people, 2))[0]
    assert small is not None
    assert_near(large, small.scale(2), share=0.1)


def test_an_image_alone_is_answered_as_in_a_batch(on_bodies: FaceDetector) -> None:
    together = on_bodies.find(pictures(BODIES))
    for name, found in zip(BODIES, together, strict=True):
        (alone,) = on_bodies.find(pictures([name]))
        assert alone is not None
        assert_near(found, alone, share=0.02)
