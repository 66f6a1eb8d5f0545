"""The tables hold every number, by columns."""

from __future__ import annotations

from insetgan_batch.data.commits import RunStore
from tests.report.runs import column, commit, data_of, fail, montage


def test_what_is_no_number_is_missing(store: RunStore) -> None:
    commit(store, montage(1, 1), seam_after=float("nan"))
    commit(store, montage(1, 2), seam_after=0.0000123456789, losses={"face.border.l1": 0.5})
    items = data_of(store)["items"]
    assert items["item_ids"] == ["body1-face1", "body1-face2"]
    assert column(items, "before", "seam") == [12.0, 12.0]
    assert column(items, "after", "seam") == [None, 1.2346e-05]
    assert column(items, "ratio", "seam") == [None, 1.0288e-06]
    assert column(items, "L1", "body loss") == [0.08, None]


def test_a_failure_is_listed_with_its_reason_its_attempts_and_its_whole_trace(
    store: RunStore,
) -> None:
    trace = "ValueError: the face is turned away\n  in detect\n" * 20
    fail(store, montage(1, 1), detail=trace)
    failures = data_of(store)["failures"]
    assert failures["item_ids"] == ["body1-face1"]
    assert failures["titles"] == ["face seed 1 on canvas seed 1"]
    assert column(failures, "reason") == ["no face found"]
    assert column(failures, "attempts") == [2]
    assert column(failures, "detail") == [trace]
