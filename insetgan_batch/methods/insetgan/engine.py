"""InsetGAN's batch on one device, as a worker drives it: rows become starts, rounds move latents,
what has ended becomes pictures and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from insetgan_batch.data.results import Result
from insetgan_batch.errors import ItemError
from insetgan_batch.methods.insetgan import encode, labels, saved
from insetgan_batch.methods.insetgan.loading import Networks, load
from insetgan_batch.methods.insetgan.prepare import Prepared, Preparer
from insetgan_batch.methods.insetgan.recipe import CANVAS, Recipe
from insetgan_batch.methods.insetgan.settings import Settings
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Finished
from insetgan_batch.methods.insetgan.trial import trial
from insetgan_batch.records import Item, Lease


class Engine:
    """See `method.Engine`."""

    ahead = 0

    def __init__(self, settings: Settings, slots: int, device: torch.device) -> None:
        """Load what the settings name; raises `CheckpointError`, `StorageError`."""
        self._settings, self._device = settings, device
        self._networks = networks = load(settings, device)
        self._optimizer = self._batch(settings.recipe, slots)
        found_in = {CANVAS: list(networks.canvas_detectors.values())}
        found_in |= {name: [detector] for name, detector in networks.detectors.items()}
        self._preparer = Preparer(
            settings.recipe,
            networks.generators,
            found_in,
            settings.classes,
            encoders=networks.encoders,
            perceptual=networks.perceptual,
        )
        self._origin = encode.Origin(
            recipe=settings.recipe.name,
            weights={name: g.sha256 for name, g in networks.generators.items()},
            precision=networks.precision,
            perceptual=networks.perceptual.name,
            identities=networks.identities,
        )
        self._psi: dict[str, dict[str, Any]] = {}  # by key, of the items inside

    @property
    def capacity(self) -> int:
        """Slots."""
        return self._optimizer.capacity

    @capacity.setter
    def capacity(self, slots: int) -> None:
        self._optimizer.capacity = slots

    @property
    def keys(self) -> list[str]:
        """The items inside."""
        return self._optimizer.keys

    def prepare(self, item: Item, read: Callable[[str], bytes]) -> Prepared:
        """Read and check what the row names."""
        return self._preparer.prepare(item, read)

    def admit(self, key: str, prepared: Prepared) -> None:
        """From the row's own start."""
        start = self._preparer.start(key, prepared)
        self._optimizer.admit(start)
        self._psi[key] = start.psi

    def resume(self, key: str, prepared: Prepared, data: bytes) -> float:
        """From where another batch left the item."""
        found = saved.from_bytes(data, self._label(prepared), self._device)
        start = self._preparer.start(key, prepared)
        self._optimizer.load(start, found["state"])
        self._psi[key] = start.psi
        return float(found["seconds"])

    def run_round(
        self, on_step: Callable[[], None], on_phase: Callable[[str], None]
    ) -> Sequence[Finished]:
        """One phase of every generator."""
        self._optimizer.run_round(on_step, on_phase)
        ended = self._optimizer.release()
        for failed in (finished for finished in ended if finished.error is not None):
            del self._psi[failed.key]
        return ended

    def give_up(self, key: str, error: ItemError) -> None:
        """It leaves with the next round."""
        self._optimizer.give_up(key, error)

    def state(self, key: str) -> dict[str, Any]:
        """Latents, Adam's moments and all that cannot be computed anew."""
        return self._optimizer.save(key)

    def save(self, prepared: Prepared, state: dict[str, Any], seconds: float) -> bytes:
        """With a label that says what it is the state of."""
        return saved.to_bytes({"state": state, "seconds": seconds}, self._label(prepared))

    def result(self, finished: Finished, lease: Lease, seconds: float) -> Result:
        """Pictures, latents, losses and numbers."""
        psi = self._psi.pop(finished.key)
        return encode.result(lease, finished, seconds, psi, self._origin)

    def trial(self, items: int) -> None:
        """Every generator that ever moves makes a step."""
        trial(items, self._networks.generators, self._settings.recipe, self._batch)

    def _label(self, prepared: Prepared) -> saved.Label:
        return labels.of(prepared.item, prepared.recipe, self._origin.weights)

    def _batch(self, recipe: Recipe, capacity: int) -> SlotOptimizer:
        networks: Networks = self._networks
        return SlotOptimizer(
            canvas=networks.generators[CANVAS],
            insets={name: networks.generators[name] for name in self._settings.insets},
            detectors=networks.detectors,
            canvas_detectors=networks.canvas_detectors,
            segmenters=networks.segmenters,
            identities=networks.identities,
            perceptual=networks.perceptual,
            recipe=recipe,
            capacity=capacity,
            film_every=self._settings.film_every,
        )
