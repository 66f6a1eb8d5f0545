"""An item as the page shows it: a row of the table, and what its own view adds when it is opened.

Pictures and films stay where the run has them: a view names their keys.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.stored import Commit, Item, Source
from insetgan_batch.report import curves, words
from insetgan_batch.report.curves import Chart


@dataclasses.dataclass(frozen=True, slots=True)
class TableRow:
    """One line of the table. place: in its folder's sheet of thumbnails, from 0; measures, losses:
    numbers by name, None where there is none.
    """

    item_id: str
    place: int
    title: str
    stop: str
    measures: dict[str, float | None]
    losses: dict[str, float | None]
    perceptual: str
    has_images: bool


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What an item's own view needs. generators: name and source, the canvas first; files: key by
    name; boxes: by inset, `region_before` and `region`, in pixels of the canvas.
    """

    generators: list[tuple[str, str]]
    files: dict[str, str]
    boxes: dict[str, dict[str, list[float]]]
    charts: list[Chart]
    facts: list[tuple[str, str]]


def row(record: Commit, place: int) -> TableRow:
    """A commit record as a line of the table."""
    item, before, after = record["item"], record["seam_before"], record["seam_after"]
    ratio = after / before if before and after is not None else None
    return TableRow(
        item_id=record["item_id"],
        place=place,
        title=words.title(item),
        stop=record["stop"].replace("_", " "),
        measures={
            "seam_before": before,
            "seam_after": after,
            "seam_ratio": ratio,
            "score": record["score"],
            "rounds": record["rounds"],
            "best_round": record["best_round"],
            "steps": record["steps"],
            "seconds": record["seconds"],
        },
        losses=record["losses"],
        perceptual=record["perceptual"],
        has_images=any(source["kind"] == "image" for source in sources(item).values()),
    )


def view(store: RunStore, record: Commit) -> View:
    """What its own view shows. Raises `DamagedError` when its losses cannot be read."""
    item = record["item"]
    return View(
        generators=[(name, words.source(source)) for name, source in sources(item).items()],
        files={name: file["key"] for name, file in record["files"].items()},
        boxes={
            inset: {name: found[name] for name in ("region_before", "region")}
            for inset, found in record["boxes"].items()
        },
        charts=curves.charts(results.read_losses(store, record), record["best_round"]),
        facts=_facts(record),
    )


def sources(item: Item) -> dict[str, Source]:
    """Every generator's source, the canvas first."""
    return {"canvas": item["canvas"], **item["insets"]}


def _psi(record: Commit) -> dict[str, Any]:
    """The truncation of every generator that began at a seed."""
    return {name: psi for name, psi in record.get("psi", {}).items() if psi is not None}


def _facts(record: Commit) -> list[tuple[str, str]]:
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


def _course(record: Commit) -> list[tuple[str, str]]:
    """How the optimisation went."""
    stop, rounds, kept = record["stop"].replace("_", " "), record["rounds"], record["best_round"]
    return [
        ("stopped", f"{stop} after {rounds} rounds, round {kept} kept"),
        ("steps", f"{record['steps']:,} in {words.duration(record['seconds'])}"),
        ("score", words.number(record["score"])),
        ("missed detections", words.number(record["missed_detections"])),
    ]
