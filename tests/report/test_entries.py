"""An entry shows what its item left behind."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageSequence

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.records import Item, Source
from insetgan_batch.report import entries
from tests.report.runs import commit, montage, page_of


def test_small_runs_show_pictures_without_loss(store: RunStore) -> None:
    commit(store, montage(1, 1))
    uri = next(v["src"] for tag, v in page_of(store).tags if tag == "img" and v["class"] == "after")
    with Image.open(io.BytesIO(base64.b64decode((uri or "").partition(",")[2]))) as image:
        shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown, results.read_image(store, store.read_commit("body1-face1")))


def test_an_entry_tells_how_its_item_ended_and_what_was_asked_of_it(store: RunStore) -> None:
    item = Item(
        "ada",
        Source("seed", 1),
        {"face": Source("seed", 2)},
        overrides={"max_rounds": 9},
        meta={"group": "spring"},
    )
    commit(store, item, rounds=8, best_round=5, steps=1200)
    [entry] = entries.read(store, [store.read_commit("ada")])
    facts = dict(entry.facts)
    assert facts["stopped"] == "max rounds after 8 rounds, round 5 kept"
    assert facts["steps"] == "1,200 in 30 s"
    assert (facts["override max_rounds"], facts["group"]) == ("9", "spring")


def test_a_film_that_was_kept_is_shown_and_moves(store: RunStore) -> None:
    commit(store, montage(1, 1), film=4)
    commit(store, montage(1, 2))
    (film,) = [v for tag, v in page_of(store).tags if tag == "img" and v["class"] == "film"]
    assert film["loading"] == "lazy"
    assert film["alt"]
    with Image.open(io.BytesIO(base64.b64decode((film["src"] or "").partition(",")[2]))) as image:
        assert len(ImageSequence.all_frames(image)) == 5


def test_a_film_that_is_too_large_for_the_page_is_left_out(store: RunStore) -> None:
    commit(store, montage(1, 1), film=60, scale=10)
    record = store.read_commit("body1-face1")
    assert record["files"]["film"]["bytes"] > 2_000_000  # else this test shows nothing
    [entry] = entries.read(store, [record])
    assert entry.film is None


def test_an_entry_tells_how_far_each_seed_was_truncated(store: RunStore) -> None:
    commit(store, montage(1, 1), psi={"canvas": 0.9, "face": None})
    [entry] = entries.read(store, [store.read_commit("body1-face1")])
    facts = dict(entry.facts)
    assert facts["psi of canvas"] == "0.9"
    assert "psi of face" not in facts
