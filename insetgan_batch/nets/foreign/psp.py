"""Encoders of pSp (Richardson et al. 2021) and e4e (Tov et al. 2021) → latents of a StyleGAN2.

Both are one network: the body of an ArcFace IR-SE-50 (Hu et al. 2018 for the squeezing), a pyramid
of its last three sizes, and for each layer of the generator a row of convolutions of stride 2 down
to one vector. pSp adds the vectors to the average latent; in e4e the first one is w for all layers
and the others are offsets of theirs. A checkpoint says which of both it is in its options, where it
has them; without, it is taken for e4e, which edits better and is the usual one.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.foreign import reader

Kind = Literal["e4e", "psp"]

_SIZE = 256  # of the pictures that it takes
_FEATURES = 512
# (channels, units) of the body's four parts; the first unit of each halves the size.
_BODY = ((64, 3), (128, 4), (256, 14), (512, 3))
_TAKEN = (6, 20, 23)  # the units whose output the pyramid takes
_COARSE, _MIDDLE = 3, 7  # layers below are painted from the coarsest size, from the middle one
_SQUEEZE = 16
_ENCODER = "state_dict.encoder."
_EXPECTED = "expected a checkpoint of encoder4editing or pixel2style2pixel"


class _Squeeze(nn.Module):
    """Weighs channels by what they are in the whole picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _SQUEEZE, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // _SQUEEZE, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        weights: Tensor = torch.sigmoid(self.fc2(F.relu(self.fc1(mean))))
        return x * weights


class _Unit(nn.Module):
    """A residual unit of the body."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if before != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            _Squeeze(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


class _Equalised(nn.Module):
    """A dense layer whose weights are stored with a spread of 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class _ToStyle(nn.Module):
    """Features `[n 512 s s]` down to one vector `[n 512]`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        for _ in range(int(math.log2(size))):
            self.convs.append(nn.Conv2d(_FEATURES, _FEATURES, 3, 2, 1))
            self.convs.append(nn.LeakyReLU())
        self.linear = _Equalised(_FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        style: Tensor = self.linear(self.convs(x).flatten(1))
        return style


class PspEncoder(nn.Module):
    """The network under the names of its checkpoints. num_ws: layers of the generator."""

    w_dim = _FEATURES

    def __init__(self, num_ws: int, kind: Kind) -> None:
        super().__init__()
        self.num_ws, self.kind = num_ws, kind
        first = _BODY[0][0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        widths = [first, *itertools.chain.from_iterable([c] * units for c, units in _BODY)]
        firsts = set(itertools.accumulate((units for _, units in _BODY), initial=0))
        self.body = nn.Sequential(
            *(
                _Unit(before, here, 2 if i in firsts else 1)
                for i, (before, here) in enumerate(itertools.pairwise(widths))
            )
        )
        sizes = [16] * _COARSE + [32] * (_MIDDLE - _COARSE) + [64] * (num_ws - _MIDDLE)
        self.styles = nn.ModuleList(_ToStyle(size) for size in sizes)
        self.latlayer1 = nn.Conv2d(256, _FEATURES, 1)
        self.latlayer2 = nn.Conv2d(128, _FEATURES, 1)
        self.register_buffer("latent_avg", torch.zeros(num_ws, _FEATURES))

    latent_avg: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """ws `[n l 512]` of images `[n 3 256 256]` in -1..1."""
        x, taken = self.input_layer(images), []
        for number, unit in enumerate(self.body):
            x = unit(x)
            if number in _TAKEN:
                taken.append(x)
        fine, middle, coarse = taken
        middle = _enlarged(coarse, middle) + self.latlayer1(middle)
        fine = _enlarged(middle, fine) + self.latlayer2(fine)
        levels = [coarse] * _COARSE + [middle] * (_MIDDLE - _COARSE)
        levels += [fine] * (self.num_ws - _MIDDLE)
        vectors = torch.stack(
            [style(level) for style, level in zip(self.styles, levels, strict=True)], dim=1
        )
        if self.kind == "e4e":
            vectors = torch.cat([vectors[:, :1], vectors[:, :1] + vectors[:, 1:]], dim=1)
        return vectors + self.latent_avg

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents `[n 1+l c]` of images `[n 3 H W]` in -1..1: w is the mean of the layers."""
        resized = F.interpolate(images, (_SIZE, _SIZE), mode="bilinear", antialias=True)
        ws: Tensor = self(resized)
        w = ws.mean(dim=1, keepdim=True)
        return torch.cat([w, ws - w], dim=1)


def load(path: Path, device: torch.device, kind: Kind | None = None) -> PspEncoder:
    """Read a checkpoint as data, nothing in it is executed; raises `CheckpointError`.

    kind: None for what the file's options say.
    """
    tensors, options = reader.read_tensors_and_options(path)
    weights = {
        name.removeprefix(_ENCODER): tensor.float()
        for name, tensor in tensors.items()
        if name.startswith(_ENCODER)
    }
    styles = [int(m[1]) for name in weights if (m := re.match(r"styles\.(\d+)\.", name))]
    num_ws = max(styles, default=-1) + 1
    if not _MIDDLE < num_ws <= 64:
        raise CheckpointError(f"{path}: found {num_ws} layers of style; {_EXPECTED}")
    average = tensors.get("latent_avg")
    if average is None:
        raise CheckpointError(f"{path}: no `latent_avg`; {_EXPECTED}")
    network = PspEncoder(num_ws, kind or _kind(options.get("encoder_type")))
    weights["latent_avg"] = average.float().expand(num_ws, -1).clone()
    counters = {k: t for k, t in network.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(counters | weights)
    except RuntimeError as err:
        raise CheckpointError(f"{path}: {checkpoint.printable(str(err))}; {_EXPECTED}") from err
    return network.requires_grad_(False).eval().to(device)


def _kind(encoder_type: object) -> Kind:
    return "psp" if encoder_type == "GradualStyleEncoder" else "e4e"


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)
