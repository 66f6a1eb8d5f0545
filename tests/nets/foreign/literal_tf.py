"""What a TensorFlow file paints, in its own conventions: numpy, float64, loops over taps.

Kernels are `[kh kw in out]`, features `[c h w]`, styles have no 1 in their stored bias, and every
weight is multiplied by its runtime gain before it is modulated and demodulated. Variables have the
names that the two sub-networks `mapping` and `synthesis` give them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Variables = Mapping[str, Array]

EPSILON = 1e-8
TAPS = np.array([1.0, 3.0, 3.0, 1.0])
# A convolution of the zero-filled image, so the kernel sums to 4.
BLUR = 4 * np.outer(TAPS, TAPS) / 64


def map_to_dlatents(
    variables: Variables, options: Mapping[str, Any], z: Array, labels: Array | None = None
) -> Array:
    """z `[n z]` and labels `[n label_size]` to dlatents `[n c]`."""
    v = {name: value.astype(np.float64) for name, value in variables.items()}
    x = z.astype(np.float64)
    if labels is None:
        x = _normalise(x)
    elif "LabelConcat/weight" in v:  # the first version
        x = _normalise(np.concatenate([x, labels @ v["LabelConcat/weight"]], axis=1))
    else:
        weight = v["LabelEmbed/weight"]
        embedded = labels @ (weight / math.sqrt(len(weight))) + v["LabelEmbed/bias"]
        x = np.concatenate([_normalise(x), _normalise(embedded)], axis=1)
    rate = options.get("mapping_lrmul", 0.01)
    layer = 0
    while f"Dense{layer}/weight" in v:
        weight, bias = v[f"Dense{layer}/weight"], v[f"Dense{layer}/bias"]
        x = _activate(x @ (weight * (rate / math.sqrt(len(weight)))) + bias * rate)
        layer += 1
    return x


def paint(variables: Variables, options: Mapping[str, Any], dlatents: Array) -> Array:
    """dlatents `[n l c]` to images `[n colours H W]`, with the constant noise."""
    v = {name: value.astype(np.float64) for name, value in variables.items()}
    clamp = options.get("conv_clamp") or math.inf
    return np.stack([_paint_one(v, options, w.astype(np.float64), clamp) for w in dlatents])


def _paint_one(v: Variables, options: Mapping[str, Any], ws: Array, clamp: float) -> Array:
    log2 = max(int(math.log2(int(name.split("x")[0]))) for name in v if name[0].isdigit())
    architecture = options.get("architecture", "skip")
    x = _layer(v, "4x4/Conv", v["4x4/Const/const"][0], ws[0], v["noise0"], clamp)
    image = _colours(v, "4x4/ToRGB", x, ws[1], clamp) if architecture == "skip" else None
    for k in range(3, log2 + 1):
        scope = f"{2**k}x{2**k}"
        before = x
        noise, more = v[f"noise{2 * k - 5}"], v[f"noise{2 * k - 4}"]
        x = _layer(v, f"{scope}/Conv0_up", x, ws[2 * k - 5], noise, clamp, up=True)
        x = _layer(v, f"{scope}/Conv1", x, ws[2 * k - 4], more, clamp)
        if architecture == "resnet":
            kernel = v[f"{scope}/Skip/weight"] / math.sqrt(len(before))
            x = (x + _upsample_conv(before, kernel)) / math.sqrt(2)
        if architecture == "skip":
            assert image is not None
            colours = _colours(v, f"{scope}/ToRGB", x, ws[2 * k - 3], clamp)
            image = _upsample(image) + colours
    if image is None:
        name = "ToRGB_lod0" if "ToRGB_lod0/weight" in v else f"{2**log2}x{2**log2}/ToRGB"
        image = _colours(v, name, x, ws[2 * log2 - 3], clamp)
    return image


def _layer(
    v: Variables, name: str, x: Array, w: Array, noise: Array, clamp: float, *, up: bool = False
) -> Array:
    kernel = _modulated(v, name, w)
    kernel = kernel / np.sqrt((kernel**2).sum(axis=(0, 1, 2)) + EPSILON)
    x = _upsample_conv(x, kernel) if up else _correlate(x, kernel)
    x = x + noise[0, 0] * v[f"{name}/noise_strength"] + v[f"{name}/bias"][:, None, None]
    return np.clip(_activate(x), -clamp, clamp)


def _colours(v: Variables, name: str, x: Array, w: Array, clamp: float) -> Array:
    x = _correlate(x, _modulated(v, name, w)) + v[f"{name}/bias"][:, None, None]
    return np.clip(x, -clamp, clamp)


def _modulated(v: Variables, name: str, w: Array) -> Array:
    style = w @ (v[f"{name}/mod_weight"] / math.sqrt(len(w))) + v[f"{name}/mod_bias"] + 1
    weight = v[f"{name}/weight"]
    gain = 1 / math.sqrt(math.prod(weight.shape[:3]))
    modulated: Array = weight * gain * style[:, None]
    return modulated


def _correlate(x: Array, kernel: Array) -> Array:
    """The same height and width, zeros outside; the kernel is not flipped."""
    size = kernel.shape[0]
    height, width = x.shape[1:]
    padded = _pad(x, size // 2, size // 2)
    total = np.zeros((kernel.shape[3], height, width))
    for ky in range(size):
        for kx in range(size):
            seen = padded[:, ky : ky + height, kx : kx + width]
            total += np.einsum("ihw,io->ohw", seen, kernel[ky, kx])
    return total


def _upsample_conv(x: Array, kernel: Array) -> Array:
    """Twice the size: the flipped kernel is scattered, out[2 i + k] += x[i] w[k], and blurred."""
    kernel = kernel[::-1, ::-1]
    size = kernel.shape[0]
    height, width = x.shape[1:]
    scattered = np.zeros((kernel.shape[3], 2 * height - 2 + size, 2 * width - 2 + size))
    for ky in range(size):
        for kx in range(size):
            target = scattered[:, ky : ky + 2 * height - 1 : 2, kx : kx + 2 * width - 1 : 2]
            target += np.einsum("ihw,io->ohw", x, kernel[ky, kx])
    # The blur takes 3 pixels, and the result has 2 h.
    padding = 5 - size
    return _blur(_pad(scattered, padding - padding // 2, padding // 2))


def _upsample(image: Array) -> Array:
    return _upsample_conv(image, np.eye(len(image))[None, None])


def _blur(x: Array) -> Array:
    height, width = x.shape[1] - 3, x.shape[2] - 3
    total = np.zeros((len(x), height, width))
    for ky in range(4):
        for kx in range(4):
            total += BLUR[ky, kx] * x[:, ky : ky + height, kx : kx + width]
    return total


def _pad(x: Array, before: int, behind: int) -> Array:
    return np.pad(x, ((0, 0), (before, behind), (before, behind)))


def _normalise(x: Array) -> Array:
    normalised: Array = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + EPSILON)
    return normalised


def _activate(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x) * math.sqrt(2)
