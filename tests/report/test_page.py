"""The page of a run holds all that people need, nothing from outside, and nothing unescaped."""

from __future__ import annotations

import posixpath
import re

import pytest

from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.methods.insetgan.sources import Source, new_item
from insetgan_batch.report import page, selection
from insetgan_batch.report.page import Written
from tests.report.runs import (
    Page,
    column,
    commit,
    data_of,
    fail,
    losses,
    montage,
    page_of,
    view_of,
)


def test_write_puts_the_page_into_the_run(store: RunStore) -> None:
    assert page.write(store) == Written(f"{store.storage.uri}/report/index.html", [])
    assert "spring-people" in store.storage.get("report/index.html").decode()


def test_a_run_without_commits_makes_a_page(store: RunStore) -> None:
    made = page_of(store)
    assert "Nothing is done yet" in made.text
    assert "img" not in [tag for tag, _ in made.tags]


def test_a_run_of_failures_only_names_them(store: RunStore) -> None:
    fail(store, montage(1, 1))
    assert "failures-region" in page_of(store).values("id")
    assert data_of(store)["failures"]["item_ids"] == ["body1-face1"]


def test_every_item_appears_in_grid_and_table_and_has_a_view(store: RunStore) -> None:
    for body in (1, 2):
        for face in (5, 6):
            commit(store, montage(body, face))
    made = page_of(store)
    names = [f"body{body}-face{face}" for body in (1, 2) for face in (5, 6)]
    links = [v["href"] for t, v in made.tags if t == "a" and v.get("class") == "pair"]
    assert links == [f"#item-{name}" for name in names]
    assert data_of(store)["items"]["item_ids"] == names
    assert all(view_of(store, name)["charts"] for name in names)


def test_nothing_points_outside_of_the_run(store: RunStore) -> None:
    commit(store, montage(1, 2))
    made = page_of(store)
    script = store.storage.get("report/page.js").decode()
    names = script.replace("http://www.w3.org/2000/svg", "")  # a name, which is never asked for
    assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttp", made.html + names)
    sources = made.values("src")
    assert [s.partition("?")[0] for s in sources[:2]] == ["page.js", "data.js"]
    for source in sources:
        key = posixpath.normpath(f"report/{source.partition('?')[0]}")
        assert store.storage.exists(key), source
    assert all(value.startswith("#item-") or value == "data:," for value in made.values("href"))


def test_every_picture_has_a_text_and_is_loaded_when_it_is_seen(store: RunStore) -> None:
    commit(store, montage(1, 2))
    images = [values for tag, values in page_of(store).tags if tag == "img"]
    assert len(images) == 2 + 2  # cell, heads
    assert all(values["alt"] for values in images)
    assert all(values["loading"] == "lazy" for values in images)


def test_an_item_that_was_done_after_it_failed_counts_as_done(store: RunStore) -> None:
    commit(store, montage(1, 1))
    fail(store, montage(1, 1))
    made = page_of(store)
    assert "grid" in made.tables
    assert "no face found" not in made.text


def test_a_page_says_that_it_shows_a_sample(store: RunStore) -> None:
    assert "sample" not in page_of(store).text
    for n in range(12):
        commit(store, montage(n, n), losses(1, 1))
    for n in range(20, 24):
        fail(store, montage(n, n))
    html, _ = page.build(store, selection.select(store, most_items=9, most_failures=3))
    text = " ".join(Page(html).text.split())
    assert "shows 9 of 12 items, a fair sample" in text
    assert "3 of 4 are listed, a fair sample" in text
    assert "items done12" in text


def test_only_a_page_without_given_images_says_that_nobody_exists(store: RunStore) -> None:
    commit(store, montage(1, 1))
    assert "Every picture on this page is synthetic" in page_of(store).text
    commit(store, new_item("p", Source("seed", 1), {"face": Source("image", "ada.jpg")}))
    assert "References that were given as images" in page_of(store).text


def test_special_characters_are_escaped(store: RunStore) -> None:
    evil = "<script>alert('1')</script>"
    face = Source("image", f"s3://people/{evil.replace('/', '')}")
    commit(store, new_item("p", Source("seed", 1), {"face": face}, meta={"note": evil}))
    other = new_item("q", Source("seed", 1), {"face": Source("seed", 2)})
    fail(store, other, reason="<b>odd</b>", detail=evil)
    made = page_of(store)
    assert [tag for tag, _ in made.tags].count("script") == 2
    assert "<b>odd</b>" in made.text
    assert "face <script>alert('1')<script>" in made.text
    assert column(data_of(store)["failures"], "detail") == [evil]
    assert dict(view_of(store, "p")["facts"])["note"] == evil


def test_the_head_tells_medians_before_and_after_and_how_far_they_fell(store: RunStore) -> None:
    for face, (before, after) in enumerate([(10.0, 4.0), (20.0, 5.0), (30.0, 31.0)]):
        commit(store, montage(1, face), seam_before=before, seam_after=after)
    text = " ".join(page_of(store).text.split())
    assert "20.0 → 5.00" in text
    assert "fell by 75%; lower in 2 of 3 items" in text
    assert "20 November 2026, 14:40 UTC" in text


def test_the_foot_names_models(store: RunStore) -> None:
    assert "cd" * 32 in page_of(store).values("title")


@pytest.mark.parametrize("name", ["image", "losses", "commit"])
def test_a_damaged_item_is_left_out_and_said_to_be(store: RunStore, name: str) -> None:
    for face in (1, 2, 3):
        commit(store, montage(1, face))
    key = f"commits/{hh('body1-face1')}/body1-face1.json"
    if name != "commit":
        key = store.read_commit("body1-face1")["files"][name]["key"]
    store.storage.put(key, b"damaged")
    (line,) = page.write(store).damaged
    assert key in line
    made = page_of(store)
    assert line in made.text
    assert f"insetgan-batch retry {store.storage.uri} --damaged" in made.text
    assert "items done2 0 failed, 1 damaged" in " ".join(made.text.split())
    assert data_of(store)["items"]["item_ids"] == ["body1-face2", "body1-face3"]


def test_a_run_of_damaged_items_only_makes_a_page(store: RunStore) -> None:
    commit(store, montage(1, 1))
    fail(store, montage(1, 2))
    for item_id, kind in (("body1-face1", "commits"), ("body1-face2", "quarantine")):
        store.storage.put(f"{kind}/{hh(item_id)}/{item_id}.json", b"")
    assert len(page.write(store).damaged) == 2
