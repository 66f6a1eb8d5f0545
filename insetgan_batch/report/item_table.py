"""The tables of the page: the numbers of every item, its failures, and the recipe's weights.

Tables of items go to the page's script by columns, with numbers as far as people read them: half
the bytes of a table by rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from insetgan_batch.data.commits import hh
from insetgan_batch.data.stored import Quarantined
from insetgan_batch.methods.insetgan import sources
from insetgan_batch.report import terms, words
from insetgan_batch.report.entries import TableRow

_MEASURES = (
    ("seam", "before", "seam_before"),
    ("seam", "after", "seam_after"),
    ("seam", "ratio", "seam_ratio"),
    ("optimisation", "score", "score"),
    ("optimisation", "rounds", "rounds"),
    ("optimisation", "kept", "best_round"),
    ("optimisation", "steps", "steps"),
    ("optimisation", "seconds", "seconds"),
)
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


def items(rows: Sequence[TableRow]) -> Table:
    """Every item's measures, then every raw loss of the round that was kept; by item id.

    A column in which no item has a number is left out.
    """
    rows = sorted(rows, key=lambda row: row.item_id)
    losses = sorted({term for row in rows for term in row.losses}, key=terms.order)
    columns = [Column(g, t, [_short(row.measures[n]) for row in rows]) for g, t, n in _MEASURES]
    for term in losses:
        family = terms.family(term)
        among = [other for other in losses if terms.family(other) == family]
        values = [_short(row.losses.get(term)) for row in rows]
        columns.append(Column(f"{family} loss", terms.label(term, among), values))
    columns = [column for column in columns if any(v is not None for v in column.values)]
    return Table(
        item_ids=[row.item_id for row in rows],
        titles=[row.title for row in rows],
        folders=[int(hh(row.item_id), 16) for row in rows],
        places=[row.place for row in rows],
        columns=[*columns, Column("optimisation end", "stopped", [row.stop for row in rows])],
    )


def failures(records: Sequence[Quarantined], insets: Sequence[str]) -> Table:
    """Every failed item with its reason, its detail in full, and how often it was tried.

    insets: of the run.
    """
    return Table(
        item_ids=[record["item_id"] for record in records],
        titles=[
            words.title(sources.of(record["item"]["inputs"], insets)) if "item" in record else ""
            for record in records
        ],
        folders=[],
        places=[],
        columns=[
            Column("", "reason", [words.reason(record["reason"]) for record in records]),
            Column("", "attempts", [record["attempts"] for record in records]),
            Column("", "detail", [record["detail"] for record in records]),
        ],
    )


def recipe(fields: dict[str, Any] | None) -> dict[str, Any] | None:
    """The recipe, with a table of weights: one row per term, one value per generator. movers: the
    players that move, in their order; stage_rounds: of each stage, if there are stages.
    """
    if fields is None:
        return None
    players = {"canvas": fields["canvas"], **fields["insets"]}
    order = fields.get("order") or list(players)
    weights: dict[str, list[str]] = {}
    for family in (*terms.FAMILIES, "delta"):
        for distance, title in (terms.DISTANCES | {"": ""}).items():
            found = [_weight(player.get(family), distance) for player in players.values()]
            if any(found):
                weights[f"{family} {title}".strip()] = [f"{w:g}" if w else "" for w in found]
    return fields | {
        "players": players,
        "movers": {name: players[name] for name in order if players[name]["steps"]},
        "stage_rounds": [stage["rounds"] for stage in fields.get("stages", [])],
        "weights": weights,
    }


def _short(value: float | None) -> float | None:
    """Whole numbers as they are, others with the digits that somebody could read."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _weight(setting: Any, distance: str) -> float:
    """A family's weight for a distance ("" for those that have none), 0 if there is none."""
    if isinstance(setting, dict):
        return float(setting.get(distance, 0))
    return float(setting or 0) if not distance else 0.0
