"""What the state of an item is the state of: nothing of it may differ where it goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from insetgan_batch import __version__
from insetgan_batch.methods.insetgan.recipe import Recipe
from insetgan_batch.methods.insetgan.saved import Label
from insetgan_batch.records import Item


def of(item: Item, recipe: Recipe, weights: Mapping[str, str]) -> Label:
    """The label of an item's states. recipe: the item's own; weights: sha256 by generator."""
    return {
        "item": item.item_id,
        "version": __version__,
        "inputs": _digest([item.inputs, item.seed, recipe]),
        "weights": _digest([weights]),
    }


def _digest(values: list[Any]) -> str:
    """The same for equal values in any process; of dataclasses, mappings and plain values."""
    text = json.dumps(values, default=_plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_record else dict(value)
