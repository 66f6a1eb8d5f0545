"""Heads and shoes of demo people, by the bundled network; files of weights that are none.

The pictures in `tests/data/people` were drawn by `insetgan_batch.people`; `face_boxes.json`
holds the face box that the renderer gave for each, in pixels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import parts
from insetgan_batch.nets.detector import Detector, Segmenter

CPU = torch.device("cpu")
PEOPLE = Path(__file__).parents[1] / "data" / "people"
BUNDLED = Path(parts.__file__).parents[1] / "demo" / "parts.safetensors"
BOXES = {
    name: Box(*corners)
    for name, corners in json.loads((PEOPLE / "face_boxes.json").read_text()).items()
}
BODIES = sorted(name for name in BOXES if name.startswith("body"))
FACES = sorted(name for name in BOXES if name.startswith("face"))


def pictures(names: list[str]) -> Tensor:
    """Bytes `[n H W 3]`."""
    return torch.stack([torch.from_numpy(np.array(Image.open(PEOPLE / name))) for name in names])


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    floats = pixels.permute(0, 3, 1, 2).float()
    larger = F.interpolate(floats, size, mode="bilinear", antialias=True)
    return larger.round().byte().permute(0, 2, 3, 1)


def rectangle(size: tuple[int, int], box: Box) -> np.ndarray:
    """The share of each pixel that a box covers."""
    x, y = np.arange(size[1]), np.arange(size[0])
    in_x = (np.minimum(x + 1, box.x1) - np.maximum(x, box.x0)).clip(0)
    in_y = (np.minimum(y + 1, box.y1) - np.maximum(y, box.y0)).clip(0)
    return np.asarray(in_y[:, None] * in_x)


def assert_close(found: Box | None, expected: Box, px: float) -> None:
    assert found is not None
    assert found.as_tuple() == pytest.approx(expected.as_tuple(), abs=px)


@pytest.fixture(scope="module")
def network() -> parts.PartsNetwork:
    return parts.load(BUNDLED, CPU)


@pytest.fixture(scope="module")
def shoes(network: parts.PartsNetwork) -> Detector:
    return parts.PartDetector(network, "shoes", height=parts.HEIGHT_OF_CANVAS)


@pytest.fixture(scope="module")
def heads(network: parts.PartsNetwork) -> Segmenter:
    return parts.PartSegmenter(network, "head")


# ---- boxes ---------------------------------------------------------------------------------


def test_shoes_of_whole_people_are_at_the_lower_end(shoes: Detector) -> None:
    for box in shoes.find(pictures(BODIES)):
        assert box is not None
        assert 215 < box.y0 < 230
        assert 235 < box.y1 < 250
        assert 30 < box.width < 70
        assert box.centre[0] == pytest.approx(64, abs=12)


def test_heads_of_whole_people_are_their_faces_with_the_neck(network: parts.PartsNetwork) -> None:
    detector = parts.PartDetector(network, "head", height=parts.HEIGHT_OF_CANVAS)
    for name, box in zip(BODIES, detector.find(pictures(BODIES)), strict=True):
        face = BOXES[name]
        assert box is not None
        assert box.y1 == pytest.approx(face.y1 + 4, abs=5)
        assert box.y0 == pytest.approx(face.y0 + 1, abs=3)
        assert box.x0 == pytest.approx(face.x0, abs=2)
        assert box.x1 == pytest.approx(face.x1, abs=2)


def test_an_enlarged_head_fills_the_box_of_the_inset(network: parts.PartsNetwork) -> None:
    detector = parts.PartDetector(network, "head", height=parts.HEIGHT_OF_INSET)
    for box in detector.find(pictures(FACES)):
        assert box is not None
        assert 60 < box.height < 125
        assert 40 < box.width < 110


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("part", parts.BOXED)
def test_blank_images_show_no_part(
    network: parts.PartsNetwork, part: parts.PartName, level: int
) -> None:
    detector = parts.PartDetector(network, part, height=parts.HEIGHT_OF_CANVAS)
    assert detector.find(torch.full((2, 64, 32, 3), level, dtype=torch.uint8)) == [None, None]


def test_an_image_of_another_size_has_its_box_at_the_same_place(shoes: Detector) -> None:
    people = pictures(BODIES)
    for size in ((512, 256), (1024, 512), (100, 57)):
        scale_y, scale_x = size[0] / 256, size[1] / 128
        for small, other in zip(shoes.find(people), shoes.find(resized(people, size)), strict=True):
            assert small is not None
            x0, y0, x1, y1 = small.as_tuple()
            expected = Box(x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y)
            assert_close(other, expected, px=1.5 * scale_y)


def test_a_moved_person_has_a_box_moved_by_as_much(shoes: Detector) -> None:
    people = pictures(BODIES)
    for x, y in ((4, 0), (3, -2), (-5, -6)):
        moved = people.roll((y, x), dims=(1, 2))
        for before, after in zip(shoes.find(people), shoes.find(moved), strict=True):
            assert before is not None
            x0, y0, x1, y1 = before.as_tuple()
            assert_close(after, Box(x0 + x, y0 + y, x1 + x, y1 + y), px=1.6)


def test_an_image_alone_is_answered_as_in_a_batch(shoes: Detector) -> None:
    blank = torch.full((1, 256, 128, 3), 128, dtype=torch.uint8)
    together = shoes.find(torch.cat([blank, pictures(BODIES)]))
    assert together[0] is None
    for name, found in zip(BODIES, together[1:], strict=True):
        (alone,) = shoes.find(pictures([name]))
        assert alone is not None
        assert_close(found, alone, px=1e-3)


def test_the_box_of_a_rectangle_is_the_rectangle() -> None:
    box = Box(4, 10, 24, 50)
    assert_close(parts.box_of_shares(rectangle((64, 32), box), (64, 32)), box, px=1e-6)


@pytest.mark.parametrize("shift", [0.1, 0.25, 0.5, 0.9, 1.0])
def test_a_box_of_shares_follows_by_fractions_of_a_pixel(shift: float) -> None:
    box = Box(4 + shift, 10 + shift, 24 + shift, 50 + shift)
    found = parts.box_of_shares(rectangle((64, 32), box), (128, 64))
    assert_close(found, box.scale(2), px=0.5)


def test_stray_pixels_do_not_move_a_box() -> None:
    share = rectangle((64, 32), Box(4, 10, 24, 50))
    strayed = share.copy()
    strayed[0, 31], strayed[63, 0] = 1, 1
    box = parts.box_of_shares(share, (64, 32))
    assert box is not None
    assert_close(parts.box_of_shares(strayed, (64, 32)), box, px=0.1)


def test_nearly_nothing_has_no_box() -> None:
    assert parts.box_of_shares(rectangle((64, 32), Box(3, 3, 5, 5)), (64, 32)) is None
    assert parts.box_of_shares(rectangle((64, 32), Box(3, 3, 6, 6)), (64, 32)) is not None


# ---- masks ---------------------------------------------------------------------------------


def test_a_heads_mask_covers_the_face_and_leaves_the_backdrop_and_the_clothes(
    heads: Segmenter,
) -> None:
    masks = heads.mask(pictures(FACES))
    assert masks.shape == (len(FACES), 1, 128, 128)
    for name, mask in zip(FACES, masks[:, 0], strict=True):
        x0, y0, x1, y1 = (round(v) for v in BOXES[name].shrink(16).as_tuple())
        assert mask[y0:y1, x0:x1].min() > 0.95
        assert mask[:8].max() == 0
        assert mask[-4:, :20].max() < 0.05
        assert mask[-4:, -20:].max() < 0.05


def test_a_mask_is_soft_at_its_edge_and_nowhere_else(heads: Segmenter) -> None:
    masks = heads.mask(pictures(FACES))
    assert masks.min() == 0
    assert masks.max() == 1
    between = ((masks > 0.02) & (masks < 0.98)).float().mean()
    assert 0.01 < between < 0.12
    steps = torch.cat([masks.diff(dim=2).abs().flatten(), masks.diff(dim=3).abs().flatten()])
    assert steps.max() < 0.7


def test_a_mask_has_no_holes(heads: Segmenter) -> None:
    faces = pictures(FACES)
    faces[:, 60:66, 60:66] = torch.tensor([200, 205, 220], dtype=torch.uint8)  # as the backdrop
    masks = heads.mask(faces)
    assert masks[:, :, 58:68, 58:68].min() > 0.9


def test_a_mask_has_the_size_of_its_image(heads: Segmenter) -> None:
    small, large = heads.mask(pictures(FACES)), heads.mask(resized(pictures(FACES), (256, 256)))
    assert large.shape[2:] == (256, 256)
    assert (F.avg_pool2d(large, 2) - small).abs().mean() < 0.01


def test_what_is_shut_in_is_filled_and_bays_stay() -> None:
    mask = torch.zeros(1, 1, 9, 9)
    mask[0, 0, 1:8, 1:8] = 1
    bay = mask.clone()
    bay[0, 0, 3:6, 3:6] = 0
    hole = bay.clone()
    bay[0, 0, 4, 5:] = 0  # a way out to the right
    assert torch.equal(parts.fill_holes(hole), mask)
    assert torch.equal(parts.fill_holes(bay), bay)


def test_a_hole_is_filled_as_high_as_its_lowest_rim() -> None:
    mask = torch.full((1, 1, 5, 5), 0.8)
    mask[0, 0, 2, 2], mask[0, 0, 0, 2] = 0.1, 0.3
    filled = parts.fill_holes(mask)
    assert filled[0, 0, 2, 2] == pytest.approx(0.8)
    assert filled[0, 0, 0, 2] == pytest.approx(0.3)


# ---- files ---------------------------------------------------------------------------------


def test_the_bundled_network_is_small() -> None:
    assert BUNDLED.stat().st_size < 300_000


def test_shares_of_a_pixel_are_one_together(network: parts.PartsNetwork) -> None:
    shares = network.shares(pictures(BODIES), parts.HEIGHT_OF_CANVAS)
    assert shares.shape == (len(BODIES), len(parts.CLASSES), 128, 64)
    assert torch.allclose(shares.sum(dim=1), torch.ones(()), atol=1e-5)


def test_what_is_saved_is_loaded_frozen_and_in_float32(tmp_path: Path) -> None:
    saved = parts.PartsNetwork((4, 6))
    parts.save(tmp_path / "parts", saved, {"name": "tiny"})
    loaded = parts.load(tmp_path / "parts", CPU)
    assert loaded.channels == (4, 6)
    for a, b in zip(saved.parameters(), loaded.parameters(), strict=True):
        assert b.dtype == torch.float32
        assert not b.requires_grad
        assert torch.equal(a.half().float(), b)


def tiny_file(
    path: Path, header: dict[str, object], tensors: dict[str, Tensor] | None = None
) -> Path:
    """A file of weights whose header has some other fields."""
    fields = {"format": 1, "kind": "parts", "channels": [4, 6], "about": {}} | header
    weights = parts.PartsNetwork((4, 6)).state_dict() if tensors is None else tensors
    safetensors.torch.save_file(weights, path, {"insetgan_batch": json.dumps(fields)})
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"kind": "generator"}, "kind 'generator'"),
        ({"channels": "wide"}, "channels 'wide'"),
        ({"channels": [4]}, "expected 2 to 7 numbers"),
        ({"channels": [4, -1]}, "expected numbers in 1..4095"),
        ({"channels": [4, 10**9]}, "expected numbers in 1..4095"),
        ({"channels": [4, 8]}, "do not fit"),
        ({"channels": [4, 6, 8]}, "do not fit"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: dict[str, object], message: str) -> None:
    path = tiny_file(tmp_path / "parts", header)
    with pytest.raises(CheckpointError, match=message) as caught:
        parts.load(path, CPU)
    assert "\n" not in str(caught.value)


def test_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    weights = dict(parts.PartsNetwork((4, 6)).state_dict())
    del weights["classify.bias"]
    with pytest.raises(CheckpointError, match=r"classify\.bias"):
        parts.load(tiny_file(tmp_path / "parts", {}, weights), CPU)


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        parts.load(tmp_path / "missing", CPU)
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        parts.load(tmp_path / "text", CPU)
    with pytest.raises(
        CheckpointError, match="no header of such a network; expected a network of kind 'parts'"
    ):
        parts.load(BUNDLED.with_name("face.safetensors"), CPU)
