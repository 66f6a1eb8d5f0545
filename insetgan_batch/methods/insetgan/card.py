"""What the card of a dataset says of InsetGAN: see `method.Card`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insetgan_batch.method import Card

_LIMITS = (
    "Truncation (psi below 1, columns `*_psi`) buys quality with variety: it narrows the images"
    " further, towards the average.",
    "An item that began at a picture (`*_source` is `image`) may resemble the person in it.",
    "Canvas and inset are combined as the manifest says: which face is on which body follows no"
    " population.",
    "A detector finds some faces less often than others, and items without one have failed.",
)


def card(run: Mapping[str, Any]) -> Card:
    """By the recipe of a run.json."""
    recipe = run.get("configuration", {}).get("recipe", {})
    return Card(
        what="Synthetic images of people, each composed from several StyleGAN2 generators by"
        " InsetGAN.",
        how=f"Recipe `{recipe.get('name', 'unknown')}`, truncation {recipe.get('psi', 'unknown')}."
        " Each item's latents were optimised until the parts meet without a seam.",
        limits=_LIMITS,
        tags=("stylegan2",),
    )
