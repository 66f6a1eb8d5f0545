"""Numbers and dates read well."""

from __future__ import annotations

import pytest

from insetgan_batch.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (7, "7"), (150.0, "150"), (0.000012, "1.20e-05"), (12345.6, "12,346")],
)
def test_a_number_has_three_digits_that_count(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (30.0, "30 s"), (600.0, "10 min"), (7200.0, "2.0 h")]
)
def test_a_duration_has_the_unit_of_its_size(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_a_change_that_cannot_be_said_is_left_out() -> None:
    assert words.change(10.0, 12.0) == "rose by 20%"
    assert words.change(0.0, 1.0) == ""
    assert words.change(1.0, None) == ""


def test_what_has_no_words_stays_as_it_is() -> None:
    assert words.moment("last spring") == "last spring"
    assert words.reason("odd_one", {}) == "odd one"
