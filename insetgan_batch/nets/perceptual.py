"""LPIPS (Zhang et al. 2018) with named weights, as features and a distance between features.

Split in two, because what stands still for a whole phase needs its features only once.

Why random weights at all: the trunk of AlexNet (trained on ImageNet) cannot be bundled. Without it
the trunk is drawn from a fixed seed; random convolutions still compare local structure, which is
enough for the demo. The learned channel weights of LPIPS belong to the trained trunk, so the random
one weighs all channels alike.
"""

from __future__ import annotations

import copy
import pickle
import struct
from pathlib import Path

import lpips
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import layers
from insetgan_batch.nets.devices import Precision
from insetgan_batch.text import one_line

_RANDOM_SEED = 0
_EPS = 1e-10
_STRIDE = 4  # of the first convolution
# What torch raises for a file of something else.
_NOT_A_STATE_DICT = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    AttributeError,
    TypeError,
    ValueError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
)

Features = list[Tensor]


class Perceptual(nn.Module):
    """AlexNet's five feature maps. name: which weights these are; kept with every metric."""

    _kernel: Tensor
    _ones: Tensor

    def __init__(self, trunk: Path | None, precision: Precision = "float32") -> None:
        """trunk: torchvision's `alexnet` state dict (`.pth`), or None for seeded random weights.

        precision: of `low_precision`. With any but float32 its convolutions are computed in
        bfloat16 (gradients would leave float16's range), all that follows in float32.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            self._lpips = lpips.LPIPS(
                net="alex", pnet_rand=True, lpips=trunk is not None, verbose=False
            )
        if trunk is None:
            self.name = f"alexnet-random-{_RANDOM_SEED}"
        else:
            self.name = f"alexnet-{trunk.stem}"
            load_trunk(self._lpips.net, trunk)
        self.requires_grad_(False).eval()
        self._lpips.net.to(memory_format=torch.channels_last)
        kernel = _of_squares(self._lpips.net.slice1[0].weight)
        self.register_buffer("_kernel", kernel, persistent=False)
        self.register_buffer("_ones", torch.ones(max(self._lpips.chns)), persistent=False)
        self._low_precision: Perceptual | None = None
        if precision != "float32":
            self._low_precision = copy.deepcopy(self)
            self._low_precision._lpips.net.to(torch.bfloat16)
            self._low_precision._kernel = self._low_precision._kernel.bfloat16()

    @property
    def trunk(self) -> nn.Module:
        """AlexNet's convolutions, under the names of the `lpips` package (`slice2.3.weight`)."""
        trunk: nn.Module = self._lpips.net
        return trunk

    @property
    def low_precision(self) -> Perceptual:
        """The same features in lower precision, for an optimiser's steps; itself in float32."""
        return self._low_precision or self

    def features(self, image: Tensor) -> Features:
        """Feature maps of images `[n 3 h w]` (-1..1, at least 32 px), normalised over channels."""
        maps = [m.float() if m.dtype == torch.bfloat16 else m for m in self._maps(image)]
        return [m * torch.rsqrt(m.square().sum(dim=1, keepdim=True) + _EPS) for m in maps]

    def distance(self, a: Features, b: Features) -> Tensor:
        """LPIPS of each pair: `[n]`, 0 for equal images."""
        total = torch.zeros((), device=a[0].device)
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            weighted = (x - y).square() * self._channel_weights(i)[:, None, None]
            total = total + weighted.sum(dim=1).mean(dim=(1, 2))
        return total

    def distance_to(self, image: Tensor, target: Features) -> Tensor:
        """LPIPS of images `[n 3 h w]` and those that have the target's features: `[n]`.

        Differentiable in the images. On a GPU it takes less time and memory than `distance`.
        """
        if not layers.has_fused_kernels(image, self._kernel):
            return self.distance(self.features(image), target)
        from insetgan_batch.nets.fused import lpips as kernels

        distances = [
            kernels.apart(found, expected, self._channel_weights(i), _EPS)
            for i, (found, expected) in enumerate(zip(self._maps(image), target, strict=True))
        ]
        return torch.stack(distances).sum(dim=0)

    def _maps(self, image: Tensor) -> Features:
        squares = _squares(self._lpips.scaling_layer(image).to(self._kernel.dtype))
        net = self._lpips.net
        maps = [F.relu(F.conv2d(squares, self._kernel, net.slice1[0].bias))]
        for part in (net.slice2, net.slice3, net.slice4, net.slice5):
            maps.append(part(maps[-1]))
        return maps

    def _channel_weights(self, level: int) -> Tensor:
        """`[c]`: learned ones, or 1 for each channel."""
        if self._lpips.lpips:
            learned: Tensor = self._lpips.lins[level].model[-1].weight
            return learned.flatten()
        return self._ones[: self._lpips.chns[level]]


def _squares(image: Tensor) -> Tensor:
    """Images `[n 3 h w]` by squares of 4x4 pixels, `[n 48 h/4 w/4]`, as far as AlexNet's first
    convolution looks.

    The channels are innermost in memory (`channels_last`), as in `layers.py`.
    It has 11x11 taps, a stride of 4 and 2 zeros around: on squares that is one of 3x3 without
    stride, whose gradient takes a third of the time on a CPU and less on a GPU.
    """
    after = [_STRIDE * ((size - 7) // _STRIDE + 3) - size - 2 for size in image.shape[2:]]
    image = F.pad(image, (2, after[1], 2, after[0]))
    n, channels, height, width = image.shape
    rows, columns = height // _STRIDE, width // _STRIDE
    squares = image.reshape(n, channels, rows, _STRIDE, columns, _STRIDE).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(n, rows, columns, -1).permute(0, 3, 1, 2)


def _of_squares(kernel: Tensor) -> Tensor:
    """The first convolution's kernel `[o 3 11 11]` for `_squares`: `[o 48 3 3]`."""
    taps = F.pad(kernel.detach(), (0, 1, 0, 1)).reshape(-1, 3, 3, 4, 3, 4)
    squares = taps.permute(0, 1, 3, 5, 2, 4).reshape(-1, 48, 3, 3)
    return squares.contiguous(memory_format=torch.channels_last)


def load_trunk(net: nn.Module, path: Path) -> None:
    """Fill the trunk from torchvision's names: `features.3.weight` is `slice2.3.weight`."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        weights = {key: state[f"features.{key.split('.', 1)[1]}"] for key in net.state_dict()}
        net.load_state_dict(weights)
    except _NOT_A_STATE_DICT as err:
        # What torch says of a pickle, in many lines, is how to execute it.
        detail = "a pickle" if isinstance(err, pickle.UnpicklingError) else one_line(err)
        raise CheckpointError(
            f"{path}: not torchvision's alexnet state dict ({detail});"
            " save it with"
            " torch.save(torchvision.models.alexnet(weights='DEFAULT').state_dict(), FILE)"
        ) from err
