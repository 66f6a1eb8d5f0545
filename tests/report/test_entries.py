"""An item's own view says what its item left behind, and names the run's files."""

from __future__ import annotations

from insetgan_batch.data.commits import RunStore
from insetgan_batch.methods.insetgan.sources import Source, new_item
from tests.report.runs import commit, montage, view_of


def test_a_view_tells_how_long_its_item_took_and_what_was_asked_of_it(store: RunStore) -> None:
    item = new_item(
        "ada",
        Source("seed", 1),
        {"face": Source("seed", 2)},
        overrides={"max_rounds": 9},
        meta={"group": "spring"},
    )
    commit(store, item, steps=1200)
    facts = dict(view_of(store, "ada")["facts"])
    assert facts["steps"] == "1,200 in 30 s"
    assert (facts["override max_rounds"], facts["group"]) == ("9", "spring")


def test_a_view_names_every_file_of_the_commit_and_embeds_none(store: RunStore) -> None:
    commit(store, montage(1, 1), film=4)
    view = view_of(store, "body1-face1")
    record = store.read_commit("body1-face1")
    assert view["files"] == {name: file["key"] for name, file in record["files"].items()}
    assert {"image", "copy_paste", "face_reference", "film"} <= view["files"].keys()
    assert all(store.storage.exists(key) for key in view["files"].values())
