"""Seeds, truncation and images of a generator that stands still."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.devices import Precision, best_precision
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.stylegan2 import Architecture
from insetgan_batch.nets.windows import Window
from tests.conftest import random_generator
from tests.nets import literal
from tests.nets.literal import relative_difference

CPU = torch.device("cpu")
SMALL = Architecture((4, 2), (6, 5, 4), z_dim=8, w_dim=6, mapping_layers=2)


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    checkpoint.save(tmp_path / "small.safetensors", random_generator(SMALL), {"name": "small"})
    return Generator.load(tmp_path / "small.safetensors", CPU)


def test_it_knows_its_file_and_its_sizes(generator: Generator, tmp_path: Path) -> None:
    assert (generator.height, generator.width) == (16, 8)
    assert (generator.z_dim, generator.num_ws) == (8, 6)
    assert generator.about == {"name": "small"}
    assert generator.sha256 == checkpoint.load(tmp_path / "small.safetensors").sha256
    assert torch.equal(generator.w_avg, random_generator(SMALL).mapping.w_avg)


def test_a_seed_means_the_random_state_of_numpy(generator: Generator) -> None:
    seeds = [0, 7, 2**32 - 1]
    z = np.stack([np.random.RandomState(seed).randn(1, 8)[0] for seed in seeds])
    expected = random_generator(SMALL).mapping(torch.from_numpy(z).float())
    torch.testing.assert_close(generator.seeds_to_w(seeds, psi=1.0), expected)


def test_psi_goes_from_the_average_to_the_untouched_w(generator: Generator) -> None:
    untouched = generator.seeds_to_w([5], psi=1.0)[0]
    average = generator.w_avg
    assert torch.equal(generator.seeds_to_w([5], psi=0.0)[0], average)
    torch.testing.assert_close(
        generator.seeds_to_w([5], psi=0.25)[0], 0.75 * average + 0.25 * untouched
    )
    assert (untouched - average).abs().max() > 0.1


def test_psi_one_is_the_mapping_to_rounding() -> None:
    """`w_avg + (w - w_avg)` may lose the last bit, and no more."""
    network = random_generator(SMALL)
    generator = Generator(checkpoint.Checkpoint(network.freeze(), {}, ""), CPU)
    z = torch.from_numpy(np.random.RandomState(3).randn(1, 8)).float()
    torch.testing.assert_close(
        generator.seeds_to_w([3], 1.0), network.mapping(z), rtol=1e-6, atol=1e-6
    )


def test_a_seed_does_not_depend_on_its_neighbours(generator: Generator) -> None:
    alone = generator.seeds_to_w([4], 0.7)[0]
    for seeds, place in (([4, 5], 0), ([9, 8, 7, 4], 3), ([4, 4], 1)):
        torch.testing.assert_close(
            generator.seeds_to_w(seeds, 0.7)[place], alone, rtol=1e-6, atol=1e-6
        )


def test_global_random_numbers_are_left_alone(generator: Generator) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.RandomState(1).rand()
    before = torch.get_rng_state()
    generator.images_of_seeds([1, 2], 0.7)
    assert np.random.rand() == expected
    assert torch.equal(torch.get_rng_state(), before)


def test_images_of_seeds_use_one_w_for_every_layer(generator: Generator) -> None:
    pictures = generator.images_of_seeds([1, 2], 0.5)
    ws = generator.seeds_to_w([1, 2], 0.5)[:, None].repeat(1, 6, 1)
    assert pictures.shape == (2, 3, 16, 8)
    assert not pictures.requires_grad
    torch.testing.assert_close(pictures, generator.synthesise(ws))


def test_images_are_differentiable_in_ws(generator: Generator) -> None:
    ws = torch.randn(2, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator.synthesise(ws).square().sum(), ws)
    assert (gradient.abs().amax(dim=2) > 0).all()


# Low precision


CLAMPED = dataclasses.replace(SMALL, conv_clamp=256.0, num_fp16_res=1)


def generator_of(architecture: Architecture, *, precision: Precision = "float32") -> Generator:
    source = checkpoint.Checkpoint(random_generator(architecture).freeze(), {}, "")
    return Generator(source, CPU, precision=precision)


FIVE = dataclasses.replace(CLAMPED, channels=(6, 5, 4, 4, 3))


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 5e-2), ("float16", 1e-2)])
def test_low_precision_is_near_and_float32_stays_exact(
    precision: Precision, tolerance: float
) -> None:
    exact = generator_of(FIVE).images_of_seeds([1, 2], 0.7)
    generator = generator_of(FIVE, precision=precision)
    low = generator.low_precision.images_of_seeds([1, 2], 0.7)
    assert low.dtype == torch.float32
    assert 0 < relative_difference(low, exact) < tolerance
    assert torch.equal(generator.images_of_seeds([1, 2], 0.7), exact)


def test_in_float32_low_precision_is_the_generator_itself() -> None:
    generator = generator_of(FIVE)
    assert generator.low_precision is generator
    low = generator_of(FIVE, precision="bfloat16").low_precision
    assert low.low_precision is low
    small = generator_of(SMALL, precision="bfloat16")
    assert small.low_precision is small


@pytest.mark.parametrize(
    ("precision", "trained", "exact_heights"),
    [
        ("float16", 1, [4, 8, 16, 32]),
        ("float16", 3, [4, 8]),
        ("float16", 0, [4]),
        ("bfloat16", 1, [4, 8, 16, 32]),
        ("bfloat16", 4, [4, 8, 16, 32]),
    ],
)
def test_low_precision_is_exact_at_the_lower_resolutions(
    precision: Precision, trained: int, exact_heights: list[int]
) -> None:
    """float16 is for those that were trained in it, the highest four where the file does not say
    how many; bfloat16 for 64 pixels and more.
    """
    generator = generator_of(dataclasses.replace(FIVE, num_fp16_res=trained), precision=precision)
    ws = generator.seeds_to_ws([1], 0.7)
    pairs = {
        height: [g.synthesise(ws, upto=height) for g in (generator, generator.low_precision)]
        for height in (4, 8, 16, 32, 64)
    }
    assert [height for height, pair in pairs.items() if torch.equal(*pair)] == exact_heights


def test_the_best_precision_of_a_cpu_is_bfloat16_where_it_has_arithmetic_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for capabilities, expected in (
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert best_precision(CPU) == expected


def test_float16_without_clamped_activations_is_refused() -> None:
    with pytest.raises(CheckpointError, match="float16 needs a generator with conv_clamp"):
        generator_of(SMALL, precision="float16")
    generator_of(SMALL, precision="bfloat16")


# Lower resolutions


@pytest.mark.parametrize("height", [4, 8, 16])
def test_a_lower_resolution_is_the_skip_image_there(generator: Generator, height: int) -> None:
    network = literal.Network(dict(random_generator(SMALL).state_dict()))
    blocks = {4: 1, 8: 2, 16: 3}[height]
    ws = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(1))
    found = generator.synthesise(ws[:, : 2 * blocks], upto=height)
    assert found.shape == (2, 3, height, height // 2)
    literal.assert_close(found, literal.paint(network, ws, blocks), 1e-4)


@pytest.mark.parametrize("height", [0, 2, 12, 32, -4])
def test_a_resolution_that_it_has_not_is_refused(generator: Generator, height: int) -> None:
    with pytest.raises(ValueError, match=rf"found upto={height}, .* \[4, 8, 16\]"):
        generator.synthesise(torch.zeros(1, 6, 6), upto=height)


@pytest.mark.parametrize("kind", ["resnet", "orig"])
def test_only_skip_synthesis_has_lower_resolutions(kind: Literal["resnet", "orig"]) -> None:
    generator = generator_of(dataclasses.replace(SMALL, synthesis=kind))
    ws = torch.zeros(1, 6, 6)
    with pytest.raises(ValueError, match="only `skip` synthesis"):
        generator.synthesise(ws, upto=8)
    assert torch.equal(generator.synthesise(ws, upto=16), generator.synthesise(ws))


# Truncation by layer


def test_psi_can_differ_from_layer_to_layer(generator: Generator) -> None:
    psi = [1.0, 0.7, 0.5, 0.0, -0.5, 1.5]
    ws = generator.seeds_to_ws([3, 4], psi)
    assert ws.shape == (2, 6, 6)
    for layer, value in enumerate(psi):
        torch.testing.assert_close(ws[:, layer], generator.seeds_to_w([3, 4], value))


def test_one_psi_is_that_of_every_layer(generator: Generator) -> None:
    for psi in (0.7, 1):
        assert torch.equal(
            generator.seeds_to_ws([3], psi), generator.seeds_to_ws([3], [psi] * generator.num_ws)
        )


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_a_wrong_number_of_psi_is_refused(generator: Generator, count: int) -> None:
    with pytest.raises(ValueError, match=f"found {count} values of psi, expected 1 or 6"):
        generator.seeds_to_ws([3], [0.7] * count)


# Labels


def test_the_label_decides_the_class() -> None:
    generator = generator_of(dataclasses.replace(SMALL, c_dim=3))
    network = random_generator(dataclasses.replace(SMALL, c_dim=3))
    z = np.stack([np.random.RandomState(seed).randn(1, 8)[0] for seed in (5, 6)])
    assert generator.c_dim == 3
    for label in range(3):
        c = torch.eye(3)[[label, label]]
        expected = network.mapping(torch.from_numpy(z).float(), c)
        torch.testing.assert_close(generator.seeds_to_w([5, 6], 1.0, label), expected)
    images = [generator.images_of_seeds([5], 0.7, label=label) for label in range(3)]
    assert relative_difference(images[0], images[1]) > 1e-2


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_that_it_has_not_is_refused(label: int) -> None:
    generator = generator_of(dataclasses.replace(SMALL, c_dim=3))
    with pytest.raises(ValueError, match=f"found class {label}, expected 0 to 2"):
        generator.seeds_to_w([5], 1.0, label)


def test_labels_are_neither_missing_nor_superfluous(generator: Generator) -> None:
    conditional = generator_of(dataclasses.replace(SMALL, c_dim=3))
    with pytest.raises(ValueError, match="give a label"):
        conditional.images_of_seeds([5], 0.7)
    assert generator.c_dim == 0
    with pytest.raises(ValueError, match="this one has no classes"):
        generator.images_of_seeds([5], 0.7, label=0)


# Noise


def test_noise_of_images_of_seeds_can_be_left_out(generator: Generator) -> None:
    ws = generator.seeds_to_ws([1, 2], 0.7)
    none = generator.images_of_seeds([1, 2], 0.7, noise="none")
    assert torch.equal(none, generator.synthesise(ws, noise="none"))
    assert relative_difference(none, generator.images_of_seeds([1, 2], 0.7)) > 1e-2


def test_random_noise_depends_on_the_seed_alone(generator: Generator) -> None:
    together = generator.images_of_seeds([1, 2, 3], 0.7, noise="random")
    alone = generator.images_of_seeds([2], 0.7, noise="random")
    torch.testing.assert_close(alone[0], together[1], rtol=1e-5, atol=1e-5)
    assert torch.equal(generator.images_of_seeds([2], 0.7, noise="random"), alone)
    ws = generator.seeds_to_ws([2], 0.7)
    other = generator.synthesise(ws, noise=[torch.Generator().manual_seed(1)])
    assert relative_difference(other, alone) > 1e-2
    constant = generator.images_of_seeds([2], 0.7)
    assert relative_difference(constant, alone) > 1e-2


def test_random_noise_leaves_global_random_numbers_alone(generator: Generator) -> None:
    before = torch.get_rng_state()
    generator.images_of_seeds([1, 2], 0.7, noise="random")
    assert torch.equal(torch.get_rng_state(), before)


# Colours


@pytest.mark.parametrize("colours", [1, 4])
def test_images_have_as_many_channels_as_the_generator(generator: Generator, colours: int) -> None:
    other = generator_of(dataclasses.replace(SMALL, image_channels=colours))
    assert other.image_channels == colours
    assert other.images_of_seeds([1, 2], 0.7).shape == (2, colours, 16, 8)
    assert generator.image_channels == 3


def test_a_look_is_the_lower_resolution_and_windows_of_the_whole(generator: Generator) -> None:
    ws = generator.seeds_to_ws([1, 2], 0.7)
    place = Window(((4, 0), (8, 4)), 8, 4)
    low, (crop,) = generator.synthesise_crops(ws, [place], upto=8)
    assert torch.equal(low, generator.synthesise(ws, upto=8))
    torch.testing.assert_close(crop, place.crop(generator.synthesise(ws)), rtol=0, atol=1e-5)


def test_it_knows_the_lowest_resolution_that_is_large_enough(generator: Generator) -> None:
    assert [generator.lowest_height(side) for side in (1, 2, 3, 4, 5, 8, 9)] == [
        4, 4, 8, 8, 16, 16, 16
    ]  # fmt: skip
    whole_only = random_generator(dataclasses.replace(SMALL, synthesis="orig"))
    assert Generator(checkpoint.Checkpoint(whole_only, {}, ""), CPU).lowest_height(1) == 16


def test_latents_of_w_are_w_and_an_offset_of_zero_for_each_layer() -> None:
    generator = generator_of(FIVE)
    w = generator.seeds_to_w([1], 0.7)[0]
    latents = generator.latents_of(w)
    assert latents.shape == (1 + generator.num_ws, len(w))
    assert torch.equal(latents[0], w)
    assert not latents[1:].any()


def test_ws_of_latents_are_w_plus_each_layers_offset() -> None:
    latents = torch.tensor([[1.0, 2.0], [0.0, 0.5], [-1.0, 3.0]])
    expected = torch.tensor([[1.0, 2.5], [0.0, 5.0]])
    assert torch.equal(Generator.ws_of(latents), expected)
    assert torch.equal(Generator.ws_of(torch.stack([latents, 2 * latents]))[1], 2 * expected)
