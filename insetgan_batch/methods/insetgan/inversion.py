"""The two things that only inversions have: errors at their end, and noise on w."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from insetgan_batch.methods.insetgan.errors import FarInversionError
from insetgan_batch.methods.insetgan.image_terms import shrunk
from insetgan_batch.methods.insetgan.likeness import likeness
from insetgan_batch.methods.insetgan.states import Slot, State
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.identity import Identity
from insetgan_batch.nets.perceptual import Perceptual

_SPREAD_SEEDS = range(1000)  # of whose w the generator's spread is measured
_NOISE_ENDS = 0.75  # of a stage (StyleGAN2, appendix D)


class InversionErrors:
    """The distances of inverted items' images from the pictures that they were inverted from."""

    def __init__(self, perceptual: Perceptual, identities: Mapping[str, Identity]) -> None:
        """identities: by inset."""
        self._perceptual, self._identities = perceptual, identities

    def record(self, slot: Slot, state: State) -> None:
        """At the end of an item's inversion: keep its errors, and make this state its start.

        Sets `slot.error` where an error exceeds the recipe's `max_error`.
        """
        slot.inversion = {name: self._error(slot, name) for name in slot.pictures}
        slot.start = dataclasses.replace(state, round=0)
        limit = slot.recipe.inversion.max_error
        for name, errors in slot.inversion.items():
            if limit is not None and not errors["lpips"] <= limit:
                slot.error = FarInversionError(
                    f"the {name} is {errors['lpips']:.3g} from its picture by LPIPS"
                    f" ({self._perceptual.name}), expected at most recipe.inversion.max_error"
                    f" ({limit:g}): its generator cannot paint that"
                )

    def _error(self, slot: Slot, name: str) -> dict[str, float]:
        """`l1` (of images in -1..1) and `lpips` of the whole image to its picture; for insets with
        an `Identity` also `identity`, 1 - the cosine of FaceNet's vectors.
        """
        painted, given = slot.images[name][None], slot.given[name][None]
        size = slot.recipe.inversion.resolution
        small, target = (shrunk(x, size) for x in (painted.clamp(-1, 1), given))
        with torch.no_grad():
            features = [self._perceptual.features(x) for x in (small, target)]
            errors = {
                "l1": float((small - target).abs().mean()),
                "lpips": float(self._perceptual.distance(*features)),
            }
        if name in self._identities:
            alike = likeness(self._identities[name], painted[0], given[0], slot.inset_boxes[name])
            errors["identity"] = 1 - alike
        return errors


class LatentNoise:
    """The recipe's noise on w (StyleGAN2, appendix D)."""

    def __init__(self, generators: Mapping[str, Generator]) -> None:
        self._generators = generators
        self._spreads: dict[str, float] = {}

    def of(self, name: str, slots: Sequence[Slot], steps: int) -> Tensor | None:
        """The noise on w in each of the next steps, `[steps n c]`; None where no recipe has any.

        The numbers follow from the item's seed and the step, so that they are the same anywhere.
        """
        if not any(slot.now.generators[name].w_noise for slot in slots):
            return None
        rows = [[self._drawn(name, slot, i) for slot in slots] for i in range(steps)]
        return torch.stack([torch.stack(row) for row in rows]).to(self._generators[name].w_avg)

    def _drawn(self, name: str, slot: Slot, ahead: int) -> Tensor:
        """An item's noise so many steps from now, `[c]`, on the CPU."""
        settings, step = slot.now.generators[name], slot.stage_steps[name] + ahead
        left = max(0.0, 1 - step / (slot.now.max_rounds * settings.steps) / _NOISE_ENDS)
        source = torch.Generator().manual_seed((slot.seed << 20) + step)
        w_avg = self._generators[name].w_avg
        drawn = torch.randn(len(w_avg), generator=source, dtype=w_avg.dtype)
        return settings.w_noise * left**2 * self._spread(name) * drawn

    def _spread(self, name: str) -> float:
        """The root of the mean squared distance of a generator's w from its average."""
        if name not in self._spreads:
            generator = self._generators[name]
            label = 0 if generator.c_dim else None
            offsets = generator.seeds_to_w(_SPREAD_SEEDS, 1.0, label) - generator.w_avg
            self._spreads[name] = float(offsets.square().sum(dim=1).mean().sqrt())
        return self._spreads[name]
