"""Seeds, truncation and images of a generator that stands still."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.stylegan2 import Architecture
from tests.conftest import random_generator

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


def test_a_generator_of_grey_images_is_refused() -> None:
    grey = Architecture((4, 4), (4,), z_dim=4, w_dim=4, mapping_layers=1, image_channels=1)
    source = checkpoint.Checkpoint(random_generator(grey).freeze(), {}, "")
    with pytest.raises(CheckpointError, match="found 1 image channels, expected 3"):
        Generator(source, CPU)
