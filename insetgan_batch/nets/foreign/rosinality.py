"""The layout of rosinality's stylegan2-pytorch, both ways.

Layers are numbered, not named by size: `convs.0` and `convs.1` are the two of the second block. It
has no classes, no residual blocks, no clamped activations, and one width for z, w and the mapping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign.outline import (
    Found,
    Settings,
    Tensors,
    check_filter,
    check_finite,
    find,
)
from insetgan_batch.nets.layers import blur_kernel
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2

ANCHOR = "input.input"
ROOTS = ("style", "input", "conv1", "to_rgb1", "convs", "to_rgbs", "noises")

_MOST_BLOCKS = 13
_ASSUMED = "mapping_lr_multiplier: the layout does not say; 0.01, as its own program has it"
_CONV_PARTS = {
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "noise_strength": "noise.weight",
    "bias": "activate.bias",
}
_RGB_PARTS = {
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "bias": "bias",
}


def read(state: Tensors, latent_avg: Tensor | None) -> Found:
    """The generator of a state dict; raises `CheckpointError`."""
    filters = {name for name in state if re.fullmatch(r".+\.(blur|upsample)\.kernel", name)}
    for name in filters:
        check_filter(name, state[name] / 4.0)
    blocks = 1 + _count(state, r"to_rgbs\.(\d+)\.bias")
    if blocks > _MOST_BLOCKS:
        raise CheckpointError(f"found {blocks} blocks, expected {_MOST_BLOCKS} at the most")
    # The base may have any height; `find` renames the blocks after the constant's.
    names = _names([4 << i for i in range(blocks)], _count(state, r"style\.(\d+)\.weight"))
    unknown = sorted(state.keys() - filters - set(names.values()))
    missing = sorted(set(names.values()) - state.keys())
    if missing or unknown:
        what, name = ("is missing", missing[0]) if missing else ("is not known", unknown[0])
        raise CheckpointError(f"not rosinality's layout of StyleGAN2: `{name[:80]}` {what}")
    tensors = {ours: _ours(ours, state[theirs]) for ours, theirs in names.items()}
    if latent_avg is not None:
        check_finite({"latent_avg": latent_avg})
        if latent_avg.dim() not in (1, 2) or not latent_avg.numel():
            raise CheckpointError(f"`latent_avg` has shape {list(latent_avg.shape)}")
        # Encoders keep one for each layer, all the same.
        tensors["mapping.w_avg"] = latent_avg.reshape(-1, latent_avg.shape[-1]).mean(dim=0)
    return find(tensors, Settings(), (_ASSUMED,))


def write(network: StyleGAN2) -> dict[str, Any]:
    """What `torch.save` should get: `g_ema` and `latent_avg`.

    Raises `CheckpointError` for what this layout cannot say.
    """
    architecture = network.architecture
    _check_writable(architecture)
    heights = [height for height, _ in architecture.resolutions]
    ours = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    names = _names(heights, architecture.mapping_layers)
    state = {theirs: _theirs(name, ours[name]) for name, theirs in names.items()}
    for i in range(len(heights) - 1):
        for name in (f"convs.{2 * i}.conv.blur.kernel", f"to_rgbs.{i}.upsample.kernel"):
            state[name] = 4.0 * blur_kernel()
    return {"g_ema": state, "latent_avg": ours["mapping.w_avg"]}


def left_out(architecture: Architecture) -> list[str]:
    """What a written file does not say, one sentence each."""
    clamp = architecture.conv_clamp
    return [] if clamp is None else [f"conv_clamp {clamp:g}: this layout has no clamping"]


def _names(heights: Sequence[int], mapping_layers: int) -> dict[str, str]:
    """Their name of each of our tensors."""
    names = {f"synthesis.b{heights[0]}.const": ANCHOR}
    for i in range(mapping_layers):
        for part in ("weight", "bias"):
            names[f"mapping.fc{i}.{part}"] = f"style.{i + 1}.{part}"
    for i, height in enumerate(heights):
        for k in (0, 1) if i else (1,):
            ours, theirs = (
                f"synthesis.b{height}.conv{k}",
                f"convs.{2 * i - 2 + k}" if i else "conv1",
            )
            names[f"{ours}.noise_const"] = f"noises.noise_{2 * i - 1 + k}"
            names |= {f"{ours}.{part}": f"{theirs}.{name}" for part, name in _CONV_PARTS.items()}
        ours, theirs = f"synthesis.b{height}.torgb", f"to_rgbs.{i - 1}" if i else "to_rgb1"
        names |= {f"{ours}.{part}": f"{theirs}.{name}" for part, name in _RGB_PARTS.items()}
    return names


def _ours(name: str, tensor: Tensor) -> Tensor:
    """In our shape: without the axes of length 1 that their shapes have more."""
    plain, shape = _axes(name), tensor.shape
    kept = shape[plain]
    if kept.numel() != tensor.numel():
        raise CheckpointError(f"the tensor for `{name}` has shape {list(shape)}")
    return tensor.reshape(kept)


def _theirs(name: str, tensor: Tensor) -> Tensor:
    """In their shape."""
    if name.endswith("torgb.bias"):
        return tensor[None, :, None, None]
    for _ in range(_axes(name).start or 0):
        tensor = tensor[None]
    return tensor


def _axes(name: str) -> slice:
    """Which of their axes are ours."""
    if name.endswith("torgb.bias"):
        return slice(1, 2)
    if name.endswith("noise_const"):
        return slice(2, None)
    is_kernel = name.endswith("weight") and ".b" in name and "affine" not in name
    return slice(1 if is_kernel or name.endswith((".const", "noise_strength")) else 0, None)


def _check_writable(architecture: Architecture) -> None:
    cannot = {
        "classes": architecture.c_dim > 0,
        f"`{architecture.synthesis}` synthesis": architecture.synthesis != "skip",
        "z and w of different widths": architecture.z_dim != architecture.w_dim,
        "a mapping of its own width": architecture.layer_features is not None,
        "a mapping learning rate other than 0.01": architecture.mapping_lr_multiplier != 0.01,
        f"{architecture.image_channels} image channels": architecture.image_channels != 3,
    }
    for what, is_so in cannot.items():
        if is_so:
            raise CheckpointError(
                f"this generator has {what}, which rosinality's layout cannot say; use safetensors"
            )


def _count(state: Tensors, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in state)
