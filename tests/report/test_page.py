"""The page of a run holds all that people need, nothing from outside, and nothing unescaped."""

from __future__ import annotations

import re

from insetgan_batch.data.commits import RunStore
from insetgan_batch.records import Item, Source
from insetgan_batch.report import page
from tests.report.runs import commit, fail, losses, montage, new_run, page_of


def test_write_puts_the_page_into_the_run(store: RunStore) -> None:
    assert page.write(store) == "report/index.html"
    assert "spring-people" in store.storage.get("report/index.html").decode()


def test_a_run_without_commits_makes_a_page(store: RunStore) -> None:
    made = page_of(store)
    assert "Nothing is done yet" in made.text
    assert "img" not in [tag for tag, _ in made.tags]


def test_a_run_of_failures_only_names_them(store: RunStore) -> None:
    fail(store, montage(1, 1))
    assert page_of(store).tables["data"][1][:2] == ["body1-face1", "no face found"]


def test_every_item_appears_in_grid_panel_and_table(store: RunStore) -> None:
    for body in (1, 2):
        for face in (5, 6):
            commit(store, montage(body, face))
    made = page_of(store)
    names = [f"body{body}-face{face}" for body in (1, 2) for face in (5, 6)]
    assert sorted(i for i in made.values("id") if i.startswith("item-")) == [
        f"item-{n}" for n in names
    ]
    assert [row[0] for row in made.items()] == names
    links = [v["href"] for t, v in made.tags if t == "a" and v.get("class") == "pair"]
    assert links == [f"#item-{name}" for name in names]


def test_nothing_points_outside_of_the_file(store: RunStore) -> None:
    commit(store, montage(1, 2))
    made = page_of(store)
    without_pictures = re.sub(r'"data:[^"]*"', "", made.html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", without_pictures)
    assert made.values("src")
    assert all(value.startswith("data:image/") for value in made.values("src"))
    assert all(value.startswith("#item-") or value == "data:," for value in made.values("href"))


def test_every_picture_has_a_text(store: RunStore) -> None:
    commit(store, montage(1, 2))
    images = [values for tag, values in page_of(store).tags if tag == "img"]
    assert len(images) == 2 + 2 + 4 + 2  # cell, heads, references and what moved, enlarged region
    assert all(values["alt"] for values in images)


def test_an_item_that_was_done_after_it_failed_counts_as_done(store: RunStore) -> None:
    commit(store, montage(1, 1))
    fail(store, montage(1, 1))
    made = page_of(store)
    assert "grid" in made.tables
    assert "no face found" not in made.text


def test_a_gallery_says_how_many_items_it_leaves_out(store: RunStore) -> None:
    for n in range(203):
        commit(store, montage(n, n), losses(1, 1))
    made = page_of(store)
    assert len([i for i in made.values("id") if i.startswith("item-")]) == 200
    assert "first 200 by name; 3 more are not shown" in made.text
    assert len(made.items()) == 203


def test_only_a_page_without_given_images_says_that_nobody_exists(store: RunStore) -> None:
    commit(store, montage(1, 1))
    assert "Every picture on this page is synthetic" in page_of(store).text
    commit(store, Item("p", Source("seed", 1), {"face": Source("image", "ada.jpg")}))
    assert "References that were given as images" in page_of(store).text


def test_special_characters_are_escaped(store: RunStore) -> None:
    evil = "<script>alert('1')</script>"
    face = Source("image", f"s3://people/{evil.replace('/', '')}")
    commit(store, Item("p", Source("seed", 1), {"face": face}, meta={"note": evil}))
    fail(store, Item("q", Source(), {"face": face}), reason="<b>odd</b>", detail=evil)
    made = page_of(store)
    assert [tag for tag, _ in made.tags].count("script") == 1
    assert made.text.count(evil) == 2
    assert "<b>odd</b>" in made.text


def test_the_head_tells_the_median_seam_and_how_far_it_fell(store: RunStore) -> None:
    for face, (before, after) in enumerate([(10.0, 4.0), (20.0, 5.0), (30.0, 31.0)]):
        commit(store, montage(1, face), seam_before=before, seam_after=after)
    text = " ".join(page_of(store).text.split())
    assert "20.0 → 5.0" in text
    assert "fell by 75%; lower in 2 of 3 items" in text
    assert "20 November 2026, 14:40 UTC" in text


def test_random_features_are_remarked_on_and_real_ones_are_not(store: RunStore) -> None:
    commit(store, montage(1, 1))
    assert "random weights" in page_of(store).text
    real = new_run()
    commit(real, montage(1, 1), perceptual="alexnet-owt")
    assert "alexnet-owt" in page_of(real).text
    assert "random weights" not in page_of(real).text


def test_the_foot_names_models(store: RunStore) -> None:
    assert "cd" * 32 in page_of(store).values("title")


def test_a_run_without_insets_shows_its_images_and_speaks_of_no_seam() -> None:
    store = new_run(recipe="generate", insets={})
    for n in range(3):
        item = Item(f"body{n}", Source("seed", n), {})
        commit(store, item, losses(0, 0), seam_before=None, seam_after=None, losses={}, rounds=0)
    made = page_of(store)
    assert "grid" not in made.tables
    assert [v["class"] for tag, v in made.tags if tag == "img"] == ["after"] * 3
    assert made.text.count("canvas seed 2") == 2  # in the gallery and in the list
    assert "nothing was optimised" in made.text
    assert "Nothing is optimised" in made.text
    assert "copy and paste" not in made.text.lower()
    assert "median seam" not in made.text


def test_a_run_with_two_insets_names_and_shows_both() -> None:
    store = new_run(
        insets={"face": "demo:face", "shoes": "demo:shoes"},
        detector={"face": "mtcnn", "shoes": "demo:shoes"},
        recipe={"insets": {"shoes": {"border": {"l1": 2}}}},
    )
    for body in (1, 2):
        for shoes in (7, 8):
            insets = {"face": Source("seed", 5), "shoes": Source("seed", shoes)}
            commit(store, Item(f"body{body}-{shoes}", Source("seed", body), insets))
    made = page_of(store)
    top, *rows = made.tables["grid"]
    assert top == ["", "face seed 5, shoes seed 7", "face seed 5, shoes seed 8"]
    assert len(rows) == 2
    assert made.text.count("shoes on the canvas, enlarged") == 4
    assert "others the face and shoes, the insets" in " ".join(made.text.split())
    assert ["border L1", "2", "4", "2"] in made.tables["data"]


def test_a_recipe_in_stages_says_so() -> None:
    stages = [{"rounds": 1}, {"rounds": 20, "changes": {"canvas": {"steps": 5}}}]
    store = new_run(recipe={"stages": stages, "canvas": {"steps": 0}})
    commit(store, montage(1, 1))
    text = " ".join(page_of(store).text.split())
    assert "2 stages of 1, 20 rounds" in text
    assert "A round moves the face for 20 steps" in text
