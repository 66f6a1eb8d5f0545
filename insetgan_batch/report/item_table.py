"""The tables of the page: the numbers of every item, and its failures.

Tables go to the page's script by columns, with numbers as far as people read them: half the bytes
of a table by rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from insetgan_batch.data import tables
from insetgan_batch.data.commits import hh
from insetgan_batch.data.stored import Quarantined
from insetgan_batch.method import Measure, Method, Page
from insetgan_batch.report import words
from insetgan_batch.report.entries import TableRow

_DIGITS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of the table. group: what its heading stands under; values: numbers or texts."""

    group: str
    title: str
    values: Sequence[float | None] | Sequence[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """One row per item. item_ids, titles: what a row is; folders, places: where its thumbnail and
    its view are, empty for items that have none.
    """

    item_ids: list[str]
    titles: list[str]
    folders: list[int]
    places: list[int]
    columns: list[Column]


def items(rows: Sequence[TableRow], measures: Sequence[Measure], page: Page) -> Table:
    """Every item's measures, then every raw loss of the round that was kept; by item id.

    measures: of the method. A column without a number or a text is left out.
    """
    rows = sorted(rows, key=lambda row: row.item_id)
    columns = [
        *_measured(rows, measures),
        Column("work", "steps", [row.steps for row in rows]),
        Column("work", "seconds", [_short(row.seconds) for row in rows]),
        *_losses(rows, page),
        Column("", "stopped", [row.end for row in rows]),
    ]
    return Table(
        item_ids=[row.item_id for row in rows],
        titles=[row.title for row in rows],
        folders=[int(hh(row.item_id), 16) for row in rows],
        places=[row.place for row in rows],
        columns=[column for column in columns if any(v not in (None, "") for v in column.values)],
    )


def failures(records: Sequence[Quarantined], method: Method, page: Page) -> Table:
    """Every failed item with its reason, its detail in full, and how often it was tried."""
    reasons = [words.reason(record["reason"], method.REASONS) for record in records]
    return Table(
        item_ids=[record["item_id"] for record in records],
        titles=[
            page.title(record["item"]["inputs"]) if "item" in record else "" for record in records
        ],
        folders=[],
        places=[],
        columns=[
            Column("", "reason", reasons),
            Column("", "attempts", [record["attempts"] for record in records]),
            Column("", "detail", [record["detail"] for record in records]),
        ],
    )


def _measured(rows: Sequence[TableRow], measures: Sequence[Measure]) -> Iterator[Column]:
    found = sorted({n for row in rows for n in row.measures if not tables.is_loss(n)})
    for measure in measures:
        for name in filter(measure.names, found) if measure.title is not None else []:
            title = measure.title or name.replace("_", " ")
            yield Column(measure.group, title, [_short(row.measures.get(name)) for row in rows])
        if measure.before:
            yield Column(measure.group, "ratio", [_ratio(row, measure) for row in rows])


def _losses(rows: Sequence[TableRow], page: Page) -> Iterator[Column]:
    losses = [tables.losses_among(row.measures) for row in rows]
    for family in page.loss_families({term for of in losses for term in of}):
        for term, label in family.labels.items():
            yield Column(f"{family.title} loss", label, [_short(of.get(term)) for of in losses])


def _ratio(row: TableRow, measure: Measure) -> float | None:
    """A measure as a share of what it was before."""
    before, after = row.measures.get(measure.before), row.measures.get(measure.name)
    return _short(after / before) if before and after is not None else None


def _short(value: float | None) -> float | None:
    """Whole numbers as they are, others with the digits that somebody could read."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
