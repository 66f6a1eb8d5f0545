"""The card of a dataset says how InsetGAN made it, and what its images may be wrong for."""

from __future__ import annotations

from insetgan_batch.methods import names


def test_the_card_names_recipe_and_truncation() -> None:
    run = {"configuration": {"recipe": {"name": "paper", "psi": 0.7}}}
    found = names.card_of_run(run)
    assert "Recipe `paper`, truncation 0.7." in found.how
    assert any("psi" in limit for limit in found.limits)


def test_a_run_that_says_little_has_a_card_all_the_same() -> None:
    assert "truncation unknown" in names.card_of_run({}).how
