"""Pictures are no larger than the page shows them, and the region is enlarged."""

from __future__ import annotations

import base64
import io

from PIL import Image

from insetgan_batch.data.commits import RunStore
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
