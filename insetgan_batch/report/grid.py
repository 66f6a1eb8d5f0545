"""The grid of a small run whose items stand in rows and columns, as its method says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from insetgan_batch.data.stored import Commit, File, Quarantined
from insetgan_batch.method import Head, Page

SIDE = 16


@dataclasses.dataclass(frozen=True, slots=True)
class GridHead:
    """The head of a row or a column. keys: of its pictures, none while nothing in it is done."""

    label: str
    keys: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class GridCell:
    """One place of the grid: the commit of an item that is done, or a failure, or neither."""

    record: Commit | None = None
    failure: Quarantined | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """Heads on top and at the left; one list of cells per row."""

    columns: list[GridHead]
    rows: list[tuple[GridHead, list[GridCell]]]


def of(records: Sequence[Commit], failures: Sequence[Quarantined], page: Page) -> Grid | None:
    """Where each item stands in the grid; None if the items make none.

    Cells may be empty, as in a run that is still going on, but not half of them. A failed item
    whose record does not say what it was made from has no place.
    """
    shown = [(record["item"]["inputs"], GridCell(record=record)) for record in records]
    shown += [(f["item"]["inputs"], GridCell(failure=f)) for f in failures if "item" in f]
    rows: dict[tuple[Any, ...], GridHead] = {}
    columns: dict[tuple[Any, ...], GridHead] = {}
    cells: dict[tuple[Any, ...], GridCell] = {}
    for inputs, cell in shown:
        place = page.place(inputs)
        if place is None:
            return None
        for heads, head in zip((rows, columns), place, strict=True):
            _add(heads, head, cell.record["files"] if cell.record else {})
        cells[place[0].key, place[1].key] = cell
    has_room = max(len(rows), len(columns)) <= SIDE and len(cells) == len(shown)
    is_list = len(columns) == 1 < len(rows)  # it would use a part of the page's width only
    if not has_room or is_list or 2 * len(cells) <= len(rows) * len(columns):
        return None
    order = sorted(columns)
    return Grid(
        columns=[columns[key] for key in order],
        rows=[
            (rows[key], [cells.get((key, column), GridCell()) for column in order])
            for key in sorted(rows)
        ],
    )


def _add(heads: dict[tuple[Any, ...], GridHead], head: Head, files: Mapping[str, File]) -> None:
    """files: of an item that has this head."""
    keys = [files[name]["key"] for name in head.files if name in files]
    if keys or head.key not in heads:
        heads[head.key] = GridHead(head.label, keys)
