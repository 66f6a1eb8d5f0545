"""The grid of a small run: a column for each inset reference, a row for each canvas reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from insetgan_batch.data.stored import Commit, Quarantined
from insetgan_batch.methods.insetgan import sources
from insetgan_batch.methods.insetgan.sources import CANVAS, Source
from insetgan_batch.report import words

SIDE = 16

_Key = tuple[tuple[str, int, str, float], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What a row or a column of the grid is held to. keys: of its pictures, none while nothing in
    it is done.
    """

    label: str
    keys: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class GridCell:
    """One place of the grid: the commit record of an item that is done, or a failure, or neither.

    title: what the item was made of.
    """

    record: Commit | None = None
    failure: Quarantined | None = None
    title: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """References of the insets on top, of the canvas at the left; one list of cells per row."""

    columns: list[Head]
    rows: list[tuple[Head, list[GridCell]]]


def of(
    records: Sequence[Commit], failures: Sequence[Quarantined], insets: Sequence[str]
) -> Grid | None:
    """Where each item stands in the grid; None if the items are no insets × canvases.

    insets: of the run. Cells may be empty, as in a run that is still going on, but not half of
    them. A failed item whose record does not say what it was made from has no place.
    """
    items = [record["item"] for record in (*records, *failures) if "item" in record]
    if not insets or not items or len(items) > SIDE**2:
        return None
    found = [sources.of(item["inputs"], insets) for item in items]
    columns = {_place(one)[1]: words.insets(one) for one in found}
    rows = {_place(one)[0]: words.source(one[CANVAS]) for one in found}
    places = {_place(one) for one in found}
    has_room = max(len(rows), len(columns)) <= SIDE and len(places) == len(items)
    is_list = len(columns) == 1 < len(rows)  # it would use a part of the page's width only
    if not has_room or is_list or 2 * len(items) <= len(rows) * len(columns):
        return None
    return _fill(sorted(columns.items()), sorted(rows.items()), records, failures, insets)


def _fill(
    columns: list[tuple[_Key, str]],
    rows: list[tuple[_Key, str]],
    records: Iterable[Commit],
    failures: Iterable[Quarantined],
    insets: Sequence[str],
) -> Grid:
    cells, at_left, on_top = {}, {}, {}
    for record in records:
        found = sources.of(record["item"]["inputs"], insets)
        row, column = _place(found)
        cells[row, column] = GridCell(record=record, title=words.title(found))
        at_left[row] = _references(record, [CANVAS])
        on_top[column] = _references(record, insets)
    for failure in failures:
        if "item" in failure:
            place = _place(sources.of(failure["item"]["inputs"], insets))
            cells[place] = GridCell(failure=failure)
    return Grid(
        columns=[Head(label, on_top.get(key, [])) for key, label in columns],
        rows=[
            (
                Head(label, at_left.get(row, [])),
                [cells.get((row, c), GridCell()) for c, _ in columns],
            )
            for row, label in rows
        ],
    )


def _references(record: Commit, names: Iterable[str]) -> list[str]:
    files = (record["files"].get(f"{name}_reference") for name in names)
    return [file["key"] for file in files if file is not None]


def _place(found: Mapping[str, Source]) -> tuple[_Key, _Key]:
    """Its row and its column. found: the sources by generator."""
    return _key([found[CANVAS]]), _key(one for name, one in found.items() if name != CANVAS)


def _key(sources: Iterable[Source]) -> _Key:
    """What tells sources apart and sorts them: seeds as numbers, everything else as text."""
    return tuple(
        (
            source.kind,
            source.value if isinstance(source.value, int) else 0,
            str(source.value),
            -1.0 if source.psi is None else source.psi,
        )
        for source in sources
    )
