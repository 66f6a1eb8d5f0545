"""What a dataset says of an item as rows of tables: `results` (one per item) and `losses`.

The columns follow from the run: its generators, the losses that its items have, the files that
they keep. `columns_of` collects these over all commits, so that every shard has the same schema.
docs/dataset.md explains each column.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from insetgan_batch.data.results import LossTable

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
_BOXES = {"inset": "inset_box", "region": "region", "region_before": "region_before"}
_ITEM = {
    "item_id": pa.string(),
    "outcome": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
    "split": pa.string(),
    "attempt": pa.string(),
    "attempts": pa.int32(),
}
_INPUTS = {"seed": pa.int64(), "overrides": pa.string(), "meta": pa.string()}
_COURSE = {
    "rounds": pa.int32(),
    "best_round": pa.int32(),
    "steps": pa.int32(),
    "stop": pa.string(),
    "seconds": pa.float64(),
    "score_start": pa.float64(),
    "score": pa.float64(),
    "seam_before": pa.float64(),
    "seam_after": pa.float64(),
    "missed_detections": pa.int32(),
    "perceptual": pa.string(),
    "machine": pa.string(),
}
_ORIGIN = {
    "run_id": pa.string(),
    "recipe": pa.string(),
    "code_version": pa.string(),
    "created_at": pa.string(),
}
_SOURCE = {
    "source": pa.string(),
    "seed": pa.int64(),
    "image": pa.string(),
    "latent": pa.string(),
    "psi": pa.float64(),
    "psi_per_layer": _LIST,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """What differs from run to run: the generators (the canvas first), the losses, the files, and
    what was measured of pictures that were given.
    """

    generators: tuple[str, ...]
    terms: tuple[str, ...]
    files: tuple[str, ...]
    likeness: tuple[str, ...] = ()


class Collector:
    """Sees the records of a run, one by one, and knows the columns in the end."""

    def __init__(self, insets: Iterable[str]) -> None:
        """insets: those of the run's configuration."""
        self._generators = dict.fromkeys(["canvas", *insets])
        self._terms: set[str] = set()
        self._files: dict[str, None] = {"image": None}
        self._likeness: set[str] = set()

    def see(self, record: Mapping[str, Any]) -> None:
        """A commit record."""
        self._generators |= dict.fromkeys(record["item"]["insets"])
        self._terms |= record.get("losses", {}).keys()
        self._files |= dict.fromkeys(record["files"])
        self._likeness |= _likeness(record).keys()

    @property
    def columns(self) -> Columns:
        """Of all that were seen."""
        terms, likeness = tuple(sorted(self._terms)), tuple(sorted(self._likeness))
        return Columns(tuple(self._generators), terms, tuple(self._files), likeness)


def item_schema(columns: Columns) -> pa.Schema:
    """The columns of an item beside its image; what its commit says."""
    generators = columns.generators
    sources = {f"{g}_{name}": kind for g in generators for name, kind in _SOURCE.items()}
    boxes = {f"{inset}_{name}": _LIST for inset in generators[1:] for name in _BOXES.values()}
    losses = {f"losses.{term}": pa.float64() for term in columns.terms}
    files = {f"sha256.{name}": pa.string() for name in columns.files}
    likeness = dict.fromkeys(columns.likeness, pa.float64())
    all_of_them = _ITEM | sources | _INPUTS | boxes | _COURSE | losses | likeness | _ORIGIN | files
    return pa.schema(list((all_of_them | {"image_key": pa.string()}).items()))


def results_schema(columns: Columns) -> pa.Schema:
    """The same, and the final losses times their weights."""
    schema = item_schema(columns)
    for term in columns.terms:
        schema = schema.append(pa.field(f"weighted.{term}", pa.float64()))
    return schema


def item_row(record: Mapping[str, Any], split: str | None) -> dict[str, Any]:
    """A commit record as a row of `item_schema`; what it has not is left out."""
    item, origin = record["item"], record.get("provenance", {})
    row = {"item_id": record["item_id"], "outcome": "committed", "split": split}
    row |= {"attempt": record.get("attempt")} | _inputs(item, record.get("psi", {}))
    for inset, boxes in record.get("boxes", {}).items():
        for key, name in _BOXES.items():
            row[f"{inset}_{name}"] = boxes.get(key)
    row |= {name: record.get(name) for name in _COURSE}
    row |= {f"losses.{term}": raw for term, raw in record.get("losses", {}).items()}
    row |= _likeness(record) | {name: origin.get(name) for name in _ORIGIN}
    row |= {f"sha256.{name}": file["sha256"] for name, file in record["files"].items()}
    return row | {"image_key": record["files"]["image"]["key"]}


def quarantined_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """An item that could not be done; a bad row of the manifest has an id and a reason only."""
    row = {name: record.get(name) for name in ("reason", "detail", "attempt", "attempts")}
    row |= {"item_id": record["item_id"], "outcome": "quarantined"}
    return row | (_inputs(record["item"], {}) if record.get("item") else {})


def weighted(record: Mapping[str, Any], losses: LossTable) -> dict[str, float | None]:
    """Final losses times the weights in force: `weighted.<term>`, whose sum is nearly the score.

    The weights are those of the last step up to the round that was kept; a term that several
    generators are held to weighs as often. A term without a step, as where nothing moved, has none.
    """
    until = record.get("best_round") or 0
    last: dict[str, dict[str, float]] = {}
    rows = zip(losses.round.tolist(), losses.phase, losses.term, losses.weight, strict=True)
    for number, phase, term, weight in rows:
        if number <= until:
            last.setdefault(term, {})[phase] = float(weight)
    return {
        f"weighted.{term}": None if raw is None else raw * sum(last[term].values())
        for term, raw in record.get("losses", {}).items()
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


def _likeness(record: Mapping[str, Any]) -> dict[str, float]:
    """`inversion.<generator>.<measure>`, and `identity.<inset>` where there was a FaceNet."""
    errors = {
        f"inversion.{generator}.{measure}": error
        for generator, measures in (record.get("inversion") or {}).items()
        for measure, error in measures.items()
    }
    identity = (record.get("identity") or {}).items()
    return errors | {f"identity.{inset}": found["cosine"] for inset, found in identity}


def _inputs(item: Mapping[str, Any], psis: Mapping[str, Any]) -> dict[str, Any]:
    """Where each generator began, by the manifest's names of columns."""
    row: dict[str, Any] = {}
    for name, source in {"canvas": item["canvas"], **item["insets"]}.items():
        row[f"{name}_source"] = kind = source["kind"]
        if kind != "average":
            row[f"{name}_{kind}"] = source["value"]
        psi = psis.get(name, source["psi"])
        row[f"{name}_psi_per_layer" if isinstance(psi, list) else f"{name}_psi"] = psi
    row["seed"] = item["seed"]
    return row | {name: json.dumps(item[name], sort_keys=True) for name in ("overrides", "meta")}
