"""Why an item of InsetGAN cannot be done."""

from __future__ import annotations

from insetgan_batch.errors import ItemError


class NoFaceFoundError(ItemError):
    """The detector finds no face where the item needs one."""

    reason = "no_face"


class LostFaceError(ItemError):
    """The detector found the part at first, and then missed it too often."""

    reason = "lost_face"


class FarInversionError(ItemError):
    """What was inverted is further from its picture than the recipe's `inversion.max_error`."""

    reason = "far_inversion"


class DivergedError(ItemError):
    """A loss is no longer a finite number."""

    reason = "diverged"
