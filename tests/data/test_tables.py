"""A commit as a row: what is recorded of an item stands in its column."""

from __future__ import annotations

import dataclasses
import json
import platform
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from insetgan_batch.data import results, tables
from insetgan_batch.data.results import LossTable
from insetgan_batch.data.stored import Commit
from insetgan_batch.data.tables import Collector, Columns
from insetgan_batch.methods.insetgan.measures import MEASURES
from insetgan_batch.methods.insetgan.sources import Source, new_item, schema
from insetgan_batch.records import Item
from tests.report.runs import (
    REGION,
    REGION_BEFORE,
    commit,
    failure,
    losses,
    montage,
    new_run,
)

ITEM = new_item(
    "a.b",
    Source("seed", 2**40),
    {"face": Source("image", "s3://faces/f.png", box=(1, 2, 3, 4)), "shoes": Source()},
    seed=7,
    overrides={"psi": 0.5},
    meta={"name": "Zoë", "age": 3},
)


def record_of(item: Item, **changes: Any) -> Commit:
    store = new_run()
    commit(store, item, insets=["face", "shoes"], **changes)
    return store.read_commit(item.item_id)


def columns_of(*records: Commit, insets: tuple[str, ...] = ("face", "shoes")) -> Columns:
    collector = Collector(schema(insets), MEASURES)
    for record in records:
        collector.see(record)
    return collector.columns


def as_read(row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """The row as it comes back from Arrow: wrong types raise, unknown columns are lost."""
    assert row.keys() <= set(schema.names)
    return dict(pa.Table.from_pylist([row], schema).to_pylist()[0])


def test_a_row_says_where_each_generator_began() -> None:
    record = record_of(ITEM, psi={"canvas": [0.7, 0.5], "face": None, "shoes": 0.6})
    row = as_read(tables.item_row(record, "test"), tables.item_schema(columns_of(record)))
    assert (row["item_id"], row["outcome"], row["split"]) == ("a.b", "committed", "test")
    assert (row["canvas_source"], row["canvas_seed"]) == ("seed", 2**40)
    assert (row["canvas_psi"], row["canvas_psi_per_layer"]) == (None, [0.7, 0.5])
    assert (row["face_source"], row["face_image"]) == ("image", "s3://faces/f.png")
    assert (row["face_seed"], row["face_latent"]) == (None, None)
    assert (row["shoes_source"], row["shoes_seed"], row["shoes_psi"]) == ("average", None, 0.6)
    assert row["seed"] == 7
    assert json.loads(row["overrides"]) == {"psi": 0.5}
    assert json.loads(row["meta"]) == {"name": "Zoë", "age": 3}


def test_a_row_says_how_it_went() -> None:
    record = record_of(ITEM, score=None)
    row = as_read(tables.item_row(record, None), tables.item_schema(columns_of(record)))
    assert (row["steps"], row["stop"], row["seconds"]) == (12, "max_rounds", 30.0)
    assert (row["seam_before"], row["seam_after"], row["score"]) == (12.0, 3.0, None)
    assert (row["attempt"], row["machine"]) == ("1-1", platform.node())
    assert (row["face_region"], row["face_region_before"]) == (REGION, REGION_BEFORE)
    assert row["shoes_inset_box"] == [8, 8, 24, 24]
    assert {name: row[f"sha256.{name}"] for name in record["files"]} == {
        name: file["sha256"] for name, file in record["files"].items()
    }


def test_all_rows_of_a_run_have_the_same_columns() -> None:
    first = record_of(montage(1, 2), losses={"face.border.l1": 0.1})
    second = record_of(ITEM, losses={"canvas.body.l1": 0.2}, film=2)
    columns = columns_of(first, second, insets=("face",))
    assert {"canvas_seed", "face_image"} <= dict(columns.inputs).keys()
    assert columns.terms == ["canvas.body.l1", "face.border.l1"]
    assert "film" in columns.files
    schema = tables.results_schema(columns)
    for record in (first, second):
        row = as_read(tables.item_row(record, "train"), schema)
        assert (row["losses.face.border.l1"] is None) == (record is second)


def test_an_item_that_could_not_be_done_keeps_its_inputs_and_the_reason() -> None:
    schema = tables.results_schema(columns_of(record_of(ITEM)))
    row = as_read(tables.quarantined_row(failure(ITEM, "no_face", "none found")), schema)
    assert (row["outcome"], row["reason"], row["detail"]) == (
        "quarantined",
        "no_face",
        "none found",
    )
    assert (row["attempts"], row["canvas_seed"], row["score"]) == (2, 2**40, None)
    bad = as_read(tables.quarantined_row({"item_id": "row-1", "reason": "bad_row"}), schema)
    assert (bad["item_id"], bad["reason"], bad["canvas_source"]) == ("row-1", "bad_row", None)


def table(*rows: tuple[int, str, int, str, float, float]) -> LossTable:
    """Rows of (round, phase, step, term, raw, weight)."""
    rounds, phases, steps, terms, raws, weights = zip(*rows, strict=True)
    return LossTable(
        np.array(rounds, np.int32),
        list(phases),
        np.array(steps, np.int32),
        list(terms),
        np.array(raws, np.float32),
        np.array(weights, np.float32),
    )


def test_a_final_loss_weighs_what_it_weighed_when_it_was_kept() -> None:
    """Of the round that was kept; by all generators that are held to it."""
    course = table(
        (1, "canvas", 0, "border", 9.0, 1.0),
        (1, "face", 0, "border", 9.0, 8.0),
        (2, "canvas", 1, "border", 9.0, 2.0),
        (2, "face", 1, "border", 9.0, 4.0),
        (3, "canvas", 2, "border", 9.0, 64.0),
        (3, "face", 2, "late", 9.0, 64.0),
    )
    losses = {"losses.border": 0.5, "losses.late": 0.5, "losses.gone": None}
    kept = {"best_round": 2}
    assert tables.weighted({"measures": kept | losses}, course) == {"weighted.border": 3.0}
    nothing = {"measures": kept | {"losses.border": None}}
    assert tables.weighted(nothing, course) == {"weighted.border": None}


@pytest.mark.parametrize(("every", "kept"), [(1, [0, 1, 2, 3, 4, 5]), (3, [0, 3]), (99, [0])])
def test_every_so_many_steps_are_kept_with_all_their_terms(every: int, kept: list[int]) -> None:
    rows = tables.loss_rows("a", losses(), every).to_pylist()
    assert sorted({row["step"] for row in rows}) == kept
    assert len(rows) == 4 * len(kept)
    course = losses()
    first = {"item_id": "a", "step": 0, "phase": course.phase[0], "term": course.term[0]}
    assert rows[0] == first | {"raw": 0.5, "weight": 1.0}


def test_the_losses_of_a_commit_are_those_that_are_kept() -> None:
    store = new_run()
    commit(store, montage(1, 2))
    record = store.read_commit("body1-face2")
    stored = results.read_losses(store, record)
    assert stored is not None
    assert tables.loss_rows("body1-face2", stored, 1).num_rows == len(stored.term)


def test_how_near_an_inversion_came_has_columns() -> None:
    near = record_of(
        ITEM,
        inversion={"face": {"l1": 0.1, "lpips": 0.25}},
        identity={"face": {"by": "facenet-x", "cosine": 0.75}},
    )
    plain = record_of(dataclasses.replace(ITEM, item_id="b"), inversion={}, identity=None)
    schema = tables.item_schema(columns_of(near, plain))
    row = as_read(tables.item_row(near, None), schema)
    assert (row["inversion.face.l1"], row["inversion.face.lpips"]) == (0.1, 0.25)
    assert row["identity.face"] == 0.75
    assert as_read(tables.item_row(plain, None), schema)["inversion.face.l1"] is None
