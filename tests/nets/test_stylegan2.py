"""The generator against the equations, written down a second time: slowly, and one image at a time.

The second writing follows the paper's order (weights are modulated, a transposed convolution is
blurred, RGB images are upsampled by inserting zeros), in float64, with nothing fused.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from tests.conftest import random_generator

Weights = dict[str, Tensor]

BLUR = torch.outer(torch.tensor([1, 3, 3, 1]), torch.tensor([1, 3, 3, 1])).double() / 64


def architecture(base: tuple[int, int] = (4, 2), clamp: float | None = None) -> Architecture:
    """Channels differ from block to block, so that no axis can stand in for another."""
    return Architecture(base, (5, 4, 6, 3), z_dim=6, w_dim=7, mapping_layers=3, conv_clamp=clamp)


def random_ws(generator: StyleGAN2, count: int = 3, seed: int = 7) -> Tensor:
    shape = (count, generator.architecture.num_ws, generator.architecture.w_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The equations


def map_literally(generator: StyleGAN2, z: Tensor) -> Tensor:
    weights = {key: value.double() for key, value in generator.state_dict().items()}
    rate = generator.architecture.mapping_lr_multiplier
    x = z.double() / (z.double().square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for i in range(generator.architecture.mapping_layers):
        weight, bias = weights[f"mapping.fc{i}.weight"], weights[f"mapping.fc{i}.bias"]
        x = activate(x @ (weight * rate / math.sqrt(weight.shape[1])).T + bias * rate)
    return x


def paint_literally(generator: StyleGAN2, ws: Tensor, blocks: int | None = None) -> Tensor:
    weights = {key: value.double() for key, value in generator.state_dict().items()}
    heights = [height for height, _ in generator.architecture.resolutions][:blocks]
    clamp = generator.architecture.conv_clamp or math.inf
    return torch.stack([_paint_one(weights, heights, w, clamp) for w in ws.double()])


def _paint_one(weights: Weights, heights: list[int], ws: Tensor, clamp: float) -> Tensor:
    block = f"synthesis.b{heights[0]}"
    x = _styled(weights, f"{block}.conv1", weights[f"{block}.const"], ws[0], False, clamp)
    image = _to_rgb(weights, f"{block}.torgb", x, ws[1], clamp)
    for i, height in enumerate(heights[1:]):
        block = f"synthesis.b{height}"
        x = _styled(weights, f"{block}.conv0", x, ws[2 * i + 1], True, clamp)
        x = _styled(weights, f"{block}.conv1", x, ws[2 * i + 2], False, clamp)
        image = _upsample(image) + _to_rgb(weights, f"{block}.torgb", x, ws[2 * i + 3], clamp)
    return image


def _styled(weights: Weights, name: str, x: Tensor, w: Tensor, up: bool, clamp: float) -> Tensor:
    style = _affine(weights, name, w)
    weight = weights[f"{name}.weight"] * style[None, :, None, None]
    weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
    if up:
        doubled = F.conv_transpose2d(x[None], weight.transpose(0, 1), stride=2)
        x = _filter(F.pad(doubled, (1, 1, 1, 1)), 4 * BLUR)[0]
    else:
        x = F.conv2d(x[None], weight, padding=1)[0]
    x = x + weights[f"{name}.noise_const"] * weights[f"{name}.noise_strength"]
    return activate(x + weights[f"{name}.bias"][:, None, None]).clamp(-clamp, clamp)


def _to_rgb(weights: Weights, name: str, x: Tensor, w: Tensor, clamp: float) -> Tensor:
    style = _affine(weights, name, w) / math.sqrt(x.shape[0])
    weight = weights[f"{name}.weight"] * style[None, :, None, None]
    return (F.conv2d(x[None], weight)[0] + weights[f"{name}.bias"][:, None, None]).clamp(
        -clamp, clamp
    )


def _affine(weights: Weights, name: str, w: Tensor) -> Tensor:
    weight = weights[f"{name}.affine.weight"]
    return weight @ w / math.sqrt(weight.shape[1]) + weights[f"{name}.affine.bias"]


def _upsample(image: Tensor) -> Tensor:
    """Zeros between the pixels, then the filter: two pixels of padding before, one behind."""
    sparse = image.new_zeros(image.shape[0], 2 * image.shape[1], 2 * image.shape[2])
    sparse[:, ::2, ::2] = image
    return _filter(F.pad(sparse[None], (2, 1, 2, 1)), 4 * BLUR)[0]


def _filter(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of `[n c h w]` by itself."""
    kernels = kernel.expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(x, kernels.flip(2, 3), groups=x.shape[1])


def activate(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    difference = (found.double() - expected).detach().abs().max() / expected.detach().abs().max()
    assert float(difference) <= tolerance


# Synthesis


@pytest.mark.parametrize("base", [(4, 4), (4, 2), (4, 3)])
@pytest.mark.parametrize("clamp", [None, 1.0])
@pytest.mark.parametrize("freeze", [False, True])
def test_synthesis_is_what_the_equations_say(
    base: tuple[int, int], clamp: float | None, freeze: bool
) -> None:
    generator = random_generator(architecture(base, clamp))
    ws = random_ws(generator)
    expected = paint_literally(generator, ws)
    if freeze:
        generator.freeze()
    assert_close(generator.synthesis(ws), expected, 1e-4)
    assert_close(generator.double().synthesis(ws.double()), expected, 1e-9)


def test_a_small_clamp_bites() -> None:
    free, clamped = (random_generator(architecture(clamp=c)) for c in (None, 1.0))
    ws = random_ws(free)
    assert not torch.allclose(free.synthesis(ws), clamped.synthesis(ws), atol=1e-2)
    assert_close(random_generator(architecture(clamp=1e4)).synthesis(ws), free.synthesis(ws), 1e-6)


@pytest.mark.parametrize("freeze", [False, True])
def test_weights_far_from_unit_size_are_demodulated(freeze: bool) -> None:
    generator = random_generator(architecture())
    with torch.no_grad():
        generator.get_parameter("synthesis.b8.conv0.weight").mul_(100)
        generator.get_parameter("synthesis.b8.conv1.weight").mul_(1e-4)  # here the epsilon shows
    ws = random_ws(generator)
    expected = paint_literally(generator, ws)
    assert_close((generator.freeze() if freeze else generator).synthesis(ws), expected, 1e-4)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_stopping_early_paints_a_smaller_image_from_fewer_latents(blocks: int) -> None:
    generator = random_generator(architecture()).freeze()
    ws = random_ws(generator)
    early = generator.synthesis(ws[:, : 2 * blocks], blocks)
    assert early.shape[2:] == generator.architecture.resolutions[blocks - 1]
    assert_close(early, paint_literally(generator, ws, blocks), 1e-4)


def test_images_of_a_batch_do_not_depend_on_each_other() -> None:
    generator = random_generator(architecture()).freeze().double()
    ws = random_ws(generator, 4).double()
    together = generator.synthesis(ws)
    for i in range(4):
        torch.testing.assert_close(generator.synthesis(ws[i : i + 1])[0], together[i])


@pytest.mark.parametrize("freeze", [False, True])
def test_gradients_with_respect_to_ws_are_finite_differences(freeze: bool) -> None:
    generator = random_generator(architecture()).double()
    if freeze:
        generator.freeze()
    ws = random_ws(generator, 1).double().requires_grad_(True)
    probe = torch.randn(1, 3, 32, 16, generator=torch.Generator().manual_seed(1)).double()
    (gradient,) = torch.autograd.grad((generator.synthesis(ws) * probe).sum(), ws)
    step = 1e-6
    directions = torch.eye(ws[0].numel()).double().reshape(-1, *ws.shape[1:]) * step
    with torch.no_grad():
        ahead, behind = generator.synthesis(ws + directions), generator.synthesis(ws - directions)
    slopes = ((ahead - behind) * probe).sum(dim=(1, 2, 3)).reshape(ws.shape) / (2 * step)
    assert_close(gradient, slopes, 1e-6)


def test_every_latent_matters_and_a_latent_beyond_the_last_does_not() -> None:
    generator = random_generator(architecture()).freeze()
    ws = random_ws(generator, 1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator.synthesis(ws).square().sum(), ws)
    assert (gradient.abs().amax(dim=2) > 0).all()
    more = torch.cat([ws, ws[:, :1]], dim=1)
    assert torch.equal(generator.synthesis(more), generator.synthesis(ws))


# Frozen


def test_a_frozen_generator_computes_no_gradients_of_weights() -> None:
    generator = random_generator(architecture()).freeze()
    ws = random_ws(generator, 1).requires_grad_(True)
    generator.synthesis(ws).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in generator.parameters())
    assert not generator.training


def test_frozen_kernels_are_not_saved() -> None:
    generator = random_generator(architecture())
    before = set(generator.state_dict())
    assert set(generator.freeze().state_dict()) == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_moving_a_frozen_generator_renews_its_kernels(dtype: torch.dtype) -> None:
    moved = random_generator(architecture()).freeze().to(dtype)
    fresh = random_generator(architecture()).to(dtype).freeze()
    ws = random_ws(moved).to(dtype)
    assert moved.synthesis(ws).dtype == dtype
    assert torch.equal(moved.synthesis(ws), fresh.synthesis(ws))


def test_kernels_of_a_frozen_generator_are_computed_once() -> None:
    """Changing a weight behind its back shows that the kernels are kept; a move renews them."""
    generator = random_generator(architecture()).freeze()
    ws = random_ws(generator)
    before = generator.synthesis(ws)
    with torch.no_grad():
        generator.get_parameter("synthesis.b32.conv0.weight").mul_(-1)
    assert torch.equal(generator.synthesis(ws), before)
    generator.to("cpu")
    assert_close(generator.synthesis(ws), paint_literally(generator, ws), 1e-4)


# Mapping


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_mapping_is_what_the_equations_say(rate: float) -> None:
    generator = random_generator(
        Architecture((4, 4), (3,), z_dim=6, w_dim=5, mapping_layers=3, mapping_lr_multiplier=rate)
    )
    with torch.no_grad():
        for i in range(3):  # as large as the stored biases of a trained one
            generator.get_parameter(f"mapping.fc{i}.bias").normal_(std=0.5 / rate)
    z = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    expected = map_literally(generator, z)
    assert_close(generator.mapping(z), expected, 1e-5)
    assert_close(generator.double().mapping(z.double()), expected, 1e-10)


def test_the_length_of_z_does_not_matter() -> None:
    mapping = random_generator(architecture()).double().mapping
    z = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)).double()
    torch.testing.assert_close(mapping(100 * z), mapping(z), rtol=1e-6, atol=1e-6)


# Shapes


@pytest.mark.parametrize(("height", "num_ws"), [(1024, 18), (512, 16), (256, 14), (64, 10)])
def test_num_ws_of_the_usual_sizes(height: int, num_ws: int) -> None:
    blocks = int(math.log2(height)) - 1
    assert Architecture((4, 4), (8,) * blocks).num_ws == num_ws
    assert Architecture((4, 4), (8,) * blocks).image_size == (height, height)


@pytest.mark.parametrize(("base", "size"), [((4, 2), (1024, 512)), ((4, 3), (1024, 768))])
def test_the_base_decides_the_shape_of_the_image(
    base: tuple[int, int], size: tuple[int, int]
) -> None:
    tall = Architecture(base, (8,) * 9)
    assert (tall.image_size, tall.num_ws) == (size, 18)
    assert tall.resolutions[0] == base


def test_names_are_those_of_checkpoints() -> None:
    keys = set(random_generator(architecture()).state_dict())
    assert {"mapping.w_avg", "mapping.fc2.weight", "synthesis.b4.const"} <= keys
    assert "synthesis.b4.conv0.weight" not in keys
    assert "synthesis.b8.const" not in keys
    for part in ("weight", "bias", "noise_const", "noise_strength", "affine.weight"):
        assert f"synthesis.b32.conv0.{part}" in keys
    assert {"synthesis.b8.torgb.weight", "synthesis.b8.torgb.affine.bias"} <= keys


@pytest.mark.parametrize(
    "fields",
    [
        {"base": (4,)},
        {"base": (0, 4)},
        {"channels": ()},
        {"channels": (8, -8)},
        {"z_dim": 1 << 40},
        {"mapping_layers": 0},
        {"mapping_lr_multiplier": 0.0},
        {"conv_clamp": -1.0},
    ],
)
def test_an_impossible_architecture_is_refused(fields: dict[str, object]) -> None:
    possible: dict[str, object] = {"base": (4, 4), "channels": (8, 8)}
    with pytest.raises(ValueError, match="found"):
        Architecture(**(possible | fields))  # type: ignore[arg-type]
