"""The items that the page shows: each with its pictures, its curves and what else is known."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.report import curves, pictures, words
from insetgan_batch.report.curves import Chart
from insetgan_batch.report.pictures import Picture, Zoom

_LOSSLESS_ITEMS = 36  # with more the page would grow beyond what a browser opens gladly
_MAX_FILM_BYTES = 2_000_000  # the same
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
    """One item that is done, with its pictures.

    before: None where nothing was pasted. pairs: the canvas' first. film: None if none was kept, or
    if the page has no room for it.
    """

    item_id: str
    title: str
    seam_before: float | None
    seam_after: float | None
    before: Picture | None
    after: Picture
    film: Picture | None
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
    after = load("image")
    before = load("copy_paste") if item["insets"] else after
    return Entry(
        item_id=record["item_id"],
        title=words.title(item),
        seam_before=record["seam_before"],
        seam_after=record["seam_after"],
        before=embed(before) if item["insets"] else None,
        after=embed(after),
        film=_film(store, record, after.shape) if is_lossless else None,
        pairs=[
            Pair(name, words.source(source), embed(load(f"{name}_reference")), embed(load(name)))
            for name, source in sources(item).items()
            if item["insets"]
        ],
        zooms=[
            pictures.zoom(name, before, after, found, is_lossless=is_lossless)
            for name, found in record["boxes"].items()
        ],
        charts=curves.charts(results.read_losses(store, record), record["best_round"]),
        facts=_facts(record),
    )


def _film(store: RunStore, record: dict[str, Any], shape: tuple[int, ...]) -> Picture | None:
    """The film as it was kept, in its own size."""
    if record["files"].get("film", {}).get("bytes", math.inf) > _MAX_FILM_BYTES:
        return None
    return pictures.embedded(results.read_file(store, record, "film"), "webp", shape[1], shape[0])


def _psi(record: dict[str, Any]) -> dict[str, Any]:
    """The truncation of every generator that began at a seed."""
    return {name: psi for name, psi in record.get("psi", {}).items() if psi is not None}


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say about an item besides its pictures."""
    item = record["item"]
    facts = [
        *(_course(record) if record["rounds"] else []),
        *((f"psi of {name}", str(psi)) for name, psi in _psi(record).items()),
        ("random seed", str(item["seed"])),
        ("attempt", record["attempt"]),
    ]
    facts += [(f"override {name}", str(value)) for name, value in item["overrides"].items()]
    return facts + [(name, str(value)) for name, value in item["meta"].items()]


def _course(record: dict[str, Any]) -> list[tuple[str, str]]:
    """How the optimisation went."""
    stop, rounds, kept = record["stop"].replace("_", " "), record["rounds"], record["best_round"]
    return [
        ("stopped", f"{stop} after {rounds} rounds, round {kept} kept"),
        ("steps", f"{record['steps']:,} in {words.duration(record['seconds'])}"),
        ("score", words.number(record["score"])),
        ("missed detections", words.number(record["missed_detections"])),
    ]
