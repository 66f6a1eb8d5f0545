"""Networks as NVIDIA's TensorFlow code pickles them → a generator.

Differences to the PyTorch layout: kernels are [h w in out], the kernel of an upsampling convolution
is flipped, the 1 that is added to every style is not in the stored bias, and the first version does
not normalise z and the embedded label each by itself but as one vector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign.names import Array, Record
from insetgan_batch.nets.foreign.outline import Found, Settings, Tensors, find, number, shown
from insetgan_batch.text import one_line

# Networks may hold each other. A generator has two components, which have none, and some 150
# variables.
_DEEPEST = 2
_MOST_COMPONENTS = 8
_MOST_VARIABLES = 1000
_LAYER = re.compile(r"synthesis/(\d{1,5})x(\d{1,5})/(Conv|Conv0_up|Conv1|ToRGB|Skip)/(\w+)")
_LAST_RGB = re.compile(r"synthesis/ToRGB_lod(\d{1,2})/(\w+)")
_NOISE = re.compile(r"synthesis/noise(\d{1,3})")
_DENSE = re.compile(r"mapping/(Dense\d{1,3}|LabelEmbed)/(weight|bias)")
_MODULES = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}
# What changes the arithmetic, and the one value that is known.
_KNOWN_KWARGS = {
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "normalize_latents": True,
}


def is_generator(record: Record) -> bool:
    """Whether a network has the two parts of a generator."""
    components = record.state.get("components")
    return isinstance(components, dict) and {"mapping", "synthesis"} <= components.keys()


def read(record: Record) -> Found:
    """The generator of a network; raises `CheckpointError`."""
    kwargs = record.state.get("static_kwargs")
    if not isinstance(kwargs, dict):
        raise CheckpointError("found a TensorFlow network without `static_kwargs`")
    _check_kwargs(kwargs)
    arrays = dict(_variables(record, "", 0))
    _check_places(arrays)
    try:
        tensors = _tensors(arrays)
    except (LookupError, ValueError, RuntimeError, TypeError, OverflowError) as err:
        raise CheckpointError(
            f"the variables are not those of a StyleGAN2 generator: {one_line(err, 200)}"
        ) from err
    clamp, halves = kwargs.get("conv_clamp"), kwargs.get("num_fp16_res")
    is_joint = "mapping/LabelConcat/weight" in arrays
    settings = Settings(
        conv_clamp=None if clamp is None else number("conv_clamp", clamp),
        mapping_lr_multiplier=number("mapping_lrmul", kwargs.get("mapping_lrmul", 0.01)),
        label_norm="joint" if is_joint else "separate",
        num_fp16_res=0 if halves is None else int(number("num_fp16_res", halves)),
    )
    return find(tensors, settings)


def _check_kwargs(kwargs: dict[str, Any]) -> None:
    for name, known in _KNOWN_KWARGS.items():
        found = kwargs.get(name, known)
        if type(found) is not type(known) or found != known:
            raise CheckpointError(f"found {name}={shown(found)}, expected {known!r}")
    taps = kwargs.get("resample_kernel", [1, 3, 3, 1])
    if taps is None:
        return
    are_numbers = isinstance(taps, list | tuple) and len(taps) == 4
    if not are_numbers or [number("resample_kernel", tap) for tap in taps] != [1, 3, 3, 1]:
        raise CheckpointError("found another resample_kernel, expected [1, 3, 3, 1]")


def _check_places(arrays: dict[str, np.ndarray]) -> None:
    """No number of the file stands in two arrays: few bytes must not become many."""
    # Python keeps each single byte only once.
    places = [array.ctypes.data for array in arrays.values() if array.nbytes > 1]
    if len(set(places)) < len(places):
        raise CheckpointError("the same numbers are used for several variables; expected own ones")


def _variables(record: Record, prefix: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    """All variables of a network and of its components, by their full names."""
    variables, components = record.state.get("variables"), record.state.get("components")
    if depth > _DEEPEST or not (isinstance(variables, list) and isinstance(components, dict)):
        raise CheckpointError("found a TensorFlow network without `variables` and `components`")
    if len(variables) > _MOST_VARIABLES or len(components) > _MOST_COMPONENTS:
        raise CheckpointError("found a TensorFlow network with more than a generator has")
    for entry in variables:
        if not (isinstance(entry, tuple | list) and len(entry) == 2):
            raise CheckpointError("found a variable that is not a pair of name and array")
        name, array = entry
        if isinstance(name, str) and isinstance(array, Array):
            yield prefix + name, array.value
        elif isinstance(name, str) and isinstance(array, int | float):
            yield prefix + name, np.asarray(array)  # a variable without axes is a plain number
    for name, component in components.items():
        if isinstance(component, Record):
            yield from _variables(component, f"{prefix}{name}/", depth + 1)


def _tensors(arrays: dict[str, np.ndarray]) -> Tensors:
    """By this package's names; what only training needs is left out."""
    sizes = sorted({int(m[1]) for name in arrays if (m := _LAYER.fullmatch(name))})
    tensors: Tensors = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore", invalid="ignore"):  # `find` refuses infinities
            value = torch.from_numpy(array.astype(np.float32))
        if match := _LAYER.fullmatch(name):
            tensors.update(_layer(f"synthesis.b{match[1]}", match[3], match[4], value))
        elif match := _LAST_RGB.fullmatch(name):
            # One for each resolution that training went through; only the last one paints.
            if int(match[1]) == 0:
                tensors.update(_layer(f"synthesis.b{sizes[-1]}", "ToRGB", match[2], value))
        elif match := _NOISE.fullmatch(name):
            # noise0 belongs to the base, then two to each block.
            index = int(match[1])
            height = sizes[min((index + 1) // 2, len(sizes) - 1)]
            conv = "conv0" if index % 2 else "conv1"
            tensors[f"synthesis.b{height}.{conv}.noise_const"] = value.squeeze(0).squeeze(0)
        elif match := _DENSE.fullmatch(name):
            module = match[1].replace("LabelEmbed", "embed").replace("Dense", "fc")
            tensors[f"mapping.{module}.{match[2]}"] = value.t()
        elif name == "mapping/LabelConcat/weight":
            # Used as it is; the embedding divides by the root of the number of classes.
            tensors["mapping.embed.weight"] = value.t() * math.sqrt(value.shape[0])
            tensors["mapping.embed.bias"] = value.new_zeros(value.shape[-1])
        elif re.fullmatch(r"synthesis/\d+x\d+/Const/const", name):
            tensors[f"synthesis.b{sizes[0]}.const"] = value.squeeze(0)
        elif name == "dlatent_avg":
            tensors["mapping.w_avg"] = value
        elif name not in ("lod", "synthesis/lod"):
            raise CheckpointError(f"found a variable `{name[:80]}` that no StyleGAN2 generator has")
    return tensors


def _layer(block: str, layer: str, variable: str, value: Tensor) -> Tensors:
    """One variable of a convolution."""
    if layer == "Skip" and variable == "weight":
        return {f"{block}.skip.weight": value.permute(3, 2, 0, 1)}
    module = f"{block}.{_MODULES.get(layer, layer)}"
    if variable == "weight":
        kernel = value.flip(0, 1) if layer == "Conv0_up" else value
        return {f"{module}.weight": kernel.permute(3, 2, 0, 1)}
    if variable == "mod_weight":
        return {f"{module}.affine.weight": value.t()}
    if variable == "mod_bias":
        return {f"{module}.affine.bias": value + 1.0}
    return {f"{module}.{variable}": value}
