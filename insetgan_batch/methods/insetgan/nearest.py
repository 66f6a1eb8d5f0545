"""The seed whose picture is nearest to a given one: where an inversion starts without encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual

_SIZE_PX = 64  # of the pictures that are compared
_BATCH = 8
_PSI = 0.7
_FIRST_SEED = 4_000_000_000  # far from those that people type


class Nearest:
    """Small images of many seeds of one generator, and which of them is nearest to a picture."""

    def __init__(
        self, generator: Generator, perceptual: Perceptual | None, tries: int, label: int | None
    ) -> None:
        """tries: how many seeds. perceptual: for LPIPS beside L1, None for L1 alone. label: the
        class of a conditional generator.
        """
        seeds = range(_FIRST_SEED, _FIRST_SEED + tries)
        self._w = generator.seeds_to_w(seeds, _PSI, label)
        self._perceptual = perceptual
        small = []
        with torch.no_grad():
            for some in torch.split(self._w, _BATCH):
                ws = some[:, None].expand(-1, generator.num_ws, -1)
                small.append(images.downsample(generator.synthesise(ws).clamp(-1, 1), _SIZE_PX))
            self._pictures = torch.cat(small)
            self._features = perceptual.features(self._pictures) if perceptual else []

    def w_of(self, picture: Tensor) -> Tensor:
        """w `[c]` of the seed whose picture is nearest to `[3 H W]` in -1..1, by L1 plus LPIPS."""
        with torch.no_grad():
            small = images.downsample(picture[None], _SIZE_PX)
            error = (self._pictures - small).abs().mean(dim=(1, 2, 3))
            if self._perceptual is not None:
                features = [
                    f.expand(len(error), -1, -1, -1) for f in self._perceptual.features(small)
                ]
                error = error + self._perceptual.distance(self._features, features)
        return self._w[int(error.argmin())]
