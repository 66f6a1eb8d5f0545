"""The tree drawn in the docstring is the tree in the code."""

from __future__ import annotations

import inspect
import re

import pytest

from insetgan_batch import errors
from insetgan_batch.errors import InsetGanError, ItemError

_NODE = re.compile(r"^([│├└─ ]*)([A-Z]\w+)")


def drawn_tree() -> dict[str, str]:
    """Base of every class that the docstring draws, by name; four columns are one level."""
    bases: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = _NODE.match(line)
        if match is None or not (match[1] or match[2] == "InsetGanError"):
            continue
        level = len(match[1]) // 4
        above[level:] = [match[2]]
        if level:
            bases[match[2]] = above[level - 1]
    return bases


def coded_tree() -> dict[str, str]:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
    return {c.__name__: c.__bases__[0].__name__ for c in classes if c is not InsetGanError}


def test_the_tree_drawn_is_the_tree_in_the_code() -> None:
    assert drawn_tree() == coded_tree()


def test_every_error_says_in_one_sentence_what_it_means() -> None:
    for _, cls in inspect.getmembers(errors, inspect.isclass):
        assert cls.__doc__
        assert "\n" not in cls.__doc__
        assert len(cls.__bases__) == 1


def test_every_item_error_has_the_reason_code_that_the_tree_draws() -> None:
    codes = dict(re.findall(r"(\w+Error) +`(\w+)`", errors.__doc__ or ""))
    general = [c for c in ItemError.__subclasses__() if c.__module__ == errors.__name__]
    leaves = {cls.__name__: cls.reason for cls in general}
    assert leaves == codes
    assert len(set(leaves.values()) | {ItemError.reason}) == len(leaves) + 1


def test_one_base_catches_all() -> None:
    with pytest.raises(InsetGanError, match="no face"):
        raise errors.BadInputError("no face in the canvas")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("s3://AK:with/slash+and=@bucket/p: no", "s3://***@bucket/p: no"),
        ("https://token@host/", "https://***@host/"),
        ("'s3://k:p@w@b' and http://host:80", "'s3://***@b' and http://host:80"),
        ("http://host:9000/bucket/a@b.png", "http://host:9000/bucket/a@b.png"),
        ("s3://bucket/a@b.png", "s3://bucket/a@b.png"),
    ],
)
def test_an_error_repeats_no_password_of_a_uri(text: str, expected: str) -> None:
    assert str(InsetGanError(text)) == expected
