"""The generator against the equations as `literal` writes them down a second time."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import Node

from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from tests.conftest import random_generator
from tests.nets import literal
from tests.nets.literal import assert_close

# Channels differ from block to block, so that no axis can stand in for another.
SMALL = Architecture((4, 2), (5, 4, 6, 3), z_dim=6, w_dim=7, mapping_layers=3)


def architecture(**changes: Any) -> Architecture:
    return dataclasses.replace(SMALL, **changes)


def described(generator: StyleGAN2) -> literal.Network:
    """Its tensors as they are now."""
    about = generator.architecture
    tensors = {name: tensor.detach().clone() for name, tensor in generator.state_dict().items()}
    return literal.Network(
        tensors, about.mapping_lr_multiplier, about.conv_clamp, about.label_norm, about.synthesis
    )


def random_tensor(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_ws(generator: StyleGAN2, count: int = 3, seed: int = 7) -> Tensor:
    about = generator.architecture
    return random_tensor(count, about.num_ws, about.w_dim, seed=seed)


def conv_names(generator: StyleGAN2) -> list[str]:
    """The layers that add noise, from the base upwards, which is the order of their names."""
    suffix = ".noise_const"
    names = [n.removesuffix(suffix) for n in generator.state_dict() if n.endswith(suffix)]
    return sorted(names, key=lambda name: (int(name.split(".")[1][1:]), name))


# Synthesis

KINDS = ("skip", "resnet", "orig")
VARIANTS = [
    {},
    {"base": (4, 4)},
    {"base": (4, 3), "conv_clamp": 1.0},
    {"base": (3, 5), "channels": (4, 6)},
    {"image_channels": 1},
    {"conv_clamp": 1.0},
    {"synthesis": "resnet"},
    {"synthesis": "resnet", "conv_clamp": 0.7, "base": (4, 4)},
    {"synthesis": "resnet", "channels": (4,), "image_channels": 1},
    {"synthesis": "orig"},
    {"synthesis": "orig", "conv_clamp": 0.7, "image_channels": 4},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("freeze", [False, True])
def test_synthesis_is_what_the_equations_say(changes: dict[str, Any], freeze: bool) -> None:
    generator = random_generator(architecture(**changes))
    ws = random_ws(generator)
    expected = literal.paint(described(generator), ws)
    colours = generator.architecture.image_channels
    assert expected.shape == (3, colours, *generator.architecture.image_size)
    if freeze:
        generator.freeze()
    assert_close(generator.synthesis(ws), expected, 1e-4)
    assert_close(generator.double().synthesis(ws.double()), expected, 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_clamp_bites(kind: str) -> None:
    free, clamped, wide = (
        random_generator(architecture(synthesis=kind, conv_clamp=clamp))
        for clamp in (None, 1.0, 1e4)
    )
    ws = random_ws(free)
    assert not torch.allclose(free.synthesis(ws), clamped.synthesis(ws), atol=1e-2)
    assert_close(wide.synthesis(ws), free.synthesis(ws), 1e-6)


def test_the_three_kinds_of_synthesis_differ() -> None:
    ws = random_ws(random_generator(SMALL))
    images = [random_generator(architecture(synthesis=kind)).synthesis(ws) for kind in KINDS]
    assert all(image.shape == images[0].shape for image in images)
    assert not torch.allclose(images[0], images[1], atol=1e-2)
    assert not torch.allclose(images[1], images[2], atol=1e-2)


@pytest.mark.parametrize("freeze", [False, True])
def test_weights_far_from_unit_size_are_demodulated(freeze: bool) -> None:
    generator = random_generator(SMALL)
    with torch.no_grad():
        generator.get_parameter("synthesis.b8.conv0.weight").mul_(100)
        generator.get_parameter("synthesis.b8.conv1.weight").mul_(1e-4)  # here the epsilon shows
    ws = random_ws(generator)
    expected = literal.paint(described(generator), ws)
    assert_close((generator.freeze() if freeze else generator).synthesis(ws), expected, 1e-4)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_stopping_early_paints_a_smaller_image_from_fewer_latents(blocks: int) -> None:
    generator = random_generator(SMALL).freeze()
    ws = random_ws(generator)
    early = generator.synthesis(ws[:, : 2 * blocks], blocks)
    assert early.shape[2:] == generator.architecture.resolutions[blocks - 1]
    assert_close(early, literal.paint(described(generator), ws, blocks), 1e-4)


@pytest.mark.parametrize("kind", ["resnet", "orig"])
def test_only_skip_synthesis_can_stop_early(kind: str) -> None:
    generator = random_generator(architecture(synthesis=kind)).freeze()
    ws = random_ws(generator)
    for blocks in (1, 3):
        with pytest.raises(ValueError, match="only `skip` synthesis"):
            generator.synthesis(ws, blocks)
    assert torch.equal(generator.synthesis(ws, 4), generator.synthesis(ws))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_do_not_depend_on_each_other(kind: str) -> None:
    generator = random_generator(architecture(synthesis=kind)).freeze().double()
    ws = random_ws(generator, 4).double()
    together = generator.synthesis(ws)
    for i in range(4):
        torch.testing.assert_close(generator.synthesis(ws[i : i + 1])[0], together[i])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("freeze", [False, True])
def test_gradients_with_respect_to_ws_are_finite_differences(kind: str, freeze: bool) -> None:
    generator = random_generator(architecture(synthesis=kind)).double()
    if freeze:
        generator.freeze()
    ws = random_ws(generator, 1).double().requires_grad_(True)
    probe = random_tensor(1, 3, 32, 16, seed=1).double()
    (gradient,) = torch.autograd.grad((generator.synthesis(ws) * probe).sum(), ws)
    step = 1e-6
    directions = torch.eye(ws[0].numel()).double().reshape(-1, *ws.shape[1:]) * step
    with torch.no_grad():
        ahead, behind = generator.synthesis(ws + directions), generator.synthesis(ws - directions)
    slopes = ((ahead - behind) * probe).sum(dim=(1, 2, 3)).reshape(ws.shape) / (2 * step)
    assert_close(gradient, slopes, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_latents_that_matter(kind: str) -> None:
    """All of them: in `resnet` and `orig` the unused RGB latents start the next block."""
    generator = random_generator(architecture(synthesis=kind)).freeze()
    ws = random_ws(generator, 1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator.synthesis(ws).square().sum(), ws)
    assert (gradient.abs().amax(dim=2) > 0).all()
    more = torch.cat([ws, ws[:, :1]], dim=1)
    assert torch.equal(generator.synthesis(more), generator.synthesis(ws))


# Noise


def sources(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("kind", KINDS)
def test_noise_can_be_left_out(kind: str) -> None:
    generator = random_generator(architecture(synthesis=kind, conv_clamp=2.0)).freeze()
    ws = random_ws(generator)
    found = generator.synthesis(ws, noise="none")
    assert_close(found, literal.paint(described(generator), ws, noise="none"), 1e-4)
    assert not torch.allclose(found, generator.synthesis(ws), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_random_noise_is_drawn_layer_by_layer_from_the_images_own_source(kind: str) -> None:
    generator = random_generator(architecture(synthesis=kind)).freeze()
    ws = random_ws(generator)
    drawn = {
        name: [torch.randn(network[f"{name}.noise_const"].shape, generator=s) for s in own]
        for network, own in [(described(generator), sources([3, 4, 5]))]
        for name in conv_names(generator)
    }
    given = {name: torch.stack(fields) for name, fields in drawn.items()}
    expected = literal.paint(described(generator), ws, noise=given)
    assert_close(generator.synthesis(ws, noise=sources([3, 4, 5])), expected, 1e-4)


def test_the_noise_of_an_image_does_not_depend_on_its_neighbours() -> None:
    generator = random_generator(SMALL).freeze().double()
    ws = random_ws(generator, 3).double()
    together = generator.synthesis(ws, noise=sources([3, 4, 5]))
    alone = generator.synthesis(ws[1:2], noise=sources([4]))[0]
    torch.testing.assert_close(alone, together[1])
    elsewhere = generator.synthesis(ws[[2, 1]], noise=sources([9, 4]))[1]
    torch.testing.assert_close(elsewhere, alone)
    assert not torch.allclose(generator.synthesis(ws[1:2], noise=sources([5]))[0], alone, atol=1e-3)


def test_every_image_needs_its_own_source_of_noise() -> None:
    generator = random_generator(architecture()).freeze()
    with pytest.raises(ValueError, match="found 1 sources of noise for 3 images"):
        generator.synthesis(random_ws(generator), noise=sources([1]))


def test_random_noise_leaves_the_global_random_numbers_alone() -> None:
    generator = random_generator(SMALL).freeze()
    before = torch.get_rng_state()
    generator.synthesis(random_ws(generator), noise=sources([1, 2, 3]))
    assert torch.equal(torch.get_rng_state(), before)


# Frozen


def nodes_behind(output: Tensor) -> list[Node]:
    """Everything that a backward pass from here would visit."""
    assert output.grad_fn is not None
    found: dict[Node, None] = {}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            waiting += [before for before, _ in node.next_functions if before is not None]
    return list(found)


def leaves_behind(output: Tensor) -> list[Tensor]:
    variables = (getattr(node, "variable", None) for node in nodes_behind(output))
    return [variable for variable in variables if isinstance(variable, Tensor)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cached", [False, True])
def test_a_backward_pass_computes_no_gradient_of_any_weight(kind: str, cached: bool) -> None:
    """Neither as a leaf nor on the way: no convolution has a path to its weight."""
    generator = random_generator(architecture(synthesis=kind))
    if cached:
        generator.freeze()
    else:
        generator.requires_grad_(False)
    ws = random_ws(generator, 1).requires_grad_(True)
    image = generator.synthesis(ws)
    assert [leaf is ws for leaf in leaves_behind(image)] == [True]
    convolutions = [n for n in nodes_behind(image) if n.name().startswith("Convolution")]
    assert len(convolutions) > len(conv_names(generator))
    # The second input of a convolution is its weight.
    assert all(node.next_functions[1][0] is None for node in convolutions)


def test_where_weights_move_they_are_seen() -> None:
    """The control of the test above."""
    generator = random_generator(SMALL)
    ws = random_ws(generator, 1).requires_grad_(True)
    leaves = leaves_behind(generator.synthesis(ws))
    assert {id(p) for p in generator.synthesis.parameters()} < {id(leaf) for leaf in leaves}


def test_a_frozen_generator_computes_no_gradients_of_weights() -> None:
    generator = random_generator(SMALL).freeze()
    ws = random_ws(generator, 1).requires_grad_(True)
    generator.synthesis(ws).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in generator.parameters())
    assert not generator.training


def test_frozen_kernels_are_not_saved() -> None:
    generator = random_generator(SMALL)
    before = set(generator.state_dict())
    assert set(generator.freeze().state_dict()) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_moving_a_frozen_generator_renews_its_kernels(kind: str, dtype: torch.dtype) -> None:
    moved = random_generator(architecture(synthesis=kind)).freeze().to(dtype)
    fresh = random_generator(architecture(synthesis=kind)).to(dtype).freeze()
    ws = random_ws(moved).to(dtype)
    assert moved.synthesis(ws).dtype == dtype
    assert torch.equal(moved.synthesis(ws), fresh.synthesis(ws))


def test_kernels_of_a_frozen_generator_are_computed_once() -> None:
    """Changing a weight behind its back shows that the kernels are kept; a move renews them."""
    generator = random_generator(SMALL).freeze()
    ws = random_ws(generator)
    before = generator.synthesis(ws)
    with torch.no_grad():
        generator.get_parameter("synthesis.b32.conv0.weight").mul_(-1)
    assert torch.equal(generator.synthesis(ws), before)
    generator.to("cpu")
    assert_close(generator.synthesis(ws), literal.paint(described(generator), ws), 1e-4)


# Low precision

LOW = [(torch.bfloat16, 5e-2), (torch.float16, 1e-2)]
WIDE = architecture(channels=(16, 12, 10, 8), conv_clamp=256.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), LOW)
def test_low_precision_is_near(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    generator = random_generator(dataclasses.replace(WIDE, synthesis=kind)).freeze()  # type: ignore[arg-type]
    ws = random_ws(generator)
    exact = generator.synthesis(ws)
    found = generator.in_precision(dtype, 4).synthesis(ws)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert_close(found, exact, tolerance)
    assert torch.equal(generator.synthesis(ws), exact)


@pytest.mark.parametrize("resolutions", [0, 1, 2, 4, 9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_so_many_of_the_highest_resolutions_are_computed_in_low_precision(
    dtype: torch.dtype, resolutions: int
) -> None:
    generator = random_generator(WIDE).freeze()
    ws = random_ws(generator)
    twin = generator.in_precision(dtype, resolutions)
    equal = [
        torch.equal(twin.synthesis(ws, blocks), generator.synthesis(ws, blocks))
        for blocks in (1, 2, 3, 4)
    ]
    assert equal == [blocks <= 4 - resolutions for blocks in (1, 2, 3, 4)]


def test_a_twin_in_low_precision_shares_the_weights() -> None:
    generator = random_generator(WIDE).freeze()
    twin = generator.in_precision(torch.bfloat16, 4)
    places = {name: tensor.data_ptr() for name, tensor in generator.state_dict().items()}
    assert {name: tensor.data_ptr() for name, tensor in twin.state_dict().items()} == places


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), LOW)
@pytest.mark.parametrize(("weights", "styles"), [(1e5, 1.0), (1.0, 1e5), (1e5, 1e5), (1e-4, 1e5)])
def test_large_weights_and_styles_stay_in_range(
    kind: str, dtype: torch.dtype, tolerance: float, weights: float, styles: float
) -> None:
    generator = random_generator(dataclasses.replace(WIDE, synthesis=kind))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in generator.synthesis.named_parameters():
            if ".affine." in name:
                parameter.mul_(styles)
            elif "torgb.weight" in name:
                parameter.div_(styles)  # colours are not demodulated
            elif "conv" in name and name.endswith(".weight"):
                parameter.mul_(weights)
    ws = random_ws(generator)
    expected = literal.paint(described(generator), ws)
    assert_close(generator.in_precision(dtype, 4).synthesis(ws), expected, tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_in_low_precision_point_the_same_way(dtype: torch.dtype) -> None:
    generator = random_generator(WIDE).freeze()
    ws = random_ws(generator).requires_grad_(True)
    (exact,) = torch.autograd.grad(generator.synthesis(ws).square().mean(), ws)
    twin = generator.in_precision(dtype, 3)
    (found,) = torch.autograd.grad(twin.synthesis(ws).square().mean(), ws)
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.99


# Mapping


def random_mapping(rate: float = 0.01, **changes: Any) -> StyleGAN2:
    """Biases are as large as the stored ones of a trained network."""
    generator = random_generator(architecture(mapping_lr_multiplier=rate, **changes))
    with torch.no_grad():
        for name, parameter in generator.mapping.named_parameters():
            if name.startswith("fc") and name.endswith(".bias"):
                parameter.normal_(std=0.5 / rate, generator=torch.Generator().manual_seed(5))
    return generator


LABELS = torch.eye(3)[[0, 2, 1, 1]]


@pytest.mark.parametrize("rate", [0.01, 1.0])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mapping_layers": 1},
        {"mapping_layers": 8},
        {"layer_features": 9},
        {"layer_features": 9, "mapping_layers": 1},
        {"c_dim": 3},
        {"c_dim": 3, "embed_features": 4},
        {"c_dim": 3, "label_norm": "joint"},
        {"c_dim": 3, "label_norm": "joint", "embed_features": 4, "layer_features": 5},
        {"embed_features": 4},
    ],
    ids=str,
)
def test_mapping_is_what_the_equations_say(rate: float, changes: dict[str, Any]) -> None:
    generator = random_mapping(rate, **changes)
    z = random_tensor(4, 6, seed=3)
    c = LABELS if generator.architecture.c_dim else None
    expected = literal.map_to_w(described(generator), z, c)
    assert expected.shape == (4, 7)
    assert_close(generator.mapping(z, c), expected, 1e-5)
    wide = None if c is None else c.double()
    assert_close(generator.double().mapping(z.double(), wide), expected, 1e-10)


def test_the_label_matters_and_so_does_how_it_is_normalised() -> None:
    separate, joint = (random_mapping(c_dim=3, label_norm=norm) for norm in ("separate", "joint"))
    z = random_tensor(1, 6, seed=3).expand(3, -1)
    w = separate.mapping(z, torch.eye(3))
    assert (torch.pdist(w) > 0.05).all()
    assert not torch.allclose(joint.mapping(z, torch.eye(3)), w, atol=1e-2)


@pytest.mark.parametrize("norm", ["separate", "joint"])
def test_a_missing_label_is_refused(norm: str) -> None:
    mapping = random_mapping(c_dim=3, label_norm=norm).mapping
    with pytest.raises(ValueError, match="has classes: give a label"):
        mapping(random_tensor(4, 6))


def test_a_superfluous_label_is_refused() -> None:
    with pytest.raises(ValueError, match="has no classes: leave the label"):
        random_mapping().mapping(random_tensor(4, 6), LABELS)


def test_the_length_of_z_does_not_matter() -> None:
    mapping = random_generator(SMALL).double().mapping
    z = random_tensor(4, 6, seed=3).double()
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
    keys = set(random_generator(SMALL).state_dict())
    assert {"mapping.w_avg", "mapping.fc2.weight", "synthesis.b4.const"} <= keys
    assert "synthesis.b4.conv0.weight" not in keys
    assert "synthesis.b8.const" not in keys
    for part in ("weight", "bias", "noise_const", "noise_strength", "affine.weight"):
        assert f"synthesis.b32.conv0.{part}" in keys
    assert {"synthesis.b8.torgb.weight", "synthesis.b8.torgb.affine.bias"} <= keys


def test_resnet_and_orig_make_colours_in_the_last_block_only() -> None:
    for kind in ("resnet", "orig"):
        keys = set(random_generator(architecture(synthesis=kind)).state_dict())
        assert {k.split(".")[1] for k in keys if ".torgb." in k} == {"b32"}
        shortcuts = {k for k in keys if ".skip." in k}
        expected = {f"synthesis.b{height}.skip.weight" for height in (8, 16, 32)}
        assert shortcuts == (expected if kind == "resnet" else set())


def test_labels_have_a_layer_of_their_own() -> None:
    generator = random_generator(architecture(c_dim=3, embed_features=4, layer_features=9))
    shapes = {name: tuple(p.shape) for name, p in generator.mapping.named_parameters()}
    assert shapes["embed.weight"] == (4, 3)
    assert [shapes[f"fc{i}.weight"] for i in range(3)] == [(9, 10), (9, 9), (7, 9)]
    assert "embed.weight" not in dict(random_generator(SMALL).mapping.named_parameters())


@pytest.mark.parametrize(
    "fields",
    [
        {"base": (4,)},
        {"base": (4, 4, 4)},
        {"base": (0, 4)},
        {"channels": ()},
        {"channels": (8, -8)},
        {"z_dim": 1 << 40},
        {"mapping_layers": 0},
        {"mapping_lr_multiplier": 0.0},
        {"conv_clamp": -1.0},
        {"conv_clamp": math.nan},
        {"mapping_lr_multiplier": math.inf},
        {"channels": (8,) * 14},
        {"image_channels": 0},
        {"image_channels": 3.0},
        {"c_dim": -1},
        {"c_dim": 1.0},
        {"layer_features": 0},
        {"embed_features": -4},
        {"num_fp16_res": -1},
        {"label_norm": "both"},
        {"synthesis": "unet"},
        {"synthesis": None},
    ],
)
def test_an_impossible_architecture_is_refused(fields: dict[str, object]) -> None:
    possible: dict[str, object] = {"base": (4, 4), "channels": (8, 8)}
    with pytest.raises(ValueError, match="found"):
        Architecture(**(possible | fields))  # type: ignore[arg-type]
