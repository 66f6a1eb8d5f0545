"""A method that says nothing of pages has one with pictures, measures and failures."""

from __future__ import annotations

import uuid

import pytest

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.method import Page
from insetgan_batch.methods import names
from insetgan_batch.report import curves
from tests.methods import negative
from tests.report.negatives import fill
from tests.report.runs import column, data_of, losses, page_of, view_of


@pytest.fixture
def negatives() -> RunStore:
    store = RunStore(MemoryStorage(uuid.uuid4().hex))
    fill(store, 10, 200, 0)
    return store


def test_it_has_a_table_of_the_measures_and_the_failures(negatives: RunStore) -> None:
    data = data_of(negatives)
    assert column(data["items"], "mean") == [245.0, 55.0]
    assert [c["title"] for c in data["items"]["columns"]] == ["mean", "steps", "seconds"]
    assert data["items"]["titles"] == ["picture 10.png", "picture 200.png"]
    assert data["failures"]["titles"] == ["picture 0.png"]


def test_an_item_shows_its_result_first_then_its_other_pictures(negatives: RunStore) -> None:
    view = view_of(negatives, "grey10")
    pictures = [*view["pictures"]["pictures"].items()]
    assert pictures == [("image", "result"), ("picture", "picture")]
    assert view["facts"][:2] == [["lens", "50 mm"], ["steps", "1 in 0.5 s"]]
    assert (view["regions"], view["charts"]) == ({}, [])


def test_it_says_nothing_that_another_method_does(negatives: RunStore) -> None:
    made = page_of(negatives)
    text = " ".join(made.text.replace("insetgan-batch", "").split())
    assert text.startswith("Run negatives Run negatives items done2 1 failed median time")
    assert "grid" not in made.tables
    assert "References that were given as images are shown as they were given" in text
    others = ("inset", "canvas", "seam", "recipe", "losses", "before", "optimis")
    assert [word for word in others if word in text.lower()] == []


def test_each_loss_has_a_chart_of_its_own() -> None:
    found = curves.charts(losses(), 1, Page())
    assert [chart.title for chart in found] == sorted({*losses().term})
    assert [chart.shaded for chart in found] == [[], [], []]


def test_a_method_says_more_by_a_page_of_its_own(
    negatives: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Page(name="Negative", about="Light becomes dark.")
    monkeypatch.setattr(negative, "page", lambda run: own, raising=False)
    assert names.page_of_run(negatives.read_run()) == own
    assert "Negative run negatives Light becomes dark." in " ".join(page_of(negatives).text.split())
