"""How the page groups, orders and labels InsetGAN's loss terms, by their stored texts."""

from __future__ import annotations

from collections.abc import Collection

from insetgan_batch.method import LossFamily
from insetgan_batch.methods.insetgan.terms import Term

FAMILIES = {
    "coarse": "inset against canvas, whole region, reduced",
    "whole": "inset against canvas, whole region",
    "border": "inset against canvas, rim of the region",
    "seam": "step across the region's edge beyond the steps beside it",
    "body": "canvas against its reference, outside",
    "face": "inset against its reference, inside",
    "latent": "distance from the average, size of offsets",
}
DISTANCES = {"l1": "L1", "l2": "L2", "lpips": "LPIPS"}


def families(terms: Collection[str]) -> list[LossFamily]:
    """The families of these terms as they stand above, any other one last."""
    found: dict[str, list[str]] = {}
    for term in sorted(terms, key=_order):
        found.setdefault(_family(term), []).append(term)
    return [
        LossFamily(family, FAMILIES.get(family, ""), {term: _label(term, own) for term in own})
        for family, own in found.items()
    ]


def _family(term: str) -> str:
    """`face.border.l1` → border; the offsets count as latent."""
    name = Term.parse(term).family
    return "latent" if name == "delta" else name


def _order(term: str) -> tuple[int, str]:
    family = _family(term)
    return (list(FAMILIES).index(family) if family in FAMILIES else len(FAMILIES), term)


def _label(term: str, among: Collection[str]) -> str:
    """A term's name below its family's: with the generator's where there are several."""
    own = Term.parse(term)
    word = DISTANCES[own.distance] if own.distance else own.family
    is_alone = len({Term.parse(other).generator for other in among}) == 1
    return word if is_alone else f"{own.generator} {word}"
