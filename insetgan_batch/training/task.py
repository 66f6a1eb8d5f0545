"""What is learnt, as the loop knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from insetgan_batch.training.workers import Workers


class Task(Protocol):
    """Networks with their optimisers, and one step of them. Each worker has one of its own, and all
    are the same after every step.
    """

    @property
    def batch(self) -> int:
        """Pictures of a step, over all workers."""
        ...

    def step(self, iteration: int, workers: Workers) -> Mapping[str, float]:
        """One step, from 0; returns numbers for curves, by name. What is drawn in it depends on the
        iteration alone.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name: those themselves, no copies."""
        ...

    def numbers(self) -> dict[str, Any]:
        """Everything else that it depends on, as JSON."""
        ...

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on from there; raises `ValueError` for those of another task."""
        ...

    def snapshot(self, about: Mapping[str, Any]) -> bytes:
        """The network that people use, as a file; about: what it says of where it comes from."""
        ...

    def samples(self) -> np.ndarray:
        """A sheet of what it paints now, always for the same seeds: bytes `[h w 3]`."""
        ...
