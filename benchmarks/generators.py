"""Forward and backward pass of the synthesis, against the formulation that published codes run.

    python benchmarks/generators.py [--sizes 256,1024] [--repeats 5]

The literal formulation makes one kernel per image (modulated, demodulated, a grouped convolution),
blurs with a depthwise filter, upsamples colours by inserting zeros, and computes gradients of the
weights too, since nothing tells it not to. Both paint the same images (checked first); they take
turns, and the fastest time of each counts. Prints a table and one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable

import surroundings
import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.nets.devices import best_device
from insetgan_batch.nets.layers import blur_kernel
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2

Weights = dict[str, Tensor]
_TOLERANCE = 1e-4


def main() -> None:
    """Measure every size and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="256,1024", help="heights of square generators")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = best_device()
    print(f"{'size':>5} {'formulation':34} {'forward ms':>10} {'backward ms':>11} {'both':>8}")
    rows = []
    for size in map(int, arguments.sizes.split(",")):
        times = measure(size, arguments.repeats, device)
        literal = sum(times["literal, with gradients of weights"])
        for name, (forward_s, backward_s) in times.items():
            rows.append(
                {
                    "size": size,
                    "formulation": name,
                    "forward_ms": round(1e3 * forward_s, 1),
                    "backward_ms": round(1e3 * backward_s, 1),
                    "backward_by_forward": round(backward_s / forward_s, 2),
                    "speedup": round(literal / (forward_s + backward_s), 2),
                }
            )
            print(
                f"{size:5} {name:34} {1e3 * forward_s:10.1f} {1e3 * backward_s:11.1f}"
                f" {rows[-1]['speedup']:7.2f}x"
            )
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts = {"device": where, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"rows": rows, "batch": 1} | facts | surroundings.describe()))


def measure(size: int, repeats: int, device: torch.device) -> dict[str, tuple[float, float]]:
    """(forward, backward) seconds of each formulation, full channels, one image."""
    heights = [4 << i for i in range(int(math.log2(size)) - 1)]
    torch.manual_seed(0)
    network = StyleGAN2(Architecture((4, 4), tuple(min(32768 // h, 512) for h in heights)))
    weights = {
        name: tensor.detach().clone().to(device) for name, tensor in network.state_dict().items()
    }
    learned = {
        name: w.clone().requires_grad_() for name, w in weights.items() if "noise" not in name
    }
    ws = torch.randn(1, network.architecture.num_ws, 512, device=device, requires_grad=True)
    network.to(device).freeze()
    low_precision = network.in_precision(torch.bfloat16, len(heights))
    formulations: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: _paint(network, ws),
        "ours, all of it in bfloat16": lambda: _paint(low_precision, ws),
        "literal": lambda: paint_literally(weights, heights, ws),
        "literal, with gradients of weights": lambda: paint_literally(
            weights | learned, heights, ws
        ),
    }
    inputs = {name: [ws] for name in formulations}
    inputs["literal, with gradients of weights"] = [ws, *learned.values()]
    _check(formulations["ours"](), formulations["literal"]())
    best = dict.fromkeys(formulations, (math.inf, math.inf))
    for _ in range(repeats + 1):  # the first time warms up
        for name, paint in formulations.items():
            forward_s, backward_s = _time(paint, inputs[name], device)
            best[name] = min(best[name][0], forward_s), min(best[name][1], backward_s)
    return best


def _paint(network: StyleGAN2, ws: Tensor) -> Tensor:
    image: Tensor = network.synthesis(ws)
    return image


def _check(found: Tensor, expected: Tensor) -> None:
    difference = float(((found - expected).abs().max() / expected.abs().max()).detach())
    if difference > _TOLERANCE:
        raise SystemExit(f"the formulations differ by {difference:.2g}: nothing was measured")


def _time(
    paint: Callable[[], Tensor], inputs: list[Tensor], device: torch.device
) -> tuple[float, float]:
    started = _now(device)
    image = paint()
    painted = _now(device)
    torch.autograd.grad(image.sum(), inputs, allow_unused=True)
    return painted - started, _now(device) - painted


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# The literal formulation


def paint_literally(weights: Weights, heights: list[int], ws: Tensor) -> Tensor:
    """The image `[n 3 H W]` of ws `[n l c]`: weights are modulated, not activations."""
    x = weights["synthesis.b4.const"].expand(len(ws), -1, -1, -1)
    x = _styled(weights, "synthesis.b4.conv1", x, ws[:, 0], upsample=False)
    image = _convolved(weights, "synthesis.b4.torgb", x, ws[:, 1], demodulate=False)
    for i, height in enumerate(heights[1:]):
        block = f"synthesis.b{height}"
        x = _styled(weights, f"{block}.conv0", x, ws[:, 2 * i + 1], upsample=True)
        x = _styled(weights, f"{block}.conv1", x, ws[:, 2 * i + 2], upsample=False)
        rgb = _convolved(weights, f"{block}.torgb", x, ws[:, 2 * i + 3], demodulate=False)
        image = _upsampled(image) + rgb + weights[f"{block}.torgb.bias"][:, None, None]
    return image


def _styled(weights: Weights, name: str, x: Tensor, w: Tensor, *, upsample: bool) -> Tensor:
    x = _convolved(weights, name, x, w, demodulate=True, upsample=upsample)
    x = x + weights[f"{name}.noise_const"] * weights[f"{name}.noise_strength"]
    return F.leaky_relu(x + weights[f"{name}.bias"][:, None, None], 0.2) * math.sqrt(2)


def _convolved(
    weights: Weights, name: str, x: Tensor, w: Tensor, *, demodulate: bool, upsample: bool = False
) -> Tensor:
    n, channels_in, height, width = x.shape
    affine, weight = weights[f"{name}.affine.weight"], weights[f"{name}.weight"]
    style = w @ (affine / math.sqrt(affine.shape[1])).T + weights[f"{name}.affine.bias"]
    gain = 1.0 if demodulate else 1.0 / math.sqrt(channels_in)
    kernels = weight[None] * (style * gain)[:, None, :, None, None]
    if demodulate:
        kernels = kernels * (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x, size = x.reshape(1, n * channels_in, height, width), weight.shape[-1]
    if not upsample:
        x = F.conv2d(x, kernels.flatten(0, 1), padding=size // 2, groups=n)
        return x.reshape(n, -1, height, width)
    x = F.conv_transpose2d(x, kernels.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    return _filtered(x.reshape(n, -1, *x.shape[2:]), (1, 1, 1, 1))


def _upsampled(image: Tensor) -> Tensor:
    n, channels, height, width = image.shape
    sparse = image.new_zeros(n, channels, height, 2, width, 2)
    sparse[:, :, :, 0, :, 0] = image
    return _filtered(sparse.reshape(n, channels, 2 * height, 2 * width), (2, 1, 2, 1))


def _filtered(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    kernel = (4.0 * blur_kernel()).to(x).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, padding), kernel, groups=x.shape[1])


if __name__ == "__main__":
    main()
