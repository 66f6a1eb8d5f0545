from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from insetgan_batch.demo import models, train
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import Architecture
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
    courses=(
        models.Course(
            (models.Stage(2, 4, 25), models.Stage(3, 4, 20)),
            learning_rate=3e-3,
            decay_steps=60,
            part_weight=3,
        ),
        models.Course((models.Stage(3, 4, 15),), 2e-3, decay_steps=15, part_weight=9),
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


def test_the_loss_falls(data: pictures.Pictures, tmp_path: Path) -> None:
    fresh = train.Training.start(TINY)
    before = loss_of(fresh, data)
    after = loss_of(train.train(TINY, data, tmp_path), data)
    assert after < 0.75 * before


def loss_of(training: train.Training, data: pictures.Pictures) -> float:
    z = torch.from_numpy(data.z).float()
    target = torch.from_numpy(data.rgb).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        w = training.generator.mapping(z)
        image = training.generator.synthesis(w[:, None].expand(-1, 6, -1))
    return float((image - target).abs().mean())


def test_a_resumed_training_goes_on_exactly(data: pictures.Pictures, tmp_path: Path) -> None:
    whole = train.train(TINY, data, tmp_path / "whole")
    # Stopped in the middle of the first stage, and once more in the second.
    for steps in (17, 41):
        stopped = train.Training.resume(TINY, tmp_path / "tiny.training.pt")
        run_steps(stopped, data, steps, tmp_path)
    resumed = train.train(TINY, data, tmp_path)
    assert resumed.step == whole.step == 60
    for a, b in zip(resumed.generator.parameters(), whole.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def run_steps(
    training: train.Training, data: pictures.Pictures, steps: int, directory: Path
) -> None:
    """What an interrupted training leaves: its schedule is that of the whole one."""
    for plan in list(train.plans_left(TINY, training.step))[: steps - training.step]:
        train.train_step(training, plan, data)
    training.save(directory / "tiny.training.pt")


def test_an_exported_generator_has_its_average_and_says_where_it_comes_from(
    data: pictures.Pictures, tmp_path: Path
) -> None:
    training = train.Training.start(TINY)
    path = tmp_path / "tiny.safetensors"
    sha256 = train.export(training, path, {"name": "tiny"})
    read = checkpoint.load(path)
    assert read.sha256 == sha256
    assert read.about == {"name": "tiny"}
    assert read.network.mapping.w_avg.abs().sum() > 0


def test_the_head_weighs_three_times_as_much_and_the_mean_stays_one() -> None:
    weight = train.part_weight(np.array([[4, 4, 8, 8]], np.float32), 32, 16, times=3)
    assert weight.mean().item() == pytest.approx(1)
    assert (weight[0, 0, 6, 6] / weight[0, 0, 30, 1]).item() == pytest.approx(3)


def test_every_step_has_one_plan_and_each_course_its_own_cosine() -> None:
    plans = list(train.plans_left(TINY, 0))
    assert [plan.stage.blocks for plan in plans] == [2] * 25 + [3] * 35
    assert [plan.part_weight for plan in plans] == [3] * 45 + [9] * 15
    rates = [plan.learning_rate for plan in plans]
    assert (rates[0], rates[30], rates[45]) == pytest.approx((3e-3, 1.5e-3, 2e-3))
    assert list(train.plans_left(TINY, 45)) == plans[45:]
