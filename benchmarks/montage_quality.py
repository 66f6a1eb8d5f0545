"""What a finished montage is worth: does the seam vanish, and do the inputs survive?

    python benchmarks/montage_quality.py out/demo

Prints one line per item and a verdict as JSON. A result counts when its seam has fallen to at most
40 % of the plain copy-and-paste's; its face when it is nearest to its own reference among all faces
of the run, and its body when it is nearest to its own among all bodies.

The face is looked at inside the inset's box, in the inset as it was pasted, at 64 px; the body on
the canvas outside of the item's own region and of its region before. Distances are mean absolute
differences in levels of 0..255.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.methods.insetgan.sources import given

_SEAM_SHARE = 0.4
_FACE_SIZE_PX = 64


def main(uri: str) -> None:
    """Measure every committed item of the run at `uri`."""
    store = RunStore(open_storage(uri))
    records = list(store.commits())
    faces = {_source(r, "face"): results.read_image(store, r, "face_reference") for r in records}
    bodies = {
        _source(r, "canvas"): results.read_image(store, r, "canvas_reference") for r in records
    }
    counts = {"items": len(records), "seam": 0, "face": 0, "body": 0}
    for record in records:
        measures = record["measures"]
        share = (measures["seam_after"] or 0.0) / (measures["seam_before"] or 1.0)
        face = _nearest_face(store, record, faces)
        body = _nearest_body(store, record, bodies)
        counts["seam"] += share <= _SEAM_SHARE
        counts["face"] += face == _source(record, "face")
        counts["body"] += body == _source(record, "canvas")
        print(
            f"{record['item_id']}: seam {measures['seam_before']:.1f} ->"
            f" {measures['seam_after']:.1f} ({share:.0%}), face nearest to {face},"
            f" body nearest to {body},"
            f" {measures['rounds']} rounds, {record['facts']['stop']}"
        )
    print(json.dumps(counts))


def _source(record: Mapping[str, Any], name: str) -> Any:
    source = given(record["item"]["inputs"])[name]
    return source.value


def _nearest_face(store: RunStore, record: Mapping[str, Any], faces: dict[Any, np.ndarray]) -> Any:
    """The face reference that the pasted inset resembles most, inside the inset's box."""
    inset = results.read_image(store, record, "face")
    box = [round(v * _FACE_SIZE_PX / inset.shape[0]) for v in record["boxes"]["face"]["inset"]]
    inside = np.s_[box[1] : box[3], box[0] : box[2]]
    small = _resized(inset)
    return min(faces, key=lambda name: np.abs(small - _resized(faces[name]))[inside].mean())


def _nearest_body(store: RunStore, record: Mapping[str, Any], bodies: dict[Any, np.ndarray]) -> Any:
    """The body reference that the result resembles most, outside of the regions."""
    image = results.read_image(store, record, "image").astype(float)
    outside = np.ones(image.shape[:2], bool)
    for name in ("region", "region_before"):
        x0, y0, x1, y1 = (max(0, round(v)) for v in record["boxes"]["face"][name])
        outside[y0:y1, x0:x1] = False
    return min(bodies, key=lambda name: np.abs(image - bodies[name])[outside].mean())


def _resized(picture: np.ndarray) -> np.ndarray:
    size = (_FACE_SIZE_PX, _FACE_SIZE_PX)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX), float)


if __name__ == "__main__":
    main(sys.argv[1])
