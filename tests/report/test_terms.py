"""Loss terms are grouped and named by family."""

from __future__ import annotations

from insetgan_batch.report import terms


def test_offsets_count_as_latent() -> None:
    assert terms.family("canvas.delta") == "latent"


def test_a_family_that_is_not_known_comes_last() -> None:
    names = ["a.odd", "face.latent", "canvas.body.l1"]
    assert sorted(names, key=terms.order) == ["canvas.body.l1", "face.latent", "a.odd"]


def test_a_term_names_its_generator_only_where_there_are_several() -> None:
    assert terms.label("canvas.body.l1", ["canvas.body.l1"]) == "L1"
    among = ["canvas.latent", "face.latent"]
    assert [terms.label(term, among) for term in among] == ["canvas latent", "face latent"]
