"""A run of `tests/methods/negative.py`, which says nothing of pages."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.methods.feed_forward import Prediction
from insetgan_batch.records import Item
from tests.methods import negative
from tests.report.runs import fail


def fill(store: RunStore, *levels: int) -> None:
    """The negatives of pictures of one grey; those of level 0 fail."""
    store.open_run(
        {"run_id": "negatives", "configuration": {"method": negative.NAME}, "weights": {}}
        | {"code_version": "0.1.0", "created_at": "2026-11-20T14:40:05+00:00"}
    )
    for level in levels:
        item = Item(f"grey{level}", {"picture": f"s3://greys/{level}.png"})
        pixels = np.asarray(Image.open(io.BytesIO(negative.picture(level))))
        (found,) = negative.predict([pixels])
        if not isinstance(found, Prediction):
            fail(store, item, "diverged", str(found))
            continue
        result = results.Result(
            item, "1-1", found.images, {}, 0.5, measures=found.measures, facts={"lens": "50 mm"}
        )
        store.commit(item.item_id, results.save(store, result))
