"""The tables hold every number, sortable, and the weights of the recipe."""

from __future__ import annotations

import numpy as np

from insetgan_batch.data.commits import RunStore
from tests.report.runs import commit, montage, page_of


def test_values_to_sort_by_are_numbers_and_missing_ones_have_none(store: RunStore) -> None:
    commit(store, montage(1, 1), seam_after=float("nan"))
    commit(store, montage(1, 2), seam_after=0.000012, losses={"face.border.l1": 0.5})
    made = page_of(store)
    assert all(np.isfinite(float(value)) for value in made.values("data-value"))
    first, second = made.items()
    assert first[1:4] == ["12.0", "–", "–"]
    assert second[2] == "1.20e-05"
    assert second[-3:] == ["0.500", "–", "–"]
    assert len(made.values("data-value")) == 2 * 11 - 2 - 2


def test_losses_stand_in_the_table_by_family(store: RunStore) -> None:
    commit(store, montage(1, 1))
    groups, titles, row = page_of(store).tables["data"][:3]
    assert groups[-3:] == ["border loss", "body loss", "face loss"]
    assert list(zip(titles, row, strict=True))[-3:] == [
        ("L1", "0.120"),
        ("L1", "0.0800"),
        ("LPIPS", "0.200"),
    ]


def test_the_foot_names_the_weights_of_the_recipe(store: RunStore) -> None:
    rows = page_of(store).tables["data"]
    assert ["border L1", "2", "4"] in rows
    assert ["body L1", "8", ""] in rows
