"""Tensors by NVIDIA's names → a generator: what their shapes say, and what they must agree on.

The other readers bring their tensors to these names and end here. Shapes say nearly everything; the
rest (`conv_clamp` and so on) comes from the reader, or is assumed and said to be.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.layers import blur_kernel
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from insetgan_batch.text import one_line

Tensors = dict[str, Tensor]

_CONST = re.compile(r"synthesis\.b(\d{1,5})\.const")
_BLOCK = re.compile(r"synthesis\.b(\d{1,5})\.")
_FC = re.compile(r"mapping\.fc(\d{1,3})\.weight")
_FILTER = re.compile(r"synthesis\.(b\d+\.)?((conv[01]|skip)\.)?resample_filter")
# Only StyleGAN3 begins with waves.
_WAVES = "synthesis.input.freqs"
_MOST_BLOCKS = 13
_MOST_LAYERS = 64
# Of what a file without noise constants does not hold: some more than for 4096x4096 pixels.
_MOST_SILENT_NUMBERS = 1 << 26
_SHOWN = 3
# For the average of w where a file has none: the mean of this many latents.
_AVERAGED = 65_536


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A generator in a file.

    tensors: by the names of `StyleGAN2.state_dict`, float32; `mapping.w_avg` may be missing.
    assumed: what the file does not say, one sentence each.
    """

    architecture: Architecture
    tensors: Tensors
    assumed: tuple[str, ...]

    def build(self) -> StyleGAN2:
        """The network, its weights fixed."""
        with torch.device("meta"):
            network = StyleGAN2(self.architecture)
        tensors = dict(self.tensors)
        has_average = tensors.setdefault("mapping.w_avg", torch.zeros(self.architecture.w_dim))
        network.load_state_dict(tensors, assign=True)
        if "mapping.w_avg" not in self.tensors:
            has_average.copy_(_average_w(network))
        return network.freeze()


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What shapes do not say; the defaults are those of every published generator."""

    conv_clamp: float | None = None
    mapping_lr_multiplier: float = 0.01
    label_norm: Literal["separate", "joint"] = "separate"
    num_fp16_res: int = 0


def find(tensors: Tensors, settings: Settings, assumed: tuple[str, ...] = ()) -> Found:
    """The generator of these tensors; raises `CheckpointError` where they are not one."""
    tensors = _with_plain_names(tensors)
    for name in [name for name in tensors if _FILTER.fullmatch(name)]:
        check_filter(name, tensors.pop(name))
    _check_places(tensors)
    try:
        architecture = _architecture(tensors, settings)
        with torch.device("meta"):
            expected = StyleGAN2(architecture).state_dict()
    except (KeyError, IndexError, ValueError, RuntimeError) as err:
        what = f"no {err}" if isinstance(err, KeyError) else one_line(err)
        raise CheckpointError(
            f"the tensors are not those of a StyleGAN2 generator: {what[:200]}"
        ) from err
    tensors |= _silent_noise(tensors, expected)
    _check(tensors, expected)
    if "mapping.w_avg" not in tensors:
        assumed += (f"w_avg: the file has none; measured over {_AVERAGED:,} latents of seed 0",)
    return Found(architecture, {name: _own(tensor) for name, tensor in tensors.items()}, assumed)


def check_generation(names: Iterable[str]) -> None:
    """Raises `CheckpointError` for the tensors of a StyleGAN3 generator."""
    if any(name.endswith(_WAVES) for name in names):
        raise CheckpointError(f"found a StyleGAN3 generator (`{_WAVES}`), expected StyleGAN2")


def number(name: str, value: Any) -> float:
    """A number as a file has it; raises `CheckpointError` for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and abs(value) < 1e9):
        raise CheckpointError(f"found {name} {shown(value)}, expected a number")
    return float(value)


def shown(value: Any) -> str:
    """A value of a file, for people. Only what is short for sure: few bytes can describe a tuple
    that is written down for ever.
    """
    if isinstance(value, str):
        return repr(value[:40])
    if value is None or isinstance(value, bool | float):
        return repr(value)
    is_small = isinstance(value, int) and abs(value) < 1e20
    return repr(value) if is_small else f"a {type(value).__name__}"


def _with_plain_names(tensors: Tensors) -> Tensors:
    """Blocks named by their height, as it follows from the constant; other programs count in powers
    of two also where the base is not 4.
    """
    consts = [match for name in tensors if (match := _CONST.fullmatch(name))]
    if len(consts) != 1 or tensors[consts[0][0]].dim() != 3:
        raise CheckpointError(
            "found no StyleGAN2 generator: expected one `synthesis.b4.const` [C H W] among"
            f" {_some(sorted(tensors))}"
        )
    found = {int(match[1]) for name in tensors if (match := _BLOCK.match(name))}
    if len(found) > _MOST_BLOCKS:
        raise CheckpointError(f"found {len(found)} blocks, expected {_MOST_BLOCKS} at the most")
    base = tensors[consts[0][0]].shape[1]
    heights = {height: base << i for i, height in enumerate(sorted(found))}
    return {
        _BLOCK.sub(lambda match: f"synthesis.b{heights[int(match[1])]}.", name): tensor
        for name, tensor in tensors.items()
    }


def _architecture(tensors: Tensors, settings: Settings) -> Architecture:
    """Raises `KeyError` with the name of a tensor that is missing, or `ValueError`."""
    heights = sorted({int(match[1]) for name in tensors if (match := _BLOCK.match(name))})
    layers = sorted(int(match[1]) for name in tensors if (match := _FC.fullmatch(name)))
    if len(layers) > _MOST_LAYERS:
        raise ValueError(f"found {len(layers)} mapping layers, expected {_MOST_LAYERS} at the most")
    const = tensors[f"synthesis.b{heights[0]}.const"]
    first, last = tensors["mapping.fc0.weight"], tensors[f"mapping.fc{len(layers) - 1}.weight"]
    embed = tensors.get("mapping.embed.weight")
    w_dim, hidden = last.shape[0], first.shape[0]
    embed_features, c_dim = (0, 0) if embed is None else embed.shape
    return Architecture(
        base=(const.shape[1], const.shape[2]),
        channels=tuple(tensors[f"synthesis.b{height}.conv1.weight"].shape[0] for height in heights),
        z_dim=first.shape[1] - embed_features,
        w_dim=w_dim,
        mapping_layers=len(layers),
        mapping_lr_multiplier=settings.mapping_lr_multiplier,
        image_channels=tensors[f"synthesis.b{heights[-1]}.torgb.weight"].shape[0],
        conv_clamp=settings.conv_clamp,
        c_dim=c_dim,
        layer_features=None if hidden == w_dim else hidden,
        embed_features=None if embed_features in (0, w_dim) else embed_features,
        label_norm=settings.label_norm,
        synthesis=_synthesis(tensors, heights),
        num_fp16_res=settings.num_fp16_res,
    )


def _synthesis(tensors: Tensors, heights: list[int]) -> Literal["skip", "resnet", "orig"]:
    """Which of the three, told by the layers that only it has."""
    if f"synthesis.b{heights[-1]}.skip.weight" in tensors:
        return "resnet"
    return "skip" if f"synthesis.b{heights[0]}.torgb.weight" in tensors else "orig"


def check_filter(name: str, kernel: Tensor) -> None:
    """All resampling is done with [1 3 3 1]; `CheckpointError` for a file with another filter."""
    expected = blur_kernel()
    if kernel.shape != expected.shape or not (kernel.float() - expected).abs().max() < 1e-4:
        raise CheckpointError(f"`{name}` is not the filter [1 3 3 1], the only one known here")


def _silent_noise(tensors: Tensors, expected: Tensors) -> Tensors:
    """A network built without noise is one whose noise has strength 0."""
    if any(".noise_" in name for name in tensors):
        return {}
    missing = {name: tensor.shape for name, tensor in expected.items() if ".noise_" in name}
    if sum(shape.numel() for shape in missing.values()) > _MOST_SILENT_NUMBERS:
        raise CheckpointError("found a generator without noise constants that paints huge images")
    return {name: torch.zeros(shape) for name, shape in missing.items()}


def _check_places(tensors: Tensors) -> None:
    """No number of the file stands in two tensors: few bytes must not become many."""
    storages = [tensor.untyped_storage() for tensor in tensors.values()]
    held_bytes = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if sum(tensor.nbytes for tensor in tensors.values()) > held_bytes:
        raise CheckpointError("the same numbers are used for several tensors; expected own ones")


def _own(tensor: Tensor) -> Tensor:
    """In memory of its own, so that all else of a file can go."""
    return tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _check(tensors: Tensors, expected: Tensors) -> None:
    """Nothing missing, nothing over, every shape as expected, every number finite."""
    missing = sorted(expected.keys() - tensors.keys() - {"mapping.w_avg"})
    unknown = sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        parts = [f"missing {_some(missing)}"] * bool(missing)
        parts += [f"unknown {_some(unknown)}"] * bool(unknown)
        raise CheckpointError(f"not the tensors of a StyleGAN2 generator: {', '.join(parts)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"`{name}` has shape {list(tensor.shape)}, expected {list(expected[name].shape)}"
            )
    check_finite(tensors)


def check_finite(tensors: Tensors) -> None:
    """Raises `CheckpointError` where a tensor holds whole numbers, an infinity or NaN."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise CheckpointError(f"`{name}` is not all finite numbers")


def _average_w(network: StyleGAN2) -> Tensor:
    """The mean of w `[c]` over latents of seed 0, and over all classes where there are some."""
    source = torch.Generator().manual_seed(0)
    architecture = network.architecture
    total = torch.zeros(architecture.w_dim, dtype=torch.float64)
    batch = 4096
    with torch.no_grad():
        for _ in range(_AVERAGED // batch):
            z = torch.randn(batch, architecture.z_dim, generator=source)
            c = None
            if architecture.c_dim:
                labels = torch.randint(architecture.c_dim, (batch,), generator=source)
                c = torch.nn.functional.one_hot(labels, architecture.c_dim).float()
            total += network.mapping(z, c).sum(dim=0, dtype=torch.float64)
    return (total / _AVERAGED).float()


def _some(names: list[str]) -> str:
    shown = ", ".join(f"`{name[:60]}`" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (shown or "nothing") + more
