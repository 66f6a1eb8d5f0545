"""NVIDIA's PyTorch layout: tensors by name, and the modules that hold them in a pickle."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets import literal
from tests.nets.foreign.draw import Draw, mapping_sizes
from tests.nets.foreign.pretend import EasyDict, Persistent, persistent

Tensors = dict[str, Tensor]


def nvidia_tensors(a: Architecture, seed: int = 0, *, use_noise: bool = True) -> Tensors:
    """Parameters and buffers of a generator by name, but for the resampling filters."""
    draw, rate = Draw(seed), a.mapping_lr_multiplier
    tensors: Tensors = {}
    for i, (fan_in, fan_out) in enumerate(mapping_sizes(a)):
        tensors[f"mapping.fc{i}.weight"] = draw.normal(fan_out, fan_in, std=1 / rate)
        tensors[f"mapping.fc{i}.bias"] = draw.normal(fan_out, std=0.3 / rate)
    if a.c_dim:
        features = a.embed_features or a.w_dim
        tensors["mapping.embed.weight"] = draw.normal(features, a.c_dim)
        tensors["mapping.embed.bias"] = draw.normal(features, std=0.3)
    tensors["mapping.w_avg"] = draw.normal(a.w_dim, std=0.3)
    for i, (height, width) in enumerate(a.resolutions):
        block, channels = f"synthesis.b{height}", a.channels[i]
        layers = {"conv1": channels}
        if i == 0:
            tensors[f"{block}.const"] = draw.normal(channels, height, width)
        else:
            layers = {"conv0": a.channels[i - 1], **layers}
        for layer, inputs in layers.items():
            tensors |= _nvidia_conv(draw, f"{block}.{layer}", a.w_dim, inputs, channels, 3)
            if use_noise:
                tensors[f"{block}.{layer}.noise_strength"] = draw.normal(std=0.5)
                tensors[f"{block}.{layer}.noise_const"] = draw.normal(height, width)
        if a.synthesis == "resnet" and i > 0:
            shape = (channels, a.channels[i - 1], 1, 1)
            tensors[f"{block}.skip.weight"] = draw.normal(*shape)
        if a.synthesis == "skip" or i == len(a.channels) - 1:
            colours = a.image_channels
            tensors |= _nvidia_conv(draw, f"{block}.torgb", a.w_dim, channels, colours, 1)
    return tensors


def _nvidia_conv(
    draw: Draw, name: str, w_dim: int, inputs: int, outputs: int, size: int
) -> Tensors:
    return {
        f"{name}.weight": draw.normal(outputs, inputs, size, size),
        f"{name}.bias": draw.normal(outputs, std=0.3),
        f"{name}.affine.weight": draw.normal(inputs, w_dim),
        f"{name}.affine.bias": draw.normal(inputs, mean=1.0, std=0.3),
    }


def nvidia_generator(a: Architecture, tensors: Tensors) -> Persistent:
    """The modules that hold these tensors, with the attributes that such modules have."""
    height = a.image_size[0]
    sizes = {"img_resolution": height, "img_channels": a.image_channels, "num_ws": a.num_ws}
    widths = {"z_dim": a.z_dim, "c_dim": a.c_dim, "w_dim": a.w_dim}
    asked = EasyDict(
        **widths,
        img_resolution=height,
        mapping_kwargs=EasyDict(num_layers=a.mapping_layers),
        synthesis_kwargs=EasyDict(num_fp16_res=a.num_fp16_res, conv_clamp=a.conv_clamp),
    )
    generator = persistent("Generator", **widths, **sizes, _init_args=(), _init_kwargs=asked)
    heights = [height for height, _ in a.resolutions]
    synthesis = persistent("SynthesisNetwork", w_dim=a.w_dim, block_resolutions=heights, **sizes)
    generator.add_module("synthesis", synthesis)
    has_noise = any(name.endswith(".noise_const") for name in tensors)
    for i, resolution in enumerate(heights):
        synthesis.add_module(f"b{resolution}", _nvidia_block(a, i, has_noise))
    generator.add_module("mapping", _nvidia_mapping(a))
    _fill(generator, tensors)
    return generator.eval().requires_grad_(False)


def _nvidia_mapping(a: Architecture) -> Persistent:
    mapping = persistent(
        "MappingNetwork",
        **{"z_dim": a.z_dim, "c_dim": a.c_dim, "w_dim": a.w_dim, "num_ws": a.num_ws},
        **{"num_layers": a.mapping_layers, "w_avg_beta": 0.995},
    )
    if a.c_dim:
        mapping.add_module("embed", _nvidia_dense(a.c_dim))
    for i, (fan_in, _) in enumerate(mapping_sizes(a)):
        layer = _nvidia_dense(fan_in, rate=a.mapping_lr_multiplier, activation="lrelu")
        mapping.add_module(f"fc{i}", layer)
    return mapping


def _nvidia_dense(fan_in: int, *, rate: float = 1.0, activation: str = "linear") -> Persistent:
    return persistent(
        "FullyConnectedLayer",
        activation=activation,
        weight_gain=rate / np.sqrt(fan_in),  # a numpy scalar, as there
        bias_gain=rate,
    )


def _nvidia_block(a: Architecture, i: int, has_noise: bool) -> Persistent:
    count, height = len(a.channels), a.resolutions[i][0]
    is_last = i == count - 1
    has_colours = a.synthesis == "skip" or is_last
    inputs = a.channels[i - 1] if i else 0
    in_fp16 = i > 0 and i >= count - a.num_fp16_res
    block = persistent(
        "SynthesisBlock",
        **{"in_channels": inputs, "w_dim": a.w_dim, "resolution": height, "is_last": is_last},
        **{"img_channels": a.image_channels, "architecture": a.synthesis, "square": False},
        **{"use_fp16": in_fp16, "channels_last": in_fp16},
        **{"num_conv": 2 if i else 1, "num_torgb": int(has_colours)},
        resample_filter=literal.BLUR.float(),
    )
    for name in ("conv0", "conv1") if i else ("conv1",):
        block.add_module(name, _nvidia_layer(a, i, has_noise, up=2 if name == "conv0" else 1))
    if has_colours:
        gain = 1 / np.sqrt(a.channels[i])
        colours = persistent("ToRGBLayer", conv_clamp=a.conv_clamp, weight_gain=gain)
        colours.add_module("affine", _nvidia_dense(a.w_dim))
        block.add_module("torgb", colours)
    if a.synthesis == "resnet" and i:
        skip = persistent(
            "Conv2dLayer",
            **{"activation": "linear", "up": 2, "down": 1, "conv_clamp": None, "padding": 0},
            **{"weight_gain": 1 / np.sqrt(inputs), "act_gain": 1.0},
            resample_filter=literal.BLUR.float(),
        )
        skip.register_parameter("bias", None)
        block.add_module("skip", skip)
    return block


def _nvidia_layer(a: Architecture, i: int, has_noise: bool, *, up: int) -> Persistent:
    layer = persistent(
        "SynthesisLayer",
        **{"resolution": a.resolutions[i][0], "up": up, "use_noise": has_noise, "padding": 1},
        **{"activation": "lrelu", "conv_clamp": a.conv_clamp, "act_gain": np.sqrt(2)},
        resample_filter=literal.BLUR.float(),
    )
    layer.add_module("affine", _nvidia_dense(a.w_dim))
    return layer


def _fill(root: Persistent, tensors: Tensors) -> None:
    """Give every module its tensors; kernels of float16 blocks lie in memory as they do there."""
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        module = root.get_submodule(owner)
        if leaf in ("w_avg", "noise_const"):
            module.register_buffer(leaf, tensor)
            continue
        block = root.get_submodule(".".join(owner.split(".")[:2]))
        if tensor.dim() == 4 and getattr(block, "channels_last", False):
            tensor = tensor.to(memory_format=torch.channels_last)
        module.register_parameter(leaf, nn.Parameter(tensor.clone()))


def nvidia_discriminator(a: Architecture) -> Persistent:
    """Enough of one to be seen and ignored."""
    root, draw = persistent("Discriminator", c_dim=a.c_dim, img_channels=a.image_channels), Draw(99)
    for height, _ in reversed(a.resolutions):
        kind = "DiscriminatorBlock" if height > a.base[0] else "DiscriminatorEpilogue"
        block = persistent(kind, resolution=height, architecture="resnet")
        for name in ("fromrgb", "conv0", "conv1", "skip"):
            layer = persistent("Conv2dLayer", activation="lrelu", conv_clamp=a.conv_clamp)
            layer.register_parameter("weight", nn.Parameter(draw.normal(3, 3, 1, 1)))
            block.add_module(name, layer)
        root.add_module(f"b{height}", block)
    return root
