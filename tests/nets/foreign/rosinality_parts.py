"""Rosinality's layout: tensors by name."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets import literal
from tests.nets.foreign.draw import Draw, mapping_sizes

Tensors = dict[str, Tensor]


def rosinality_tensors(a: Architecture, seed: int = 0) -> OrderedDict[str, Tensor]:
    """The state of a generator under its names there."""
    draw = Draw(seed)
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(mapping_sizes(a)):
        tensors[f"style.{i + 1}.weight"] = draw.normal(fan_out, fan_in, std=100.0)
        tensors[f"style.{i + 1}.bias"] = draw.normal(fan_out, std=30.0)
    tensors["input.input"] = draw.normal(1, a.channels[0], *a.base)
    tensors |= _rosinality_conv(draw, "conv1", a.w_dim, a.channels[0], a.channels[0])
    tensors |= _rosinality_rgb(draw, "to_rgb1", a.w_dim, a.channels[0], a.image_channels)
    for i, channels in enumerate(a.channels[1:], start=1):
        for k, inputs in enumerate((a.channels[i - 1], channels)):
            name = f"convs.{2 * i - 2 + k}"
            tensors |= _rosinality_conv(draw, name, a.w_dim, inputs, channels)
            if k == 0:
                tensors[f"{name}.conv.blur.kernel"] = 4 * literal.BLUR.float()
        name = f"to_rgbs.{i - 1}"
        tensors[f"{name}.upsample.kernel"] = 4 * literal.BLUR.float()
        tensors |= _rosinality_rgb(draw, name, a.w_dim, channels, a.image_channels)
    for layer in range(a.num_ws - 1):
        size = a.resolutions[(layer + 1) // 2]
        tensors[f"noises.noise_{layer}"] = draw.normal(1, 1, *size)
    return tensors


def _rosinality_conv(draw: Draw, name: str, w_dim: int, inputs: int, outputs: int) -> Tensors:
    return {
        f"{name}.conv.weight": draw.normal(1, outputs, inputs, 3, 3),
        f"{name}.conv.modulation.weight": draw.normal(inputs, w_dim),
        f"{name}.conv.modulation.bias": draw.normal(inputs, mean=1.0, std=0.3),
        f"{name}.noise.weight": draw.normal(1, std=0.5),
        f"{name}.activate.bias": draw.normal(outputs, std=0.3),
    }


def _rosinality_rgb(draw: Draw, name: str, w_dim: int, inputs: int, colours: int) -> Tensors:
    return {
        f"{name}.bias": draw.normal(1, colours, 1, 1, std=0.3),
        f"{name}.conv.weight": draw.normal(1, colours, inputs, 1, 1),
        f"{name}.conv.modulation.weight": draw.normal(inputs, w_dim),
        f"{name}.conv.modulation.bias": draw.normal(inputs, mean=1.0, std=0.3),
    }
