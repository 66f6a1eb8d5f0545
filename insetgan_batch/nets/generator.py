"""A pretrained generator that stands still: seed → z → w → image.

Seeds mean what they mean in NVIDIA's `generate.py`: `RandomState(seed).randn(1, z_dim)`, constant
noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint


def best_device() -> torch.device:
    """The GPU that this process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Generator:
    """One generator with fixed weights on one device.

    sha256: of its file. height, width: of its images in pixels. w_avg: `[c]`.
    """

    def __init__(self, source: checkpoint.Checkpoint, device: torch.device) -> None:
        # Convolutions with few channels are about a third faster in this layout on a CPU.
        self._network = source.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        architecture = source.network.architecture
        if architecture.image_channels != 3:
            raise CheckpointError(f"found {architecture.image_channels} image channels, expected 3")
        self.sha256 = source.sha256
        self.about = source.about
        self.device = device
        self.height, self.width = architecture.image_size
        self.z_dim, self.num_ws = architecture.z_dim, architecture.num_ws
        self.w_avg: Tensor = self._network.mapping.w_avg

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Generator:
        """Read a file of weights; raises `CheckpointError`."""
        return cls(checkpoint.load(path), device)

    def seeds_to_w(self, seeds: Iterable[int], psi: float) -> Tensor:
        """w `[n c]` of each seed, truncated: `w_avg + psi (w - w_avg)`; psi 1 untouched, 0 the
        average.
        """
        z = np.concatenate([np.random.RandomState(seed).randn(1, self.z_dim) for seed in seeds])
        with torch.no_grad():
            w = self._network.mapping(torch.from_numpy(z).float().to(self.device))
        truncated: Tensor = self.w_avg + psi * (w - self.w_avg)
        return truncated

    def synthesise(self, ws: Tensor) -> Tensor:
        """Images `[n 3 H W]`, nominally in -1..1, from ws `[n l c]`; differentiable in ws."""
        image: Tensor = self._network.synthesis(ws)
        return image

    def images_of_seeds(self, seeds: Iterable[int], psi: float) -> Tensor:
        """Images `[n 3 H W]` of seeds, without gradients."""
        w = self.seeds_to_w(seeds, psi)
        with torch.no_grad():
            return self.synthesise(w[:, None].expand(-1, self.num_ws, -1))
