from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from insetgan_batch.demo import train_encoder
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.encoder import EncoderNetwork
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from insetgan_batch.people.person import Z_DIM, seeds_to_z
from insetgan_batch.people.pictures import Pictures

SCHEDULES = (
    train_encoder.EncoderSchedule(3, 1e-3, half=1, paints=False),
    train_encoder.EncoderSchedule(1, 1e-3, half=1, paints=True),
)


@pytest.fixture(scope="module")
def generator() -> Generator:
    """As large as the encoder's pictures, with as few channels as go."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = StyleGAN2(
            Architecture(
                (4, 4),
                (4,) * 6,
                z_dim=Z_DIM,
                w_dim=8,
                mapping_layers=1,
                mapping_lr_multiplier=1.0,
            )
        )
    return Generator(checkpoint.Checkpoint(network.freeze(), {}, "0" * 64), torch.device("cpu"))


@pytest.fixture(scope="module")
def data(generator: Generator) -> Pictures:
    """What the generator paints, as if it was rendered."""
    z = seeds_to_z(range(12))
    images = generator.images_of_seeds(range(12), 1.0)
    rgb = ((images.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    return Pictures(z, rgb, np.zeros(rgb.shape[:3], np.uint8), np.zeros((12, 4), np.float32))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the training that never stops writes."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def trained(generator: Generator, data: Pictures, whole: Path) -> EncoderNetwork:
    """Without a stop."""
    return train_encoder.train(generator, data, whole, SCHEDULES).network


def test_a_resumed_training_goes_on_exactly(
    generator: Generator, data: Pictures, trained: EncoderNetwork, tmp_path: Path
) -> None:
    stopped = train_encoder.start(generator)
    perceptual = Perceptual(None)
    while stopped.step < 2:
        train_encoder.train_step(stopped, generator, perceptual, data, SCHEDULES)
    stopped.save(tmp_path / "encoder.training.pt")
    resumed = train_encoder.train(generator, data, tmp_path, SCHEDULES)
    assert resumed.step == 4
    fresh = train_encoder.start(generator).network.parameters()
    pairs = zip(resumed.network.parameters(), trained.parameters(), fresh, strict=True)
    for after, without_a_stop, before in pairs:
        assert torch.equal(after, without_a_stop)
        assert not torch.equal(after, before)


@pytest.mark.usefixtures("trained")
def test_a_sample_sheet_is_left_at_the_end(whole: Path) -> None:
    assert (whole / "encoder-000004.png").is_file()
