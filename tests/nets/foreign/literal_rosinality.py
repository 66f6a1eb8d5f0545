"""What a rosinality file paints, in its own conventions: names of its layers, gains before
demodulation, the blur kernels that the file carries. Torch, float64, one image at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = Mapping[str, Tensor]

EPSILON = 1e-8
MAPPING_RATE = 0.01


def map_to_latents(tensors: Tensors, z: Tensor) -> Tensor:
    """z `[n z]` to latents `[n c]`; layer 0 is the pixel norm."""
    x = z.double()
    x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)
    layer = 1
    while f"style.{layer}.weight" in tensors:
        weight, bias = (tensors[f"style.{layer}.{part}"].double() for part in ("weight", "bias"))
        x = x @ (weight * (MAPPING_RATE / math.sqrt(weight.shape[1]))).T
        x = F.leaky_relu(x + bias * MAPPING_RATE, 0.2) * math.sqrt(2)
        layer += 1
    return x


def paint(tensors: Tensors, latents: Tensor) -> Tensor:
    """latents `[n l c]` to images `[n colours H W]`, with the registered noises."""
    double = {name: tensor.double() for name, tensor in tensors.items()}
    return torch.stack([_paint_one(double, latent.double()) for latent in latents])


def _paint_one(t: Tensors, latent: Tensor) -> Tensor:
    x = _styled(t, "conv1", t["input.input"], latent[0], t["noises.noise_0"])
    image = _to_rgb(t, "to_rgb1", x, latent[1])
    block = 0
    while f"to_rgbs.{block}.bias" in t:
        first, second = 2 * block, 2 * block + 1
        for layer in (first, second):
            noise = t[f"noises.noise_{layer + 1}"]
            x = _styled(t, f"convs.{layer}", x, latent[layer + 1], noise)
        colours = _to_rgb(t, f"to_rgbs.{block}", x, latent[second + 2])
        image = _upsample(image, t[f"to_rgbs.{block}.upsample.kernel"]) + colours
        block += 1
    return image[0]


def _styled(t: Tensors, name: str, x: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
    weight = _modulated(t, f"{name}.conv", latent)
    weight = weight * torch.rsqrt(weight.square().sum(dim=(1, 2, 3), keepdim=True) + EPSILON)
    kernel = t.get(f"{name}.conv.blur.kernel")
    if kernel is None:
        x = F.conv2d(x, weight, padding=1)
    else:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        x = _filter(F.pad(x, (1, 1, 1, 1)), kernel)
    x = x + t[f"{name}.noise.weight"] * noise + t[f"{name}.activate.bias"][:, None, None]
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _to_rgb(t: Tensors, name: str, x: Tensor, latent: Tensor) -> Tensor:
    return F.conv2d(x, _modulated(t, f"{name}.conv", latent)) + t[f"{name}.bias"]


def _modulated(t: Tensors, name: str, latent: Tensor) -> Tensor:
    """The scaled weight `[o i k k]` times the style of its input channels."""
    affine = t[f"{name}.modulation.weight"]
    style = affine @ latent / math.sqrt(affine.shape[1]) + t[f"{name}.modulation.bias"]
    weight = t[f"{name}.weight"][0]
    return weight / math.sqrt(weight[0].numel()) * style[:, None, None]


def _upsample(image: Tensor, kernel: Tensor) -> Tensor:
    _, channels, height, width = image.shape
    sparse = image.new_zeros(1, channels, 2 * height, 2 * width)
    sparse[:, :, ::2, ::2] = image
    return _filter(F.pad(sparse, (2, 1, 2, 1)), kernel)


def _filter(x: Tensor, kernel: Tensor) -> Tensor:
    kernels = kernel.flip(0, 1).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernels, groups=x.shape[1])
