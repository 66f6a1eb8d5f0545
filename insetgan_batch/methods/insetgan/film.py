"""The film of an item: its composite at every so many steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from insetgan_batch.methods.insetgan import compose, images
from insetgan_batch.methods.insetgan.recipe import CANVAS
from insetgan_batch.methods.insetgan.states import Slot


class Film:
    """Appends frames to `Slot.film`."""

    def __init__(self, insets: Sequence[str], every: int) -> None:
        """insets: in the order in which they are pasted; every: in steps, 0 for no film."""
        self._insets, self._every = insets, every

    def is_due(self, slot: Slot, number: int) -> bool:
        """Whether an item has a frame before a step of a phase (from 0)."""
        done = sum(m.step for m in slot.moments.values()) + number
        return self._every > 0 and done % self._every == 0

    def keep(self, slot: Slot, moving: Mapping[str, Tensor]) -> None:
        """Append the composite of an item; moving: images `[3 H W]` newer than the item's own."""
        current = slot.images | dict(moving)
        insets = {name: current[name] for name in self._insets}
        whole = compose.compose(current[CANVAS], insets, slot.regions, slot.masks)
        slot.film.append(images.to_pixels(whole[None])[0].cpu().numpy())
