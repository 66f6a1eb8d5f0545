"""What a dataset says of an item as rows of tables: `results` (one per item) and `losses`.

The columns follow from the run: the columns of its manifest, the facts, measures and files that its
items have. `Collector` sees all commits, so that every shard has the same schema.
docs/dataset.md explains each column.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from insetgan_batch.data import columns
from insetgan_batch.data.results import LossTable
from insetgan_batch.method import Measure, Schema, declared

LOSSES_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("step", pa.int32()),
        ("phase", pa.string()),
        ("term", pa.string()),
        ("raw", pa.float32()),
        ("weight", pa.float32()),
    ]
)
_LIST = pa.list_(pa.float64())
_LOSSES = "losses."
_ITEM = {
    "item_id": pa.string(),
    "outcome": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
    "split": pa.string(),
    "attempt": pa.string(),
    "attempts": pa.int32(),
}
_OF_EVERY_ITEM = {"seed": pa.int64(), "overrides": pa.string(), "meta": pa.string()}
_COURSE = {"steps": pa.int32(), "seconds": pa.float64(), "machine": pa.string()}
_ORIGIN = {
    "run_id": pa.string(),
    "code_version": pa.string(),
    "created_at": pa.string(),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """What differs from run to run: (name, type) of what the rows gave, of the facts and of the
    measures that its items have, and the names of their files.
    """

    inputs: tuple[tuple[str, pa.DataType], ...]
    facts: tuple[tuple[str, pa.DataType], ...]
    measures: tuple[tuple[str, pa.DataType], ...]
    files: tuple[str, ...]

    @property
    def terms(self) -> list[str]:
        """The losses among the measures, by term."""
        return [name.removeprefix(_LOSSES) for name, _ in self.measures if is_loss(name)]


class Collector:
    """Sees the records of a run, one by one, and knows the columns in the end."""

    def __init__(self, schema: Schema, declared: Sequence[Measure]) -> None:
        """schema: of the method's rows; declared: the method's measures."""
        known = columns.known(schema)
        self._inputs = {n: columns.TYPES[known[n]] for n in schema.columns if n in known}
        self._facts: dict[str, pa.DataType] = {}
        self._declared, self._measures = declared, set[str]()
        self._files: dict[str, None] = {"image": None}

    def see(self, record: Mapping[str, Any]) -> None:
        """A commit record."""
        for name, value in record["item"]["inputs"].items():
            self._inputs.setdefault(name, _type_of(value))
        self._facts |= {n: _type_of(v) for n, v in record["facts"].items() if v is not None}
        self._measures |= record["measures"].keys()
        self._files |= dict.fromkeys(record["files"])

    @property
    def columns(self) -> Columns:
        """Of all that were seen."""
        order = {measure.name: i for i, measure in enumerate(self._declared)}
        found = [(declared(self._declared, name), name) for name in sorted(self._measures)]
        found.sort(key=lambda pair: order.get(pair[0].name if pair[0] else "", len(order)))
        return Columns(
            tuple((n, t) for n, t in self._inputs.items() if n not in self._facts),
            tuple(sorted(self._facts.items(), key=lambda pair: pair[0])),
            tuple((n, pa.int32() if m and m.is_whole else pa.float64()) for m, n in found),
            tuple(self._files),
        )


def item_schema(columns: Columns) -> pa.Schema:
    """The columns of an item beside its image; what its commit says."""
    files = {f"sha256.{name}": pa.string() for name in columns.files}
    given = dict(columns.inputs) | dict(columns.facts) | _OF_EVERY_ITEM
    all_of_them = _ITEM | given | _COURSE | dict(columns.measures) | _ORIGIN | files
    return pa.schema(list((all_of_them | {"image_key": pa.string()}).items()))


def results_schema(columns: Columns) -> pa.Schema:
    """The same, and the final losses times their weights."""
    schema = item_schema(columns)
    for term in columns.terms:
        schema = schema.append(pa.field(f"weighted.{term}", pa.float64()))
    return schema


def item_row(record: Mapping[str, Any], split: str | None) -> dict[str, Any]:
    """A commit record as a row of `item_schema`; what it has not is left out."""
    origin = record.get("provenance", {})
    row = {"item_id": record["item_id"], "outcome": "committed", "split": split}
    row |= {"attempt": record["attempt"]} | _inputs(record["item"]) | record["facts"]
    row |= {name: record.get(name) for name in _COURSE} | record["measures"]
    row |= {name: origin.get(name) for name in _ORIGIN}
    row |= {f"sha256.{name}": file["sha256"] for name, file in record["files"].items()}
    return row | {"image_key": record["files"]["image"]["key"]}


def quarantined_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """An item that could not be done; a bad row of the manifest has an id and a reason only."""
    row = {name: record.get(name) for name in ("reason", "detail", "attempt", "attempts")}
    row |= {"item_id": record["item_id"], "outcome": "quarantined"}
    return row | (_inputs(record["item"]) if record.get("item") else {})


def weighted(record: Mapping[str, Any], losses: LossTable) -> dict[str, float | None]:
    """Final losses times the weights in force: `weighted.<term>`, whose sum is nearly the score.

    The weights are those of the last step up to the round that was kept; a term that several
    generators are held to weighs as often. A term without a step, as where nothing moved, has none.
    """
    until = record["measures"].get("best_round") or 0
    last: dict[str, dict[str, float]] = {}
    rows = zip(losses.round.tolist(), losses.phase, losses.term, losses.weight, strict=True)
    for number, phase, term, weight in rows:
        if number <= until:
            last.setdefault(term, {})[phase] = float(weight)
    return {
        f"weighted.{term}": None if raw is None else raw * sum(last[term].values())
        for term, raw in losses_among(record["measures"]).items()
        if term in last
    }


def loss_rows(item_id: str, losses: LossTable, every: int) -> pa.Table:
    """Every `every`-th step of an item, from its first on, as `LOSSES_SCHEMA`."""
    kept = np.flatnonzero(np.asarray(losses.step) % every == 0)
    return pa.table(
        [
            pa.array([item_id] * len(kept), pa.string()),
            pa.array(losses.step[kept], pa.int32()),
            pa.array([losses.phase[i] for i in kept], pa.string()),
            pa.array([losses.term[i] for i in kept], pa.string()),
            pa.array(losses.raw[kept], pa.float32()),
            pa.array(losses.weight[kept], pa.float32()),
        ],
        schema=LOSSES_SCHEMA,
    )


def losses_among(measures: Mapping[str, float | None]) -> dict[str, float | None]:
    """The losses among the measures of an item, by term."""
    return {n.removeprefix(_LOSSES): value for n, value in measures.items() if is_loss(n)}


def is_loss(measure: str) -> bool:
    """Whether a measure is the loss of a term."""
    return measure.startswith(_LOSSES)


def _type_of(value: object) -> pa.DataType:
    if isinstance(value, str):
        return pa.string()
    return _LIST if isinstance(value, list) else pa.float64()


def _inputs(item: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest's row gave."""
    row = {**item["inputs"], "seed": item["seed"]}
    return row | {name: json.dumps(item[name], sort_keys=True) for name in ("overrides", "meta")}
