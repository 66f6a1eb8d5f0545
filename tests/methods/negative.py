"""A method of a few lines: the negative of a picture. What runs anything must run this."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from insetgan_batch.config import Machine, Settings
from insetgan_batch.data import pictures
from insetgan_batch.errors import ItemError
from insetgan_batch.method import Column, Measure, Schema
from insetgan_batch.methods.feed_forward import PREDICT, FeedForward, Prediction
from insetgan_batch.records import Item

NAME = "tests.methods.negative"
MEASURES = (Measure("mean", "mean level of the result", tolerance=0.0),)
REASONS: dict[str, str] = {}


def rows(settings: Settings) -> Schema:
    return rows_of_run({})


def rows_of_run(run: Mapping[str, Any]) -> Schema:
    return Schema({"picture": Column("picture")}, {}, str, lambda item: item.inputs)


def phases(settings: Settings) -> list[str]:
    return [PREDICT]


def steps(settings: Settings) -> int:
    return 1


def load(settings: Settings, machine: Machine, device: Any) -> FeedForward[np.ndarray[Any, Any]]:
    return FeedForward(prepare, predict, machine.least_slots)


def prepare(item: Item, read: Callable[[str], bytes]) -> np.ndarray[Any, Any]:
    uri = item.inputs["picture"]
    return np.asarray(pictures.read(read(uri), uri))


def predict(found: Sequence[np.ndarray[Any, Any]]) -> list[Prediction | ItemError]:
    """A black picture is one that cannot be done."""
    return [
        Prediction(
            {"image": 255 - pixels, "picture": pixels},
            {"mean": 255 - float(pixels.mean())},
            given=frozenset({"picture"}),
        )
        if pixels.any()
        else ItemError("a black picture has no negative here")
        for pixels in found
    ]


def picture(level: int, side: int = 16) -> bytes:
    """A PNG of one grey."""
    sink = io.BytesIO()
    Image.new("RGB", (side, side), (level,) * 3).save(sink, "PNG")
    return sink.getvalue()
