"""The losses of InsetGAN: one value per item, the same for any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import losses

HALF_A_LEVEL = 1 / 255  # what L1 loses to its rounding off


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def doubled(image: Tensor) -> Tensor:
    return image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def half_mask(height: int, width: int) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[:, :, : height // 2] = 1
    return mask


def test_l1_is_the_mean_difference_under_the_mask() -> None:
    image, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    image[:, :, :2] = 0.5  # under the mask
    image[:, :, 2:] = 9.0  # not under it
    found = losses.masked_l1(image, target, half_mask(4, 4))
    assert found.tolist() == pytest.approx([0.5 - HALF_A_LEVEL])
    image[:, 0, :2] = 2.0  # one colour of three
    found = losses.masked_l1(image, target, half_mask(4, 4))
    assert found.tolist() == pytest.approx([1.0 - HALF_A_LEVEL])


def test_l1_pulls_with_its_sign_above_a_level_and_not_on_rounding_noise() -> None:
    """A start that is its own reference must not be moved by the last bits of its picture."""
    image = torch.tensor([1.0, -0.2, 0.009, 1e-6, -1e-6, 0.0]).reshape(1, 1, 1, 6)
    image.requires_grad_(True)
    loss = losses.masked_l1(image, torch.zeros(1, 1, 1, 6), torch.ones(1, 1, 1, 6)).sum()
    (gradient,) = torch.autograd.grad(loss, image)
    pull = (gradient * 6).flatten().tolist()
    assert pull == pytest.approx([1, -1, 1, 1.275e-4, -1.275e-4, 0], abs=1e-6)


def test_l1_does_not_depend_on_the_size_of_the_picture() -> None:
    image, target, mask = noise(2, 3, 8, 6), noise(2, 3, 8, 6, seed=1), half_mask(8, 6)
    small = losses.masked_l1(image, target, mask)
    large = losses.masked_l1(doubled(image), doubled(target), doubled(mask))
    torch.testing.assert_close(large, small)


def test_l1_does_not_depend_on_the_area_of_the_mask() -> None:
    image, target = torch.full((1, 3, 8, 8), 0.25), torch.zeros(1, 3, 8, 8)
    ring = torch.ones(1, 1, 8, 8)
    ring[:, :, 1:-1, 1:-1] = 0
    for mask in (torch.ones(1, 1, 8, 8), half_mask(8, 8), ring):
        found = losses.masked_l1(image, target, mask)
        assert found.tolist() == pytest.approx([0.25 - HALF_A_LEVEL])


def test_every_item_has_its_own_value() -> None:
    image, target = noise(3, 3, 8, 8), noise(3, 3, 8, 8, seed=1)
    masks = torch.stack([torch.ones(1, 8, 8), half_mask(8, 8)[0], torch.zeros(1, 8, 8)])
    together = losses.masked_l1(image, target, masks)
    assert together.shape == (3,)
    for i in range(3):
        alone = losses.masked_l1(image[i : i + 1], target[i : i + 1], masks[i : i + 1])
        torch.testing.assert_close(together[i], alone[0])


def test_one_mask_serves_a_whole_batch() -> None:
    image, target, mask = noise(3, 3, 8, 8), noise(3, 3, 8, 8, seed=1), half_mask(8, 8)
    torch.testing.assert_close(
        losses.masked_l1(image, target, mask),
        losses.masked_l1(image, target, mask.expand(3, -1, -1, -1)),
    )


def test_an_empty_mask_gives_0_and_no_gradient() -> None:
    image = noise(2, 3, 8, 8).requires_grad_(True)
    value = losses.masked_l1(image, torch.zeros(2, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    assert value.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(value.sum(), image)
    assert gradient.abs().max() == 0


def test_the_distance_to_the_average_is_a_mean_square_per_item() -> None:
    w = torch.tensor([[1.0, 2.0], [1.0, 5.0]])
    assert losses.distance_to_average(w, torch.tensor([1.0, 2.0])).tolist() == [0.0, 4.5]
    doubled_w, doubled_avg = w.repeat(1, 2), torch.tensor([1.0, 2.0, 1.0, 2.0])
    assert losses.distance_to_average(doubled_w, doubled_avg).tolist() == [0.0, 4.5]


def test_the_size_of_deltas_is_a_mean_square_per_item() -> None:
    delta = torch.zeros(2, 3, 4)
    delta[1, 2, 0] = 6.0
    assert losses.size_of_deltas(delta).tolist() == [0.0, 3.0]
