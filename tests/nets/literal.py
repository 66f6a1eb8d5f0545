"""The generator's equations, written down a second time: slowly, and one image at a time.

This is the specification that tests compare with. It follows the papers' order (weights are
modulated, a transposed convolution is blurred, images are upsampled by inserting zeros), in
float64, with nothing fused. It judges plain tensors under the names of NVIDIA's layout, so that
they need not have gone through any network or reader of the package.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# What every convolution adds: the constant one, nothing, or `[n h w]` by the layer's name.
Noise = Literal["const", "none"] | dict[str, Tensor]

EPSILON = 1e-8
BLUR = torch.outer(torch.tensor([1, 3, 3, 1]), torch.tensor([1, 3, 3, 1])).double() / 64


@dataclasses.dataclass(frozen=True)
class Network:
    """Tensors by name, and what their shapes do not say."""

    tensors: dict[str, Tensor]
    lr_multiplier: float = 0.01
    conv_clamp: float | None = None
    label_norm: str = "separate"
    synthesis: str = "skip"

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name].double()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    @property
    def heights(self) -> list[int]:
        """Of the blocks, from the base upwards."""
        found = (re.match(r"synthesis\.b(\d+)\.", name) for name in self.tensors)
        return sorted({int(match[1]) for match in found if match})


# Mapping


def map_to_w(network: Network, z: Tensor, c: Tensor | None = None) -> Tensor:
    """z `[n z]` and labels `[n c_dim]` to w `[n c]`."""
    x, rate = z.double(), network.lr_multiplier
    if c is None:
        x = _normalise(x)
    else:
        label = _dense(network, "mapping.embed", c.double(), 1.0)
        if network.label_norm == "joint":
            x = _normalise(torch.cat([x, label], dim=1))
        else:
            x = torch.cat([_normalise(x), _normalise(label)], dim=1)
    layer = 0
    while f"mapping.fc{layer}.weight" in network:
        x = activate(_dense(network, f"mapping.fc{layer}", x, rate))
        layer += 1
    return x


def _normalise(x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + EPSILON).sqrt()


def _dense(network: Network, name: str, x: Tensor, rate: float) -> Tensor:
    weight = network[f"{name}.weight"]
    return x @ (weight * rate / math.sqrt(weight.shape[1])).T + network[f"{name}.bias"] * rate


# Synthesis


def paint(
    network: Network, ws: Tensor, blocks: int | None = None, noise: Noise = "const"
) -> Tensor:
    """ws `[n l c]` to images `[n colours H W]`; blocks: stop after so many."""
    heights = network.heights[:blocks]
    images = [_paint_one(network, w, heights, _noise_of_image(noise, i)) for i, w in enumerate(ws)]
    return torch.stack(images)


def _noise_of_image(noise: Noise, i: int) -> Noise:
    return noise if isinstance(noise, str) else {name: given[i] for name, given in noise.items()}


def _paint_one(network: Network, ws: Tensor, heights: list[int], noise: Noise) -> Tensor:
    ws = ws.double()
    block = f"synthesis.b{heights[0]}"
    x = _styled(network, f"{block}.conv1", network[f"{block}.const"], ws[0], noise)
    image = _colours(network, block, x, ws[1])
    for i, height in enumerate(heights[1:], start=1):
        block = f"synthesis.b{height}"
        if network.synthesis == "resnet":
            gain = math.sqrt(0.5)
            skip = network[f"{block}.skip.weight"]
            shortcut = upsample(F.conv2d(x[None], skip / math.sqrt(x.shape[0]))[0]) * gain
            x = _styled(network, f"{block}.conv0", x, ws[2 * i - 1], noise, up=True)
            x = shortcut + _styled(network, f"{block}.conv1", x, ws[2 * i], noise, gain=gain)
        else:
            x = _styled(network, f"{block}.conv0", x, ws[2 * i - 1], noise, up=True)
            x = _styled(network, f"{block}.conv1", x, ws[2 * i], noise)
        colours = _colours(network, block, x, ws[2 * i + 1])
        if colours is not None:
            image = colours if image is None else upsample(image) + colours
    assert image is not None
    return image


def _styled(
    network: Network,
    name: str,
    x: Tensor,
    w: Tensor,
    noise: Noise,
    *,
    up: bool = False,
    gain: float = 1.0,
) -> Tensor:
    weight = network[f"{name}.weight"] * _style(network, name, w)[None, :, None, None]
    weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + EPSILON).sqrt()
    if up:
        doubled = F.conv_transpose2d(x[None], weight.transpose(0, 1), stride=2)
        x = _filter(F.pad(doubled, (1, 1, 1, 1)), 4 * BLUR)[0]
    else:
        x = F.conv2d(x[None], weight, padding=1)[0]
    x = x + _noise_of_layer(network, name, noise) + network[f"{name}.bias"][:, None, None]
    return _clamp(activate(x) * gain, network.conv_clamp, gain)


def _noise_of_layer(network: Network, name: str, noise: Noise) -> Tensor | float:
    if noise == "none" or f"{name}.noise_strength" not in network:
        return 0.0
    field = network[f"{name}.noise_const"] if noise == "const" else noise[name].double()
    return field * network[f"{name}.noise_strength"]


def _colours(network: Network, block: str, x: Tensor, w: Tensor) -> Tensor | None:
    """Of this block alone; None where it makes none."""
    name = f"{block}.torgb"
    if f"{name}.weight" not in network:
        return None
    style = _style(network, name, w) / math.sqrt(x.shape[0])
    weight = network[f"{name}.weight"] * style[None, :, None, None]
    colours = F.conv2d(x[None], weight)[0] + network[f"{name}.bias"][:, None, None]
    return _clamp(colours, network.conv_clamp, 1.0)


def _style(network: Network, name: str, w: Tensor) -> Tensor:
    return _dense(network, f"{name}.affine", w[None], 1.0)[0]


def _clamp(x: Tensor, conv_clamp: float | None, gain: float) -> Tensor:
    return x if conv_clamp is None else x.clamp(-conv_clamp * gain, conv_clamp * gain)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the size of what goes in."""
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def upsample(image: Tensor) -> Tensor:
    """Zeros between the pixels, then the filter: two pixels of padding before, one behind."""
    sparse = image.new_zeros(image.shape[0], 2 * image.shape[1], 2 * image.shape[2])
    sparse[:, ::2, ::2] = image
    return _filter(F.pad(sparse[None], (2, 1, 2, 1)), 4 * BLUR)[0]


def _filter(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of `[n c h w]` by itself."""
    kernels = kernel.expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(x, kernels.flip(2, 3), groups=x.shape[1])


# Comparison


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value; infinite for what is not finite."""
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).detach().abs().max()
    largest = float(expected.detach().abs().max())
    return math.inf if difference.isnan() else float(difference) / largest


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal to a tolerance relative to the largest value."""
    assert relative_difference(found, expected) <= tolerance
