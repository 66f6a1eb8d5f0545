"""The loss terms, like `face.border.l1`: generator, family and, where there are several, distance.

Curves and tables group them by family, in one order, and name them alike.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    name = term.split(".")[1]
    return "latent" if name == "delta" else name


def order(term: str) -> tuple[int, str]:
    """What sorts terms: known families as they stand above, any other one last."""
    name = family(term)
    return (list(FAMILIES).index(name) if name in FAMILIES else len(FAMILIES), term)


def label(term: str, among: Iterable[str]) -> str:
    """A term's name below its family's: with the generator's where there are several."""
    generator, name, *distance = term.split(".")
    words = [DISTANCES.get(word, word) for word in distance] or [name]
    is_alone = len({other.split(".")[0] for other in among}) == 1
    return " ".join(words if is_alone else [generator, *words])
