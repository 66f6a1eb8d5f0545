"""In which order pictures are seen: a function of how many have been, so that nothing is kept."""

from __future__ import annotations

import functools

import numpy as np


class Order:
    """Every epoch all pictures, in an order of its own; `mirrored`, each of them twice, once
    flipped.
    """

    def __init__(self, pictures: int, seed: int, *, mirrored: bool) -> None:
        self._pictures, self._seed = pictures, seed
        self._views = pictures * (2 if mirrored else 1)

    def __getitem__(self, seen: int) -> tuple[int, bool]:
        """(picture, whether it is flipped) after so many."""
        epoch, place = divmod(seen, self._views)
        view = int(_shuffled(self._views, self._seed, epoch)[place])
        return view % self._pictures, view >= self._pictures


@functools.lru_cache(maxsize=2)
def _shuffled(views: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(views)
