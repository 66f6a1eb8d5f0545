"""A condition means what it says, executes nothing, and is refused in one line."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from insetgan_batch.data.where import Where, flat
from insetgan_batch.errors import ConfigError

RECORD = {
    "seam_before": 4.0,
    "seam_after": 1.0,
    "stop": "converged",
    "steps": 40,
    "score": None,
    "losses": {"face.border.l1": 0.25},
    "psi": {"canvas": 0.7, "face": None},
    "boxes": {"face": {"region": [1.0, 2.0, 3.0, 4.0]}},
    "item": {"meta": {"name": "Ada"}, "overrides": {}},
}
VALUES = flat(RECORD)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("seam_after < 1.5", True),
        ("seam_after < 1", False),
        ("seam_after <= 1", True),
        ("losses.face.border.l1 > 0.2", True),
        ("0.2 < losses.face.border.l1 < 0.25", False),
        ("stop == 'converged' and steps >= 40", True),
        ("stop != 'converged' or steps > 40", False),
        ("not steps > 40", True),
        ("stop in ['converged', 'max_rounds']", True),
        ("stop not in ('converged',)", False),
        ("item.meta.name == 'Ada'", True),
        ("'d' in item.meta.name", True),
        ("seam_after / seam_before < 0.3", True),
        ("seam_before - seam_after == 3", True),
        ("steps > -1", True),
        ("boxes.face.region[3] - boxes.face.region[1] == 2", True),
        ("score < 1", False),
        ("score >= 1", False),
        ("score == None", True),
        ("psi.face != None", False),
        ("psi.face * 2 < 9", False),
        ("steps / 0 < 1", False),
        ("  steps > 1  ", True),
    ],
)
def test_a_condition_means_what_it_says(text: str, holds: bool) -> None:
    where = Where(text)
    where.check_known(set(VALUES))
    assert where.holds(VALUES, "a") is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "seam_after <",
        "1 < 2",
        "__import__('os').system('x')",
        "open('x')",
        "steps.bit_length()",
        "[x for x in steps]",
        "lambda: steps",
        "steps if stop else 1",
        "f'{steps}'",
        "steps ** 9 ** 9",
        "steps << 9",
        "steps is None",
        "boxes[stop]",
        "steps := 1",
        "(steps)" * 500,
        "(" * 300 + "steps" + ")" * 300,
        "not " * 400 + "\0steps",
        "steps > b'x'",
        "steps\nstop",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--where .*: [^\n]+$"):
        Where(text)


def test_a_name_that_no_item_has_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="no item has a value `seam_aftr`; did you mean seam_aft"):
        Where("seam_aftr < 1").check_known(set(VALUES))
    with pytest.raises(ConfigError, match=r"no item has a value `zzz`; there are boxes\.face\.reg"):
        Where("zzz < 1").check_known(set(VALUES))


def test_a_comparison_of_a_text_with_a_number_names_the_item() -> None:
    with pytest.raises(ConfigError, match="for item body1: '<' not supported"):
        Where("stop < 1").holds(VALUES, "body1")


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_one_line(text: str) -> None:
    assert "\n" not in error_of(text, VALUES)


def error_of(text: str, values: dict[str, Any]) -> str:
    try:
        Where(text).holds(values, "a")
    except ConfigError as err:
        return str(err)
    return ""
