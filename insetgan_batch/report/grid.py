"""The grid of a run: a column for each inset reference, a row for each canvas reference.

Where items stand is known before their pictures are read: a run that is no grid shows fewer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from insetgan_batch.report import words
from insetgan_batch.report.entries import Entry, Pair
from insetgan_batch.report.pictures import Picture

_SIDE = 16

_Key = tuple[tuple[str, int, str, float], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Labels of columns and rows, in order; the item's id in each taken cell, by (row, column)."""

    columns: dict[_Key, str]
    rows: dict[_Key, str]
    item_ids: dict[tuple[_Key, _Key], str]


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What a row or a column of the grid is held to. pictures: none while nothing in it is done."""

    label: str
    pictures: list[Picture]


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid: an item that is done, or failed, or neither."""

    entry: Entry | None
    failure: dict[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """References of the insets on top, of the canvas at the left; one list of cells per row."""

    columns: list[Head]
    rows: list[tuple[Head, list[Cell]]]


def places(records: Sequence[dict[str, Any]], failures: Iterable[dict[str, Any]]) -> Places | None:
    """Where each item stands in the grid; None if the items are no insets × canvases.

    Cells may be empty, as in a run that is still going on, but not half of them. A failed item
    whose record does not say what it was made from has no place.
    """
    items = [record["item"] for record in (*records, *failures) if "item" in record]
    if not any(item["insets"] for item in items) or len(items) > _SIDE**2:
        return None
    columns = {_key(item["insets"].values()): words.insets(item) for item in items}
    rows = {_key([item["canvas"]]): words.source(item["canvas"]) for item in items}
    ids = {(_key([i["canvas"]]), _key(i["insets"].values())): i["item_id"] for i in items}
    has_room = max(len(rows), len(columns)) <= _SIDE and len(ids) == len(items)
    is_list = len(columns) == 1 < len(rows)  # it would use a part of the page's width only
    if not has_room or is_list or 2 * len(items) <= len(rows) * len(columns):
        return None
    return Places(dict(sorted(columns.items())), dict(sorted(rows.items())), ids)


def fill(places: Places, entries: Iterable[Entry], failures: Iterable[dict[str, Any]]) -> Grid:
    """The places with what belongs there."""
    done = {entry.item_id: entry for entry in entries}
    failed = {record["item_id"]: record for record in failures}
    cells = {at: Cell(done.get(name), failed.get(name)) for at, name in places.item_ids.items()}
    in_row = {row: cell.entry.pairs[:1] for (row, _), cell in cells.items() if cell.entry}
    in_column = {column: cell.entry.pairs[1:] for (_, column), cell in cells.items() if cell.entry}
    return Grid(
        columns=[_head(label, in_column.get(key, [])) for key, label in places.columns.items()],
        rows=[
            (
                _head(label, in_row.get(row, [])),
                [cells.get((row, column), Cell(None, None)) for column in places.columns],
            )
            for row, label in places.rows.items()
        ],
    )


def _head(label: str, pairs: Iterable[Pair]) -> Head:
    return Head(label, [pair.reference for pair in pairs])


def _key(sources: Iterable[dict[str, Any]]) -> _Key:
    """What tells sources apart and sorts them: seeds as numbers, everything else as text."""
    return tuple(
        (
            source["kind"],
            source["value"] if source["kind"] == "seed" else 0,
            str(source["value"]),
            -1.0 if source["psi"] is None else source["psi"],
        )
        for source in sources
    )
