"""A curve says what the table of losses says, inside its axes."""

from __future__ import annotations

import re

import numpy as np

from insetgan_batch.data.commits import RunStore
from insetgan_batch.report import curves
from tests.report.runs import commit, losses, montage, new_run, page_of


def drawn(store: RunStore) -> list[str]:
    """Paths of all curves of the page, legends left out: border, body, face."""
    lines = [v for _, v in page_of(store).tags if (v.get("class") or "").startswith("line ")]
    found = [values["d"] or "" for values in lines]
    return [path for path in found if path != "M0 4H22"]


def test_a_curve_is_broken_while_the_other_generator_moves(store: RunStore) -> None:
    commit(store, montage(1, 1), losses(rounds=3, steps=4))
    border, body, face = drawn(store)
    assert [path.count("M") for path in (border, body, face)] == [1, 3, 3]
    assert [path.count("L") for path in (border, body, face)] == [23, 9, 9]


def test_a_curve_falls_when_its_values_fall_and_stays_inside_the_axes(store: RunStore) -> None:
    commit(store, montage(1, 1))
    points = [tuple(map(float, p.split())) for p in re.split("[ML]", drawn(store)[0])[1:]]
    heights = [y for _, y in points]
    assert heights == sorted(heights)
    frame = curves.Frame()
    assert all(frame.left <= x <= frame.right and frame.top <= y <= frame.bottom for x, y in points)


def test_long_curves_are_thinned(store: RunStore) -> None:
    commit(store, montage(1, 1), losses(rounds=4, steps=200))
    assert all(path.count("L") + path.count("M") <= 300 for path in drawn(store))


def test_a_value_that_is_no_number_is_left_out_of_its_curve(store: RunStore) -> None:
    table = losses(rounds=1, steps=4)
    table.raw[2] = np.nan
    commit(store, montage(1, 1), table)
    assert "nan" not in "".join(drawn(store))


def test_a_wide_range_of_values_is_drawn_on_a_log_scale(store: RunStore) -> None:
    commit(store, montage(1, 1))
    assert "log scale" not in page_of(store).text
    table = losses()
    table.raw[:] = np.geomspace(1e-7, 1.0, len(table.raw))
    other = new_run()
    commit(other, montage(1, 1), table)
    assert "log scale" in page_of(other).text
