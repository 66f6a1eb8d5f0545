"""The loss terms of a montage: what they are called and what they weigh.

A term's text, as it is stored with every result, is `<generator>.<family>` or
`<generator>.<family>.<distance>`: `canvas.latent`, `face.border.l1`. This module does not import
torch, so that pages and tables can read these texts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from insetgan_batch.methods.insetgan.recipe import CANVAS, GeneratorSettings, ImageWeights

DISTANCES = ("l1", "l2", "lpips")
_REGULARISERS = ("latent", "delta")


@dataclasses.dataclass(frozen=True, slots=True)
class Term:
    """The name of one loss.

    generator: whose loss it is; of a region's losses the inset, whichever generator moves.
    family: what is compared. distance: one of `DISTANCES`, empty for a family that has only one.
    """

    generator: str
    family: str
    distance: str = ""

    def __str__(self) -> str:
        return ".".join(part for part in (self.generator, self.family, self.distance) if part)

    @classmethod
    def parse(cls, text: str) -> Term:
        """The term of a stored text; `ValueError` for a text without a family.

        It is read from its end, because a generator's name may have dots.
        """
        rest, _, distance = text.rpartition(".")
        if distance not in DISTANCES:
            rest, distance = text, ""
        generator, _, family = rest.rpartition(".")
        if not generator or not family:
            raise ValueError(f"found the loss term {text!r}, expected GENERATOR.FAMILY[.DISTANCE]")
        return cls(generator, family, distance)

    def of(self, distance: str) -> Term:
        """The term of the same family with that distance."""
        return dataclasses.replace(self, distance=distance)

    @property
    def is_regulariser(self) -> bool:
        """Whether it depends on the latents alone, and so is computed for every item."""
        return self.family in _REGULARISERS


Weights = dict[Term, float]


def term_weights(
    name: str, settings: GeneratorSettings, regions: Iterable[str], border_ramp: float
) -> Weights:
    """The weight of every term by which a generator moves.

    regions: the insets whose regions it shares: all for the canvas, itself for an inset.
    border_ramp: 0..1, the factor of the border's and the seam's weights.
    """
    own = ("body", settings.body) if name == CANVAS else ("face", settings.face)
    weights = {Term(name, "latent"): settings.latent, Term(name, "delta"): settings.delta}
    weights |= _image_weights(Term(name, own[0]), own[1], 1.0)
    weights |= _image_weights(Term(name, "picture"), settings.picture, 1.0)
    if name != CANVAS:
        weights[Term(name, "identity")] = settings.identity
    for region in regions:
        weights |= _image_weights(Term(region, "coarse"), settings.coarse, 1.0)
        weights |= _image_weights(Term(region, "whole"), settings.whole, 1.0)
        weights |= _image_weights(Term(region, "border"), settings.border, border_ramp)
        weights[Term(region, "seam")] = border_ramp * settings.seam
    return weights


def _image_weights(term: Term, weights: ImageWeights, ramp: float) -> Weights:
    return {term.of(d): ramp * getattr(weights, d) for d in DISTANCES}
