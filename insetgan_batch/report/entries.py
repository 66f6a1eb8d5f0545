"""An item as the page shows it: a row of the table, and what its own view adds when it is opened.

Pictures and films stay where the run has them: a view names their keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.stored import Commit
from insetgan_batch.methods.insetgan import sources
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


def row(record: Commit, place: int, insets: Sequence[str]) -> TableRow:
    """A commit record as a line of the table. insets: of the run."""
    measures, facts = record["measures"], record["facts"]
    before, after = measures.get("seam_before"), measures.get("seam_after")
    ratio = after / before if before and after is not None else None
    found = sources.of(record["item"]["inputs"], insets)
    return TableRow(
        item_id=record["item_id"],
        place=place,
        title=words.title(found),
        stop=str(facts.get("stop", "")).replace("_", " "),
        measures={
            "seam_before": before,
            "seam_after": after,
            "seam_ratio": ratio,
            "score": measures.get("score"),
            "rounds": measures.get("rounds"),
            "best_round": measures.get("best_round"),
            "steps": record["steps"],
            "seconds": record["seconds"],
        },
        losses=_losses(measures),
        perceptual=str(facts.get("perceptual", "")),
        has_images=any(source.kind == "image" for source in found.values()),
    )


def view(store: RunStore, record: Commit, insets: Sequence[str]) -> View:
    """What its own view shows. Raises `DamagedError` when its losses cannot be read."""
    found, facts = sources.of(record["item"]["inputs"], insets), record["facts"]
    losses = results.read_losses(store, record)
    return View(
        generators=[(name, words.source(source)) for name, source in found.items()],
        files={name: file["key"] for name, file in record["files"].items()},
        boxes={
            inset: {name: _box(facts[f"{inset}_{name}"]) for name in ("region_before", "region")}
            for inset in insets
            if f"{inset}_region" in facts
        },
        charts=[] if losses is None else curves.charts(losses, _whole(record, "best_round")),
        facts=_facts(record, insets),
    )


def _losses(measures: Mapping[str, float | None]) -> dict[str, float | None]:
    """By term."""
    named = ((name.partition("losses."), value) for name, value in measures.items())
    return {term: value for (before, mark, term), value in named if mark and not before}


def _box(fact: str | float | list[float] | None) -> list[float]:
    return fact if isinstance(fact, list) else []


def _whole(record: Commit, measure: str) -> int:
    return int(record["measures"].get(measure) or 0)


def _facts(record: Commit, insets: Sequence[str]) -> list[tuple[str, str]]:
    """What there is to say about an item besides its pictures."""
    item, found = record["item"], record["facts"]
    psi = {
        name: value
        for name in ("canvas", *insets)
        for value in (found.get(f"{name}_psi"), found.get(f"{name}_psi_per_layer"))
        if value is not None
    }
    facts = [
        *(_course(record) if _whole(record, "rounds") else []),
        *((f"psi of {name}", str(value)) for name, value in psi.items()),
        ("random seed", str(item["seed"])),
        ("attempt", record["attempt"]),
    ]
    facts += [(f"override {name}", str(value)) for name, value in item["overrides"].items()]
    return facts + [(name, str(value)) for name, value in item["meta"].items()]


def _course(record: Commit) -> list[tuple[str, str]]:
    """How the optimisation went."""
    measures, stop = record["measures"], str(record["facts"].get("stop", "")).replace("_", " ")
    rounds, kept = _whole(record, "rounds"), _whole(record, "best_round")
    return [
        ("stopped", f"{stop} after {rounds} rounds, round {kept} kept"),
        ("steps", f"{record['steps']:,} in {words.duration(record['seconds'])}"),
        ("score", words.number(measures.get("score"))),
        ("missed detections", words.number(_whole(record, "missed_detections"))),
    ]
