"""Loss terms: how they are called, and what they weigh."""

from __future__ import annotations

import pytest

from insetgan_batch.methods.insetgan.recipe import GeneratorSettings, ImageWeights
from insetgan_batch.methods.insetgan.terms import Term, term_weights
from tests.methods.insetgan.bench import by_text

TEXTS = {
    "face.border.l1": Term("face", "border", "l1"),
    "canvas.latent": Term("canvas", "latent"),
    "left.shoe.picture.lpips": Term("left.shoe", "picture", "lpips"),
    "left.shoe.seam": Term("left.shoe", "seam"),
    "face.odd": Term("face", "odd"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_term_is_read_from_its_text_and_written_as_it_was(text: str) -> None:
    assert Term.parse(text) == TEXTS[text]
    assert str(TEXTS[text]) == text


@pytest.mark.parametrize("text", ["", "face", "l1", ".l1", "face.l1", "face.", ".border"])
def test_a_text_without_generator_and_family_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected GENERATOR\.FAMILY"):
        Term.parse(text)


def test_a_regulariser_depends_on_latents_alone() -> None:
    found = {text for text in ("canvas.delta", *TEXTS) if Term.parse(text).is_regulariser}
    assert found == {"canvas.latent", "canvas.delta"}


# Weights


def weights_of(
    name: str, settings: GeneratorSettings, regions: list[str], border_ramp: float
) -> dict[str, float]:
    return by_text(term_weights(name, settings, regions, border_ramp))


def test_a_generator_meets_only_its_own_terms() -> None:
    canvas = weights_of("canvas", GeneratorSettings(), ["face", "shoes"], 1.0)
    free, distances = {"canvas.latent", "canvas.delta"}, ("l1", "l2", "lpips")

    def named(*terms: str) -> set[str]:
        return {f"{term}.{distance}" for term in terms for distance in distances}

    regions = [
        f"{inset}.{term}" for inset in ("face", "shoes") for term in ("coarse", "whole", "border")
    ]
    seams = {"face.seam", "shoes.seam"}
    assert set(canvas) == free | seams | named("canvas.body", "canvas.picture", *regions)
    face = weights_of("face", GeneratorSettings(), ["face"], 1.0)
    own = named("face.face", "face.picture", "face.coarse", "face.whole", "face.border")
    assert set(face) == {"face.latent", "face.delta", "face.identity", "face.seam"} | own


def test_the_ramp_scales_border_weights_and_no_others() -> None:
    pair = ImageWeights(l1=2.0, lpips=0.5)
    settings = GeneratorSettings(
        coarse=pair, border=pair, seam=5.0, body=pair, face=pair, latent=3.0, delta=4.0
    )
    full = weights_of("canvas", settings, ["face"], 1.0)
    half = weights_of("canvas", settings, ["face"], 0.5)
    for name, weight in full.items():
        assert half[name] == (weight / 2 if ".border." in name or ".seam" in name else weight)
    assert full["face.border.lpips"] == 0.5
    assert (full["canvas.latent"], full["canvas.delta"]) == (3.0, 4.0)
