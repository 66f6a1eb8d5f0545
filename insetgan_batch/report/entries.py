"""An item as the page shows it: a row of the table, and what its own view adds when it is opened.

Pictures and films stay where the run has them: a view names their keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.stored import Commit
from insetgan_batch.method import Page, Region
from insetgan_batch.report import curves, words
from insetgan_batch.report.curves import Chart


@dataclasses.dataclass(frozen=True, slots=True)
class TableRow:
    """One line of the table. place: in its folder's sheet of thumbnails, from 0; measures: numbers
    by name, None where there is none; inputs: the columns that its row gives.
    """

    item_id: str
    place: int
    title: str
    end: str
    measures: Mapping[str, float | None]
    steps: int
    seconds: float
    inputs: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What an item's own view needs. files: key by name; pictures: captions by file, by heading."""

    files: dict[str, str]
    pictures: Mapping[str, Mapping[str, str]]
    regions: Mapping[str, Region]
    charts: list[Chart]
    facts: list[tuple[str, str]]


def row(record: Commit, place: int, page: Page) -> TableRow:
    """A commit record as a line of the table."""
    inputs = record["item"]["inputs"]
    return TableRow(
        item_id=record["item_id"],
        place=place,
        title=page.title(inputs),
        end=page.end(record),
        measures=record["measures"],
        steps=record["steps"],
        seconds=record["seconds"],
        inputs=frozenset(inputs),
    )


def view(store: RunStore, record: Commit, page: Page) -> View:
    """What its own view shows. Raises `DamagedError` when its losses cannot be read."""
    losses, kept = results.read_losses(store, record), record["measures"].get("best_round")
    return View(
        files={name: file["key"] for name, file in record["files"].items()},
        pictures=page.pictures(record),
        regions=page.regions(record),
        charts=[] if losses is None else curves.charts(losses, int(kept or 0), page),
        facts=_facts(record, page),
    )


def _facts(record: Commit, page: Page) -> list[tuple[str, str]]:
    """What there is to say about an item besides its pictures."""
    item = record["item"]
    return [
        *((n, v if isinstance(v, str) else words.number(v)) for n, v in page.facts(record)),
        ("steps", f"{record['steps']:,} in {words.duration(record['seconds'])}"),
        ("random seed", str(item["seed"])),
        ("attempt", record["attempt"]),
        *((f"override {name}", str(value)) for name, value in item["overrides"].items()),
        *((name, str(value)) for name, value in item["meta"].items()),
    ]
