"""How the page groups, orders and labels loss terms, by their stored texts.

Curves and tables group them by family, in one order, and name them alike. What a term is:
`methods/insetgan/terms.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def family(term: str) -> str:
    """`face.border.l1` → border; the offsets count as latent."""
    name = Term.parse(term).family
    return "latent" if name == "delta" else name


def order(term: str) -> tuple[int, str]:
    """What sorts terms: known families as they stand above, any other one last."""
    name = family(term)
    return (list(FAMILIES).index(name) if name in FAMILIES else len(FAMILIES), term)


def label(term: str, among: Iterable[str]) -> str:
    """A term's name below its family's: with the generator's where there are several."""
    own = Term.parse(term)
    word = DISTANCES[own.distance] if own.distance else own.family
    is_alone = len({Term.parse(other).generator for other in among}) == 1
    return word if is_alone else f"{own.generator} {word}"
