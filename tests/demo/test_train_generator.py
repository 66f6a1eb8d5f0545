from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from insetgan_batch.demo import models, train_generator
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from insetgan_batch.people import pictures
from insetgan_batch.people.person import seeds_to_z

TINY = models.DemoModel(
    name="tiny",
    view="body",
    architecture=Architecture(
        (4, 2),
        (8, 8, 8),
        z_dim=64,
        w_dim=16,
        mapping_layers=2,
        mapping_lr_multiplier=1.0,
    ),
    schedules=(
        models.GeneratorSchedule(
            (models.GrowthStage(2, 4, 25), models.GrowthStage(3, 4, 20)),
            learning_rate=3e-3,
            decay_steps=60,
            part_weight=3,
        ),
        models.GeneratorSchedule(
            (models.GrowthStage(3, 4, 15),), 2e-3, decay_steps=15, part_weight=9
        ),
    ),
)


@pytest.fixture(scope="module")
def data() -> pictures.Pictures:
    """Plain colours that depend on the first entries of z: learnable in a few steps."""
    z = seeds_to_z(range(40))
    colours = (128 + 100 * np.tanh(z[:, :3])).astype(np.uint8)
    rgb = np.broadcast_to(colours[:, None, None], (40, 16, 8, 3)).copy()
    boxes = np.tile(np.array([2, 1, 6, 5], np.float32), (40, 1))
    return pictures.Pictures(z, rgb, np.zeros(rgb.shape[:3], np.uint8), boxes)


@pytest.fixture(scope="module")
def trained(data: pictures.Pictures, tmp_path_factory: pytest.TempPathFactory) -> StyleGAN2:
    """Without a stop."""
    return train_generator.train(TINY, data, tmp_path_factory.mktemp("whole")).network


def test_the_loss_falls(data: pictures.Pictures, trained: StyleGAN2) -> None:
    before = loss_of(train_generator.start(TINY).network, data)
    assert loss_of(trained, data) < 0.75 * before


def loss_of(generator: StyleGAN2, data: pictures.Pictures) -> float:
    z = torch.from_numpy(data.z).float()
    target = torch.from_numpy(data.rgb).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        w = generator.mapping(z)
        image = generator.synthesis(w[:, None].expand(-1, 6, -1))
    return float((image - target).abs().mean())


def test_a_resumed_training_goes_on_exactly(
    data: pictures.Pictures, trained: StyleGAN2, tmp_path: Path
) -> None:
    # Stopped in the middle of the first stage, and once more in the second.
    for steps in (17, 41):
        stopped = train_generator.start(TINY)
        stopped.resume(tmp_path / "tiny.training.pt")
        while stopped.step < steps:
            train_generator.train_step(stopped, TINY, data)
        stopped.save(tmp_path / "tiny.training.pt")
    resumed = train_generator.train(TINY, data, tmp_path)
    assert resumed.step == 60
    for a, b in zip(resumed.network.parameters(), trained.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_exported_generator_has_its_average_and_says_where_it_comes_from(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tiny.safetensors"
    sha256 = train_generator.export(train_generator.start(TINY).network, path, {"name": "tiny"})
    read = checkpoint.load(path)
    assert read.sha256 == sha256
    assert read.about == {"name": "tiny"}
    assert read.network.mapping.w_avg.abs().sum() > 0


def test_the_head_weighs_three_times_as_much_and_the_mean_stays_one() -> None:
    weight = train_generator.part_weight(np.array([[4, 4, 8, 8]], np.float32), 32, 16, times=3)
    assert weight.mean().item() == pytest.approx(1)
    assert (weight[0, 0, 6, 6] / weight[0, 0, 30, 1]).item() == pytest.approx(3)


def test_every_step_has_its_stage_and_each_schedule_its_own_cosine() -> None:
    settings = [train_generator.step_settings(TINY, step) for step in range(60)]
    stages, rates, weights = zip(*settings, strict=True)
    assert [stage.blocks for stage in stages] == [2] * 25 + [3] * 35
    assert weights == (3,) * 45 + (9,) * 15
    assert (rates[0], rates[30], rates[45]) == pytest.approx((3e-3, 1.5e-3, 2e-3))
    with pytest.raises(ValueError, match="step 60 is beyond the end"):
        train_generator.step_settings(TINY, 60)
