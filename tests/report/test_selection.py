"""A page of a run that no browser could hold shows a fair sample, and reads no more than that."""

from __future__ import annotations

import pytest

from insetgan_batch.data.commits import RunStore
from insetgan_batch.report import selection
from tests.report.runs import failure, montage


def fill(store: RunStore, done: int, failed: int) -> None:
    for n in range(done):
        store.commit(f"done{n:04d}", {"item_id": f"done{n:04d}"})
    for n in range(failed):
        store.quarantine(f"body{n}-face1", failure(montage(n, 1)))


def test_everything_is_shown_while_there_is_room(store: RunStore) -> None:
    fill(store, 5, 2)
    chosen = selection.select(store)
    assert chosen.item_ids == [f"done{n:04d}" for n in range(5)]
    assert [record["item_id"] for record in chosen.failures] == ["body0-face1", "body1-face1"]
    assert (chosen.done, chosen.failed) == (5, 2)


def test_a_sample_is_drawn_from_everywhere_and_stays_the_same(store: RunStore) -> None:
    fill(store, 400, 40)
    chosen = selection.select(store, most_items=100, most_failures=10)
    assert (len(chosen.item_ids), chosen.done) == (100, 400)
    assert (len(chosen.failures), chosen.failed) == (10, 40)
    assert 30 < sum(item_id < "done0200" for item_id in chosen.item_ids) < 70
    assert selection.select(store, most_items=100, most_failures=10) == chosen


def test_an_item_that_was_done_after_it_failed_is_no_failure(store: RunStore) -> None:
    fill(store, 0, 2)
    store.commit("body0-face1", {"item_id": "body0-face1"})
    chosen = selection.select(store)
    assert [record["item_id"] for record in chosen.failures] == ["body1-face1"]
    assert chosen.failed == 1


def test_what_is_not_where_a_failure_belongs_is_passed_over(store: RunStore) -> None:
    store.storage.put("quarantine/zz/odd.json", b"{}")
    store.storage.put("quarantine/notes.txt", b"ask Ada")
    assert selection.select(store).failed == 0


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"item_id": "body0-face1"}'])
def test_a_broken_record_is_named_and_the_others_are_shown(store: RunStore, data: bytes) -> None:
    fill(store, 0, 2)
    key = next(store.storage.list("quarantine"))
    store.storage.put(key, data)
    chosen = selection.select(store)
    (line,) = chosen.damaged
    assert key in line
    assert (len(chosen.failures), chosen.failed) == (1, 2)
