"""Items that are every inset on every canvas stand in a grid; others do not."""

from __future__ import annotations

from insetgan_batch.data.commits import RunStore
from insetgan_batch.methods.insetgan.sources import Source, new_item
from tests.report.runs import (
    column,
    commit,
    data_of,
    fail,
    failure,
    montage,
    new_run,
    page_of,
)


def test_a_failed_item_shows_its_reason_in_its_cell(store: RunStore) -> None:
    for face in (1, 2, 3):
        commit(store, montage(1, face))
    commit(store, montage(2, 1))
    fail(store, montage(2, 3))
    assert page_of(store).tables["grid"][2][2:] == ["not done", "no face found"]


def test_a_failed_item_whose_sources_are_unknown_is_listed_below(store: RunStore) -> None:
    item = new_item("ada", Source("seed", 1), {"face": Source("seed", 2)})
    commit(store, item)
    record = failure(montage(1, 7), detail="the face is turned away")
    del record["item"]
    store.quarantine("body1-face7", record)
    made = page_of(store)
    assert made.tables["grid"][0] == ["", "face seed 2"]
    assert column(data_of(store)["failures"], "detail") == ["the face is turned away"]


def test_items_that_are_no_grid_stand_in_the_table_only(store: RunStore) -> None:
    for n in range(3):
        commit(store, montage(n, n))
    assert "grid" not in page_of(store).tables
    assert "face seed 2 on canvas seed 2" in data_of(store)["items"]["titles"]


def test_a_single_column_is_no_grid_and_a_single_row_is(store: RunStore) -> None:
    commit(store, montage(1, 5))
    commit(store, montage(1, 6))
    assert len(page_of(store).tables["grid"]) == 2
    other = new_run()
    commit(other, montage(1, 5))
    commit(other, montage(2, 5))
    assert "grid" not in page_of(other).tables


def test_more_columns_than_a_page_can_hold_are_no_grid(store: RunStore) -> None:
    for face in range(17):
        commit(store, montage(1, face))
    assert "grid" not in page_of(store).tables


def test_a_failed_item_opens_the_column_of_its_image(store: RunStore) -> None:
    ada, bob = (Source("image", f"s3://people/{name}.jpg") for name in ("ada", "bob"))
    commit(store, new_item("p", Source("seed", 1), {"face": ada}))
    fail(store, new_item("q", Source("seed", 1), {"face": bob}), reason="bad_input")
    top, row = page_of(store).tables["grid"]
    assert top == ["", "face ada.jpg", "face bob.jpg"]
    assert row[2] == "its input cannot be used"
