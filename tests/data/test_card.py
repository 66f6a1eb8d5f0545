"""The card can be read by people and by the front matter's reader."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from insetgan_batch.data import card

FACTS = card.Facts(
    name="20261120-1",
    run={
        "run_id": "spring: people",
        "weights": {"canvas": "ab" * 32},
        "code_version": "9.1",
        "created_at": "2026-11-20",
    },
    formats=("parquet",),
    splits={"train": 900, "test": 0},
    committed=1000,
    reasons={"no_face": 3},
    image_bytes=2_000_000,
    total_bytes=3_500_000_000,
    where="seam_after < 0.2",
    losses_every=10,
    licence="cc-by-4.0",
)


def front(facts: card.Facts) -> dict[str, Any]:
    return dict(yaml.safe_load(card.write(facts).split("---\n")[1]))


def test_counts_sizes_and_the_licence_are_there() -> None:
    text = card.write(FACTS)
    for words in (
        "| train | 900 |",
        "2.00 MB of images, 3.50 GB in all",
        "1,000 finished items; packed are those with `seam_after < 0.2`",
        "no_face 3",
        "insetgan-batch 9.1",
        "## Known biases and limits",
        "ab" * 32,
        "every 10th step",
        "## Licence\n\n`cc-by-4.0`",
    ):
        assert words in text, words


def test_the_front_matter_names_only_splits_that_have_files() -> None:
    fields = front(FACTS)
    assert fields["license"] == "cc-by-4.0"
    assert fields["pretty_name"] == "spring: people, dataset 20261120-1"
    default = fields["configs"][0]
    assert default["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]


@pytest.mark.parametrize(
    ("items", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (500_000, "100K<n<1M"), (10**7, "n>1M")],
)
def test_the_size_has_the_words_of_hugging_face(items: int, category: str) -> None:
    facts = dataclasses.replace(FACTS, splits={"train": items})
    assert front(facts)["size_categories"] == [category]


def test_a_card_of_another_format_has_one_configuration() -> None:
    configs = front(dataclasses.replace(FACTS, formats=("webdataset", "jsonl")))["configs"]
    assert [c["data_files"][0]["path"] for c in configs] == ["webdataset/train-*.tar"]


def test_whose_pictures_went_into_it_stands_there_with_what_they_agreed_to() -> None:
    consent = {"form 12 | Ana": 7, "": 3}
    text = card.write(dataclasses.replace(FACTS, consent=consent))
    assert "10 images began at given pictures" in text
    assert "| form 12 / Ana | 7 |" in text
    assert "| **nothing** | 3 |" in text
    assert "given pictures" not in card.write(FACTS)
