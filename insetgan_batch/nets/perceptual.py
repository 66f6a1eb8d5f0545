"""LPIPS (Zhang et al. 2018) with named weights, as features and a distance between features.

Split in two, because what stands still for a whole phase needs its features only once.

Why random weights at all: the trunk of AlexNet (trained on ImageNet) cannot be bundled. Without it
the trunk is drawn from a fixed seed; random convolutions still compare local structure, which is
enough for the demo. The learned channel weights of LPIPS belong to the trained trunk, so the random
one weighs all channels alike.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import lpips
import torch
from torch import Tensor, nn

from insetgan_batch.errors import CheckpointError, one_line

_RANDOM_SEED = 0
_EPS = 1e-10
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

    def __init__(self, trunk: Path | None) -> None:
        """trunk: torchvision's `alexnet` state dict (`.pth`), or None for seeded random weights."""
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
            _load_trunk(self._lpips.net, trunk)
        self.requires_grad_(False).eval()

    def features(self, image: Tensor) -> Features:
        """Feature maps of images `[n 3 h w]` (-1..1, at least 32 px), normalised over channels."""
        maps = self._lpips.net(self._lpips.scaling_layer(image))
        return [m * torch.rsqrt(m.square().sum(dim=1, keepdim=True) + _EPS) for m in maps]

    def distance(self, a: Features, b: Features) -> Tensor:
        """LPIPS of each pair: `[n]`, 0 for equal images."""
        total = torch.zeros((), device=a[0].device)
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            difference = (x - y).square()
            if self._lpips.lpips:
                weighted = self._lpips.lins[i](difference)
            else:
                weighted = difference.sum(dim=1, keepdim=True)
            total = total + weighted.mean(dim=(1, 2, 3))
        return total


def _load_trunk(net: nn.Module, path: Path) -> None:
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
