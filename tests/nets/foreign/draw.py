"""Random numbers for weights, and the shapes that several layouts share."""

from __future__ import annotations

import torch
from torch import Tensor

from insetgan_batch.nets.stylegan2 import Architecture


class Draw:
    """Random numbers of one seed."""

    def __init__(self, seed: int) -> None:
        self._source = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        return mean + std * torch.randn(shape, generator=self._source)


def mapping_sizes(a: Architecture) -> list[tuple[int, int]]:
    """Inputs and outputs of every layer of the mapping."""
    label = (a.embed_features or a.w_dim) if a.c_dim else 0
    hidden = [a.layer_features or a.w_dim] * (a.mapping_layers - 1)
    return list(zip([a.z_dim + label, *hidden], [*hidden, a.w_dim], strict=True))
