"""A curve says what the table of losses says, inside its axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from insetgan_batch.data.commits import RunStore
from insetgan_batch.method import Page
from insetgan_batch.report import curves
from tests.report.runs import commit, losses, montage, new_run, view_of


def drawn(store: RunStore) -> list[list[list[int]]]:
    """The pieces of all curves of the one item: border, body, face."""
    charts = view_of(store, "body1-face1")["charts"]
    return [line["pieces"] for chart in charts for line in chart["lines"]]


def points(pieces: list[list[int]]) -> list[tuple[int, int]]:
    return [pair for p in pieces for pair in zip(p[::2], p[1::2], strict=True)]


def test_a_curve_is_broken_while_the_other_generator_moves(store: RunStore) -> None:
    commit(store, montage(1, 1), losses(rounds=3, steps=4))
    border, body, face = drawn(store)
    assert [len(pieces) for pieces in (border, body, face)] == [1, 3, 3]
    assert [len(points(pieces)) for pieces in (border, body, face)] == [24, 12, 12]


def test_a_curve_falls_when_its_values_fall_and_stays_inside_the_axes(store: RunStore) -> None:
    commit(store, montage(1, 1))
    found = points(drawn(store)[0])
    heights = [y for _, y in found]
    assert heights == sorted(heights)
    assert heights[0] < heights[-1]
    area = curves.PlotArea()
    assert all(area.left <= x <= area.right and area.top <= y <= area.bottom for x, y in found)


def test_one_phase_is_shaded_and_the_kept_round_ends_where_it_ended() -> None:
    table = losses(rounds=2, steps=3)
    (chart, *_) = curves.charts(table, kept_round=1, page=Page(shaded_phase="canvas"))
    area = curves.PlotArea()
    quarters = [area.x(n / 4) for n in range(5)]
    assert chart.shaded == [(quarters[0], quarters[1]), (quarters[2], quarters[3])]
    assert chart.kept_at == quarters[2]


def test_long_curves_are_thinned(store: RunStore) -> None:
    commit(store, montage(1, 1), losses(rounds=4, steps=200))
    assert all(40 < len(points(pieces)) <= 80 for pieces in drawn(store))


def test_a_value_that_is_no_number_is_left_out_of_its_curve(store: RunStore) -> None:
    table = losses(rounds=1, steps=4)
    table.raw[2] = np.nan
    commit(store, montage(1, 1), table)
    assert len(points(drawn(store)[0])) == 7


def test_a_wide_range_of_values_is_drawn_on_a_log_scale(store: RunStore) -> None:
    def scales(of: RunStore) -> list[Any]:
        return [chart["is_log"] for chart in view_of(of, "body1-face1")["charts"]]

    commit(store, montage(1, 1))
    assert scales(store) == [False] * 3
    table = losses()
    table.raw[:] = np.geomspace(1e-7, 1.0, len(table.raw))
    other = new_run()
    commit(other, montage(1, 1), table)
    assert scales(other) == [True] * 3


def test_an_item_without_losses_has_no_charts() -> None:
    assert curves.charts(losses(0, 0), 0, Page()) == []
