"""Pictures are no larger than the page shows them, and the region is enlarged."""

from __future__ import annotations

import base64
import cmath
import io
import re

import numpy as np
from PIL import Image

from insetgan_batch.data.commits import RunStore
from insetgan_batch.report import pictures
from tests.report.runs import HEIGHT, commit, montage, page_of


def test_a_region_is_shown_with_its_margin_before_and_after(store: RunStore) -> None:
    commit(store, montage(1, 1))
    crops = [v for tag, v in page_of(store).tags if tag == "img" and v["class"] == "enlarged"]
    margin = round(12 / 256 * HEIGHT)
    assert [(v["width"], v["height"]) for v in crops] == [
        (str(26 - 8 + 2 * margin), str(20 - 4 + 2 * margin))
    ] * 2


def test_large_pictures_are_reduced(store: RunStore) -> None:
    commit(store, montage(1, 1), scale=16)
    uri = next(v["src"] for tag, v in page_of(store).tags if tag == "img" and v["class"] == "after")
    with Image.open(io.BytesIO(base64.b64decode((uri or "").partition(",")[2]))) as image:
        assert image.size == (256, 512)


def strokes_of(region: list[float]) -> list[complex]:
    """The ends of all strokes at a region's corners, on the canvas; the nearer ends first."""
    pixels = np.zeros((256, 128, 3), np.uint8)
    found = {"region_before": [40, 60, 80, 100], "region": region}
    zoom = pictures.zoom("face", pixels, pixels, found, is_lossless=True)
    frame = complex(40 - 12, 60 - 12)
    ends = [
        complex(*map(float, end)) for end in re.findall(r"([-\d.]+) ([-\d.]+)", zoom.marks_after)
    ]
    return [end + frame for end in (*ends[::2], *ends[1::2])]


def test_marks_stand_outside_of_the_corners_and_turn_with_the_region() -> None:
    upright = strokes_of([40, 60, 80, 100])
    beside = {(x, y) for x in (37.6, 82.4) for y in (60, 100)}
    above = {(x, y) for x in (40, 80) for y in (57.6, 102.4)}
    assert {(round(z.real, 1), round(z.imag, 1)) for z in upright[:8]} == beside | above
    centre, turn = complex(60, 80), cmath.rect(1, 0.3)
    turned = strokes_of([40, 60, 80, 100, 0.3])
    for before, after in zip(upright, turned, strict=True):
        assert abs(after - (centre + turn * (before - centre))) < 0.2
