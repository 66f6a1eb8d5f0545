"""An item's own view says what its item left behind, and names the run's files."""

from __future__ import annotations

from insetgan_batch.data.commits import RunStore
from insetgan_batch.methods.insetgan.sources import Source, new_item
from tests.report.runs import REGION, REGION_BEFORE, commit, montage, view_of


def test_a_view_tells_how_its_item_ended_and_what_was_asked_of_it(store: RunStore) -> None:
    item = new_item(
        "ada",
        Source("seed", 1),
        {"face": Source("seed", 2)},
        overrides={"max_rounds": 9},
        meta={"group": "spring"},
    )
    commit(store, item, rounds=8, best_round=5, steps=1200)
    facts = dict(view_of(store, "ada")["facts"])
    assert facts["stopped"] == "max rounds after 8 rounds, round 5 kept"
    assert facts["steps"] == "1,200 in 30 s"
    assert (facts["override max_rounds"], facts["group"]) == ("9", "spring")


def test_a_view_names_every_file_of_the_commit_and_embeds_none(store: RunStore) -> None:
    commit(store, montage(1, 1), film=4)
    view = view_of(store, "body1-face1")
    record = store.read_commit("body1-face1")
    assert view["files"] == {name: file["key"] for name, file in record["files"].items()}
    assert {"image", "copy_paste", "face_reference", "film"} <= view["files"].keys()
    assert all(store.storage.exists(key) for key in view["files"].values())


def test_a_view_names_generators_the_canvas_first_and_where_regions_were(store: RunStore) -> None:
    commit(store, montage(1, 2))
    view = view_of(store, "body1-face2")
    assert view["generators"] == [["canvas", "seed 1"], ["face", "seed 2"]]
    assert view["boxes"] == {"face": {"region_before": REGION_BEFORE, "region": REGION}}


def test_a_view_tells_how_far_each_seed_was_truncated(store: RunStore) -> None:
    commit(store, montage(1, 1), psi={"canvas": 0.9, "face": None})
    facts = dict(view_of(store, "body1-face1")["facts"])
    assert facts["psi of canvas"] == "0.9"
    assert "psi of face" not in facts
