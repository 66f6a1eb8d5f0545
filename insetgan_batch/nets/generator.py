"""A pretrained generator that stands still: seed → z → w → image.

Seeds mean what they mean in NVIDIA's `generate.py`: `RandomState(seed).randn(1, z_dim)`, constant
noise.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.devices import Precision
from insetgan_batch.nets.layers import Noise
from insetgan_batch.nets.windows import Window

# Where a file does not say how many of its highest resolutions were trained in float16: NVIDIA's
# usual number.
_FLOAT16_RESOLUTIONS = 4
# Lower ones cost little, and their rounding errors show all over the picture.
LOWEST_BFLOAT16_PX = 64


class Generator:
    """One generator with fixed weights on one device.

    sha256: of its file. height, width: of its images in pixels. w_avg: `[c]`. low_precision: the
    same generator in bfloat16 or float16, for the images of an optimiser's steps, which are not
    kept: nearly the same images in half the time; itself where `precision` is float32.
    """

    def __init__(
        self,
        source: checkpoint.Checkpoint,
        device: torch.device,
        *,
        precision: Precision = "float32",
    ) -> None:
        """Move the weights to the device; the network of `source` becomes this generator's own.

        precision: of `low_precision`, for its highest resolutions: in bfloat16 those of 64 pixels
        and more, in float16 as many as were trained in it, 4 if the file does not say. Colours are
        summed in float32. Raises `CheckpointError` for float16 where activations are not clamped:
        they may leave its range.
        """
        architecture = source.network.architecture
        if precision == "float16" and architecture.conv_clamp is None:
            raise CheckpointError(
                "float16 needs a generator with conv_clamp, and this one has none: its activations"
                " may leave the range of float16; choose bfloat16 or float32"
            )
        self._network = source.network.to(device)
        self.sha256 = source.sha256
        self.about = source.about
        self.device = device
        self.height, self.width = architecture.image_size
        self.image_channels = architecture.image_channels
        self.z_dim, self.c_dim = architecture.z_dim, architecture.c_dim
        self.num_ws = architecture.num_ws
        self.w_avg: Tensor = self._network.mapping.w_avg
        self._heights = [height for height, _ in architecture.resolutions]
        low_resolutions = {
            "float32": 0,
            "bfloat16": sum(height >= LOWEST_BFLOAT16_PX for height in self._heights),
            "float16": architecture.num_fp16_res or _FLOAT16_RESOLUTIONS,
        }[precision]
        self.low_precision = self
        if low_resolutions:
            dtype = getattr(torch, precision)
            self.low_precision = copy.copy(self)
            self.low_precision.low_precision = self.low_precision
            self.low_precision._network = self._network.in_precision(dtype, low_resolutions)

    @classmethod
    def load(
        cls,
        path: Path,
        device: torch.device,
        *,
        precision: Precision = "float32",
    ) -> Generator:
        """Read a file of weights; raises `CheckpointError` that names it."""
        source = checkpoint.load(path)
        try:
            return cls(source, device, precision=precision)
        except CheckpointError as err:
            raise CheckpointError(f"{path}: {err}") from err

    def seeds_to_w(self, seeds: Iterable[int], psi: float, label: int | None = None) -> Tensor:
        """w `[n c]` of each seed, truncated: `w_avg + psi (w - w_avg)`; psi 1 untouched, 0 the
        average.

        label: the class, 0 to `c_dim` - 1, of a conditional generator. Raises `ValueError` where it
        is missing or out of place.
        """
        z = np.concatenate([np.random.RandomState(seed).randn(1, self.z_dim) for seed in seeds])
        w = self.z_to_w(torch.from_numpy(z).float(), label)
        return self.w_avg + psi * (w - self.w_avg)

    def z_to_w(self, z: Tensor, label: int | None = None) -> Tensor:
        """w `[n c]` of z `[n z]`, without gradients; label as in `seeds_to_w`."""
        c = None if label is None else self._one_hot(label).expand(len(z), -1)
        with torch.no_grad():
            w: Tensor = self._network.mapping(z.to(self.device), c)
        return w

    def seeds_to_ws(
        self, seeds: Iterable[int], psi: float | Sequence[float], label: int | None = None
    ) -> Tensor:
        """ws `[n l c]` of each seed; psi one number, or one for each of the `num_ws` layers.

        Raises `ValueError` where their count differs.
        """
        per_layer = list(psi) if isinstance(psi, Sequence) else [psi] * self.num_ws
        if len(per_layer) != self.num_ws:
            raise ValueError(f"found {len(per_layer)} values of psi, expected 1 or {self.num_ws}")
        offset = self.seeds_to_w(seeds, 1.0, label) - self.w_avg
        factors = torch.tensor(per_layer, dtype=offset.dtype, device=self.device)
        return self.w_avg + factors[:, None] * offset[:, None]

    def latents_of(self, w: Tensor) -> Tensor:
        """Latents `[1+l c]` of w `[c]`: w, then for each of the `num_ws` layers an offset of 0."""
        return torch.cat([w[None], w.new_zeros(self.num_ws, len(w))])

    @staticmethod
    def ws_of(latents: Tensor) -> Tensor:
        """ws `[(n) l c]` of latents `[(n) 1+l c]`: w plus each layer's offset."""
        return latents[..., :1, :] + latents[..., 1:, :]

    def synthesise(self, ws: Tensor, *, upto: int | None = None, noise: Noise = "const") -> Tensor:
        """Images `[n 3 H W]`, nominally in -1..1, from ws `[n l c]`; differentiable in ws.

        A gray generator has one channel. upto: the height in pixels of a lower resolution, which
        then needs only the first of the latents; `ValueError` where the generator has none of that
        height. noise: the file's constant one, none, or one source of random numbers per image.
        """
        blocks = None if upto is None else self._blocks(upto)
        image: Tensor = self._network.synthesis(ws, blocks, noise)
        return image

    def synthesise_crops(
        self, ws: Tensor, windows: Sequence[Window], *, upto: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Images of a lower resolution, `upto` pixels high, and crops of the full-resolution ones.

        Differentiable in ws. A crop `[n 3 h w]` has the pixels that `synthesise` would give there,
        and costs no more than its own pixels. windows: in pixels of the full image, corners and
        sizes multiples of `height / upto`.
        """
        return self._network.synthesis.synthesise_crops(ws, self._blocks(upto), windows)

    def lowest_height(self, side: int) -> int:
        """The height of the lowest resolution whose smaller side has at least so many pixels; the
        whole image's where there is none, or where only the whole image can be painted.
        """
        if not self._network.synthesis.can_stop_early:
            return self.height
        sizes = self._network.architecture.resolutions
        return next((height for height, width in sizes if min(height, width) >= side), self.height)

    def layers(self, upto: int) -> int:
        """How many of the `num_ws` layers an image of that height in pixels depends on."""
        return 2 * self._blocks(upto)

    def images_of_seeds(
        self,
        seeds: Sequence[int],
        psi: float | Sequence[float],
        *,
        label: int | None = None,
        noise: Literal["const", "none", "random"] = "const",
    ) -> Tensor:
        """Images `[n 3 H W]` of seeds, without gradients; random noise follows from the seed."""
        ws = self.seeds_to_ws(seeds, psi, label)
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]
        with torch.no_grad():
            return self.synthesise(ws, noise=sources if noise == "random" else noise)

    def _blocks(self, upto: int) -> int:
        """How many blocks paint an image of that height."""
        if upto not in self._heights:
            raise ValueError(f"found upto={upto}, expected one of the heights {self._heights}")
        return self._heights.index(upto) + 1

    def _one_hot(self, label: int) -> Tensor:
        """The label as `[1 c_dim]`."""
        if not 0 <= label < self.c_dim:
            classes = f"0 to {self.c_dim - 1}" if self.c_dim else "none: this one has no classes"
            raise ValueError(f"found class {label}, expected {classes}")
        one_hot = torch.zeros(1, self.c_dim, device=self.device)
        one_hot[0, label] = 1.0
        return one_hot
