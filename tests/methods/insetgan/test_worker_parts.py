"""A worker whose head is found and cut out by the demo's network of parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from insetgan_batch.config import RunConfig, parse
from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.records import Lease, Status
from tests.methods.insetgan.test_worker import box_of
from tests.records import montage_items
from tests.runtime.recording import RecordingWorker


@pytest.fixture
def config() -> RunConfig:
    """One step of the demo's generators, without the canvas moving."""
    player = {"steps": 1, "region": "mask"}
    return parse(
        {
            "detector": "demo:head",
            "segmenter": {"face": "demo:head"},
            "recipe": {
                "resolution": 32,
                "coarse_size": 32,
                "min_rounds": 1,
                "max_rounds": 1,
                "stages": [],
                "canvas": {"steps": 1},
                "insets": {"face": player},
            },
        },
        "test",
    )


def test_a_head_is_found_and_pasted_along_its_edge(config: RunConfig, tmp_path: Path) -> None:
    item = montage_items([0], [1])[0]
    worker = RecordingWorker(config, str(tmp_path))
    (outcome,) = worker.serve_all([Lease(item, "1-1", "w", 1e9)]).values()
    assert (outcome.status, outcome.detail) == (Status.COMMITTED, "")
    store = RunStore(open_storage(str(tmp_path)))
    record = store.read_commit(item.item_id)
    image, canvas = (results.read_image(store, record, name) for name in ("image", "canvas"))
    x0, y0, x1, _ = (round(v) for v in box_of(record, "face_region"))
    changed = np.abs(image.astype(int) - canvas).max(axis=2) > 2
    assert changed.any()
    assert not changed[y0 : y0 + 4, x0 : x0 + 4].any()  # the backdrop in the region's corners
    assert not changed[y0 : y0 + 4, x1 - 4 : x1].any()
    left, top, right, bottom = box_of(record, "face_inset_box")
    assert 40 < bottom - top < 110
    assert 30 < right - left < 90
    worker.close()
