"""The foot of the page explains the recipe of a run, and what LPIPS compares."""

from __future__ import annotations

from tests.report.runs import new_run, page_of


def test_the_foot_names_the_weights_of_the_recipe() -> None:
    weights = {"border": {"l1": 2}, "body": {"l1": 8}}
    store = new_run(recipe={"canvas": weights, "insets": {"face": {"border": {"l1": 4}}}})
    rows = page_of(store).tables["data"]
    assert ["border L1", "2", "4"] in rows
    assert ["body L1", "8", ""] in rows


def test_random_features_are_remarked_on_and_real_ones_are_named() -> None:
    assert "random weights" in page_of(new_run()).text
    text = page_of(new_run(perceptual="s3://models/alexnet.pth#sha256=" + "0" * 64)).text
    assert "Perceptual features: alexnet.pth." in text
    assert "random weights" not in text


def test_a_recipe_says_how_long_an_item_takes() -> None:
    changes = {"stages": [], "min_rounds": 3, "max_rounds": 8, "tolerance": 0.02}
    text = page_of(new_run(recipe=changes)).text
    assert "An item takes 3 to 8 rounds and stops" in text
    assert "by less than 2%. Seeds are truncated with psi" in text


def test_a_recipe_in_stages_says_so() -> None:
    stages = [{"rounds": 1}, {"rounds": 20, "changes": {"canvas": {"steps": 5}}}]
    store = new_run(recipe={"stages": stages, "canvas": {"steps": 0}})
    text = page_of(store).text
    assert "2 stages of 1, 20 rounds" in text
    assert "A round moves the face for 20 steps" in text
