"""Adam, item by item, against torch's."""

from __future__ import annotations

import torch
from torch import Tensor

from insetgan_batch.methods.insetgan.adam import MovingBatch, MovingLatents

ALL = torch.ones(5, 1)  # of latents `[5 4]`


def adam_step(
    moving: list[MovingLatents], gradient: Tensor, rates: list[float], free: list[Tensor]
) -> None:
    batch = MovingBatch(moving)
    numbers = [m.numbers([rate])[0] for m, rate in zip(moving, rates, strict=True)]
    batch.step(gradient, torch.tensor(numbers).T, torch.stack(free))
    batch.hand_back(moving, 1)


def test_every_item_has_the_adam_of_torch_with_its_own_steps_and_step_sizes() -> None:
    """One item enters two steps after the other."""
    gradients = torch.randn(6, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    rates = torch.rand(6, 2, generator=torch.Generator().manual_seed(1)) * 0.1
    moving = [MovingLatents.at_rest(torch.full((5, 4), value)) for value in (1.0, -1.0)]
    for step in range(6):
        inside = [0, 1] if step >= 2 else [0]
        adam_step(
            [moving[i] for i in inside],
            gradients[step, inside],
            [float(rates[step, i]) for i in inside],
            [ALL] * len(inside),
        )
    for i, (entered, value) in enumerate(((0, 1.0), (2, -1.0))):
        expected = torch.full((5, 4), value)
        adam = torch.optim.Adam([expected])
        for step in range(entered, 6):
            adam.param_groups[0]["lr"] = float(rates[step, i])
            expected.grad = gradients[step, i]
            adam.step()
        torch.testing.assert_close(moving[i].latents, expected)
        assert moving[i].step == 6 - entered


def test_a_gradient_that_is_not_a_number_is_none_and_hurts_no_neighbour() -> None:
    gradient = torch.ones(2, 5, 4)
    gradient[0, 2, 1] = float("nan")
    moving = [MovingLatents.at_rest(torch.ones(5, 4)) for _ in range(2)]
    adam_step(moving, gradient, [0.1, 0.1], [ALL, ALL])
    assert torch.equal(moving[0].latents, torch.ones(5, 4))
    torch.testing.assert_close(moving[1].latents, torch.full((5, 4), 0.9))
    adam_step(moving, torch.ones(2, 5, 4), [0.1, 0.1], [ALL, ALL])
    assert all(bool(m.latents.isfinite().all()) for m in moving)


def test_latents_that_stand_do_not_coast_on_their_momentum() -> None:
    """What a stage lets go is still in Adam's moments in the next one, which holds it."""
    moving = MovingLatents.at_rest(torch.zeros(5, 4))
    adam_step([moving], torch.ones(1, 5, 4), [0.1], [ALL])
    before = moving.latents
    first_only = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0]])
    adam_step([moving], torch.ones(1, 5, 4), [0.1], [first_only])
    assert torch.equal(moving.latents[1:], before[1:])
    torch.testing.assert_close(moving.latents[0], before[0] - 0.1)


def test_the_tensor_that_an_item_entered_with_is_left_alone() -> None:
    """Its start is kept as a state."""
    start = torch.ones(5, 4)
    moving = MovingLatents.at_rest(start)
    adam_step([moving], torch.ones(1, 5, 4), [0.1], [ALL])
    assert torch.equal(start, torch.ones(5, 4))
    assert not torch.equal(moving.latents, start)
