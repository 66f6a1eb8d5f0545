"""The items that the page shows: each with its pictures, its curves and what else is known."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.report import curves, pictures, words
from insetgan_batch.report.curves import Chart
from insetgan_batch.report.pictures import Picture, Zoom

_LOSSLESS_ITEMS = 36  # with more the page would grow beyond what a browser opens gladly
_READERS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A generator's reference, and what became of it."""

    name: str
    label: str
    reference: Picture
    moved: Picture


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One item that is done, with its pictures. pairs: the canvas' first."""

    item_id: str
    canvas_label: str
    inset_label: str
    seam_before: float | None
    seam_after: float | None
    before: Picture
    after: Picture
    pairs: list[Pair]
    zooms: list[Zoom]
    charts: list[Chart]
    facts: list[tuple[str, str]]


def read(store: RunStore, records: Sequence[dict[str, Any]]) -> list[Entry]:
    """One entry per commit record. Raises `StorageError` when a file of it cannot be read."""
    entry = functools.partial(_entry, store, is_lossless=len(records) <= _LOSSLESS_ITEMS)
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(entry, records))


def sources(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every generator's source, the canvas first."""
    return {"canvas": item["canvas"], **item["insets"]}


def _entry(store: RunStore, record: dict[str, Any], *, is_lossless: bool) -> Entry:
    item = record["item"]
    load = functools.partial(results.read_image, store, record)
    embed = functools.partial(pictures.embed, is_lossless=is_lossless)
    before, after = load("copy_paste"), load("image")
    return Entry(
        item_id=record["item_id"],
        canvas_label=words.source(item["canvas"]),
        inset_label=words.insets(item),
        seam_before=record["seam_before"],
        seam_after=record["seam_after"],
        before=embed(before),
        after=embed(after),
        pairs=[
            Pair(name, words.source(source), embed(load(f"{name}_reference")), embed(load(name)))
            for name, source in sources(item).items()
        ],
        zooms=[
            pictures.zoom(name, before, after, found, is_lossless=is_lossless)
            for name, found in record["boxes"].items()
        ],
        charts=curves.charts(results.read_losses(store, record), record["best_round"]),
        facts=_facts(record),
    )


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say about an item besides its pictures."""
    item, rounds, kept = record["item"], record["rounds"], record["best_round"]
    stop = record["stop"].replace("_", " ")
    facts = [
        ("stopped", f"{stop} after {rounds} rounds, round {kept} kept"),
        ("steps", f"{record['steps']:,} in {words.duration(record['seconds'])}"),
        ("score", words.number(record["score"])),
        ("missed detections", words.number(record["missed_detections"])),
        ("random seed", str(item["seed"])),
        ("attempt", record["attempt"]),
    ]
    facts += [(f"override {name}", str(value)) for name, value in item["overrides"].items()]
    return facts + [(name, str(value)) for name, value in item["meta"].items()]
