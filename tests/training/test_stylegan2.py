"""The task: phases against formulas, workers against one, and what is kept between steps."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from insetgan_batch.training.order import Order
from insetgan_batch.training.stylegan2 import Settings
from insetgan_batch.training.workers import Workers
from tests.training import toy

ALONE = Workers()


def differences(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest, in shares of the largest number of each tensor."""
    assert a.keys() == b.keys()
    return max(
        ((a[name] - b[name]).abs().max() / a[name].abs().max().clamp_min(1e-12)).item()
        for name in a
        if a[name].numel()
    )


def test_the_same_steps_give_the_same_networks_and_another_seed_does_not() -> None:
    made = [toy.task(), toy.task(), toy.task(seed=1)]
    for task in made:
        for iteration in range(3):
            task.step(iteration, ALONE)
    first, second, other = (task.tensors() for task in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["generator.mapping.fc0.weight"], other["generator.mapping.fc0.weight"]
    )


def test_parts_of_another_size_change_nothing_but_what_is_compared_in_them() -> None:
    """But for the deviation within a part, and which latents are mixed."""
    found = []
    for part in (1, 4):
        task = toy.task(part=part, style_mixing=0.0, path_weight=0.0)
        setattr(task.discriminator.get_submodule("b4"), "group", 1)  # noqa: B010
        task.step(0, ALONE)
        found.append({n: t for n, t in task.tensors().items() if n.startswith("adam_")})
    moments = [{n: t for n, t in one.items() if n.endswith("exp_avg_sq")} for one in found]
    assert differences(*moments) < 1e-3


def _worker(rank: int, size: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    task = toy.task()
    for iteration in range(6):
        task.step(iteration, Workers.of_process_group())
    torch.save({"tensors": task.tensors(), "numbers": task.numbers()}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_do_what_one_does_up_to_the_order_of_additions(tmp_path: Path) -> None:
    arguments = (2, str(tmp_path / "store"), str(tmp_path))
    mp.spawn(_worker, arguments, nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first["tensors"][n], second["tensors"][n]) for n in first["tensors"])
    alone = toy.task()
    for iteration in range(6):
        alone.step(iteration, ALONE)
    assert alone.numbers() == first["numbers"]
    # Adam divides small gradients by their own size, so that rounding shows.
    weights = {n: t for n, t in alone.tensors().items() if n.startswith("averaged.")}
    assert differences(weights, {n: first["tensors"][n] for n in weights}) < 1e-3


def test_regularisation_is_due_now_and_then_and_weighs_for_all_steps() -> None:
    task = toy.task()
    seen = [task.step(iteration, ALONE).keys() for iteration in range(17)]
    assert [i for i, names in enumerate(seen) if "path_penalty" in names] == [0, 4, 8, 12, 16]
    assert [i for i, names in enumerate(seen) if "r1" in names] == [0, 16]
    group = task.optimizers["discriminator"].param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * 16 / 17)
    assert group["betas"][1] == pytest.approx(0.99 ** (16 / 17))
    assert task.optimizers["generator"].param_groups[0]["lr"] == pytest.approx(0.002 * 4 / 5)
    plain = toy.task(gamma=0.0, path_weight=0.0)
    assert plain.optimizers["generator"].param_groups[0]["lr"] == 0.002
    assert not {"r1", "path_penalty"} & plain.step(0, ALONE).keys()


def test_the_averaged_generator_follows_by_its_half_life() -> None:
    task = toy.task(ema_kimg=0.004)  # four images: one step halves the distance
    before = copy.deepcopy(task.averaged)
    task.step(0, ALONE)
    name = "synthesis.b4.const"
    now = task.generator.get_parameter(name)
    expected = (before.get_parameter(name) + now) / 2
    torch.testing.assert_close(task.averaged.get_parameter(name), expected)
    assert torch.equal(task.averaged.mapping.w_avg, task.generator.mapping.w_avg)
    assert task.averaged.mapping.w_avg.abs().sum() > 0
    soon = toy.task(ema_kimg=10.0, ema_rampup=0.05)
    soon.step(0, ALONE)  # nothing was seen before: no history
    assert torch.equal(soon.averaged.get_parameter(name), soon.generator.get_parameter(name))


def test_augmentation_rises_while_the_discriminator_knows_the_pictures_and_falls_else() -> None:
    for scores, expected in ((5.0, [0.0, 0.0, 0.0, 0.08]), (-5.0, [0.5, 0.5, 0.5, 0.42])):
        task = toy.task(probability=expected[0], gamma=0.0)
        with torch.no_grad():
            task.discriminator.get_parameter("b4.out.weight").zero_()
            task.discriminator.get_parameter("b4.out.bias").fill_(scores)
        for group in task.optimizers["discriminator"].param_groups:
            group["lr"] = 0.0
        found = [task.step(i, ALONE)["augment_probability"] for i in range(4)]
        # 4 images, every 4th step, of 200: by 0.08.
        assert found == pytest.approx(expected)
    task = toy.task(ada=False, probability=0.3)
    assert {task.step(i, ALONE)["augment_probability"] for i in range(5)} == {0.3}


def test_frozen_layers_of_the_discriminator_keep_their_weights() -> None:
    task = toy.task(freeze_layers=3)
    before = copy.deepcopy(task.discriminator.state_dict())
    task.step(0, ALONE)
    after = task.discriminator.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {"b16.fromrgb.weight", "b16.conv0.weight", "b16.conv1.weight"} <= same
    assert "b16.skip.weight" not in same
    assert all(p.requires_grad for p in task.generator.parameters())


def test_every_epoch_shows_every_picture_once_each_way() -> None:
    order = Order(5, seed=3, mirrored=True)
    first = [order[i] for i in range(10)]
    assert sorted(first) == [(n, f) for n in range(5) for f in (False, True)]
    second = [order[i] for i in range(10, 20)]
    assert sorted(second) == sorted(first)
    assert second != first
    assert [Order(5, 3, mirrored=True)[i] for i in range(10, 20)] == second
    assert sorted(Order(4, 0, mirrored=False)[i] for i in range(4)) == [
        (n, False) for n in range(4)
    ]


def test_settings_that_contradict_each_other_are_one_line() -> None:
    with pytest.raises(ValueError, match="batch is 6, expected a multiple of part \\(4\\)"):
        Settings(batch=6)
    with pytest.raises(ValueError, match="augment is 'all', expected one of blit, "):
        Settings(augment="all")
    with pytest.raises(ValueError, match="rotate90 does not fit pictures of 16x8 pixels"):
        toy.task(augment="bgc")
