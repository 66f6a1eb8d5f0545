"""Loss terms are grouped and named by family."""

from __future__ import annotations

from insetgan_batch.methods.insetgan.page_losses import families


def test_offsets_count_as_latent() -> None:
    (latent,) = families(["canvas.latent", "canvas.delta"])
    assert latent.labels == {"canvas.delta": "delta", "canvas.latent": "latent"}


def test_a_family_that_is_not_known_comes_last() -> None:
    found = families(["a.odd", "face.latent", "canvas.body.l1"])
    assert [family.title for family in found] == ["body", "latent", "odd"]
    assert [bool(family.meaning) for family in found] == [True, True, False]


def test_a_term_names_its_generator_only_where_there_are_several() -> None:
    body, latent = families(["canvas.latent", "canvas.body.l1", "face.latent"])
    assert list(body.labels.values()) == ["L1"]
    assert list(latent.labels.values()) == ["canvas latent", "face latent"]
