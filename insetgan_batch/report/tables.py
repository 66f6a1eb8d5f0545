"""The tables of the page: the numbers of every item, and the weights of the recipe."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from insetgan_batch.report import terms
from insetgan_batch.report.words import number

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


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of the table. group: what its heading stands under; is_number: right-aligned."""

    group: str
    title: str
    is_number: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """One cell of the table. number: what it sorts by, None for text and for what is missing."""

    text: str
    number: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """One row per item, its id first. groups: the upper line of headings, with their widths."""

    groups: list[tuple[str, int]]
    columns: list[Column]
    rows: list[list[Value]]


def items(records: Sequence[dict[str, Any]]) -> Table:
    """Every item's measures, then every raw loss of the round that was kept."""
    losses = sorted({term for record in records for term in record["losses"]}, key=terms.order)
    columns = [Column("", "item", False)]
    columns += [Column(group, title, True) for group, title, _ in _MEASURES]
    columns += [Column("optimisation", "stop", False)]
    for term in losses:
        family = terms.family(term)
        among = [other for other in losses if terms.family(other) == family]
        columns.append(Column(f"{family} loss", terms.label(term, among), True))
    grouped = itertools.groupby(columns, key=lambda column: column.group)
    return Table(
        groups=[(group, len(list(members))) for group, members in grouped],
        columns=columns,
        rows=[_row(record, losses) for record in records],
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


def _row(record: dict[str, Any], losses: Iterable[str]) -> list[Value]:
    before, after = record["seam_before"], record["seam_after"]
    measures = record | {"seam_ratio": after / before if before and after is not None else None}
    values = [measures[name] for _, _, name in _MEASURES]
    raw = [record["losses"].get(term) for term in losses]
    return [
        Value(record["item_id"]),
        *(Value(number(value), value) for value in values),
        Value(record["stop"].replace("_", " ")),
        *(Value(number(value), value) for value in raw),
    ]


def _weight(setting: Any, distance: str) -> float:
    """A family's weight for a distance ("" for those that have none), 0 if there is none."""
    if isinstance(setting, dict):
        return float(setting.get(distance, 0))
    return float(setting or 0) if not distance else 0.0
