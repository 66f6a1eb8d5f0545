"""What a plan says to people; that it is right is tried on Ray (`tests/test_cli.py`)."""

from __future__ import annotations

import dataclasses

from insetgan_batch.runtime.plan import Plan, describe

PLAN = Plan(
    items=1000,
    done=100,
    bad=1,
    bad_rows=["row 7: no seed"],
    weights=[("canvas", "0" * 64, 2_000_000)],
    actors=3,
    gpus=True,
    slots=8,
    tried=8,
    item_s=1.5,
    item_bytes=250_000,
    hours=0.25,
    output_bytes=2.5e8,
    cost=1.875,
)


def test_a_plan_is_a_line_for_each_thing() -> None:
    assert describe(PLAN) == [
        "items      1000 rows, 100 done, 1 wrong",
        "  wrong    row 7: no seed",
        f"weights    canvas: 2.0 MB, sha256 {'0' * 64}",
        "workers    3 GPUs, 8 slots each",
        "measured   8 items in a batch: 1.50 s an item, 0.25 MB an item",
        "expected   15.0 minutes, 0.25 GB of output",
        "cost       1.88 in the price's currency",
    ]


def test_with_slots_auto_nobody_knows_how_many_items_were_in_a_batch() -> None:
    lines = describe(dataclasses.replace(PLAN, slots="auto", cost=None))
    assert lines[3:] == [
        "workers    3 GPUs, as many slots as fit into each",
        "measured   8 items: 1.50 s an item, 0.25 MB an item",
        "expected   15.0 minutes, 0.25 GB of output",
    ]
