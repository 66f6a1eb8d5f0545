"""The perceptual distance: what it says of simple pictures, and whose weights it uses."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import hypothesis.strategies as st
import lpips
import pytest
import torch
import torchvision  # type: ignore[import-untyped]
from hypothesis import example, given, settings
from torch import Tensor, nn

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.perceptual import Perceptual, load_trunk


def pictures(count: int = 2, side: int = 40, seed: int = 0) -> Tensor:
    """Smooth random pictures in -1..1."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def distance(perceptual: Perceptual, a: Tensor, b: Tensor) -> Tensor:
    return perceptual.distance(perceptual.features(a), perceptual.features(b))


def saved(path: Path, thing: object) -> Path:
    torch.save(thing, path)
    return path


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained AlexNet: its file is what torchvision's trained one looks like."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        state = torchvision.models.alexnet(weights=None).state_dict()
    return saved(tmp_path_factory.mktemp("trunk") / "staged.pth", state)


def test_equal_images_have_no_distance(perceptual: Perceptual) -> None:
    a = pictures()
    assert distance(perceptual, a, a.clone()).tolist() == [0.0, 0.0]


def test_the_distance_grows_with_the_noise(perceptual: Perceptual) -> None:
    a = pictures(1)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    found = [float(distance(perceptual, a, a + size * noise)) for size in (0.01, 0.05, 0.2, 0.5)]
    assert 0 < found[0] < found[1] < found[2] < found[3]


def test_the_distance_to_features_is_the_distance(perceptual: Perceptual) -> None:
    a, b = pictures(seed=0), pictures(seed=1)
    found = perceptual.distance_to(a, perceptual.features(b))
    assert torch.equal(found, distance(perceptual, a, b))


def test_the_distance_and_its_gradient_in_low_precision_are_near() -> None:
    exact, target = Perceptual(None, "bfloat16"), pictures(seed=1)
    results = []
    for perceptual in (exact, exact.low_precision):
        image = pictures(seed=0).requires_grad_(True)
        value = perceptual.distance_to(image, perceptual.features(target))
        assert value.dtype == torch.float32
        results.append((value, torch.autograd.grad(value.sum(), image)[0]))
    (expected, there), (found, here) = results
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)
    assert not torch.equal(found, expected)
    assert torch.cosine_similarity(here.flatten(), there.flatten(), dim=0) > 0.99


def test_the_precision_concerns_low_precision_alone(perceptual: Perceptual) -> None:
    a, b = pictures(seed=0), pictures(seed=1)
    low = Perceptual(None, "bfloat16")
    assert torch.equal(distance(low, a, b), distance(perceptual, a, b))
    assert low.low_precision.name == low.name
    assert perceptual.low_precision is perceptual


def test_each_pair_of_a_batch_has_its_own_distance(perceptual: Perceptual) -> None:
    a, b = pictures(3, seed=0), pictures(3, seed=1)
    b[1] = a[1]
    together = distance(perceptual, a, b)
    assert together.shape == (3,)
    assert together[1] == 0
    for i in (0, 2):
        alone = distance(perceptual, a[i : i + 1], b[i : i + 1])[0]
        torch.testing.assert_close(together[i], alone)


def test_the_distance_pulls_an_image_towards_its_target(perceptual: Perceptual) -> None:
    target, image = pictures(1, seed=0), pictures(1, seed=1).requires_grad_(True)
    before = distance(perceptual, image, target).sum()
    (gradient,) = torch.autograd.grad(before, image)
    after = distance(perceptual, (image - 1e-3 * gradient / gradient.abs().max()).detach(), target)
    assert float(after) < before.item()


@pytest.mark.parametrize("size", [(40, 40), (32, 32), (33, 47), (35, 64), (63, 34), (38, 41)])
def test_random_weights_give_what_lpips_itself_gives(
    perceptual: Perceptual, size: tuple[int, int]
) -> None:
    """At any size: AlexNet's first convolution is computed in another way."""
    reference = lpips.LPIPS(net="alex", pnet_rand=True, lpips=False, verbose=False)
    reference.net.load_state_dict(perceptual.trunk.state_dict())
    a, b = (pictures(side=64, seed=seed)[:, :, : size[0], : size[1]] for seed in (0, 1))
    expected = reference.eval()(a, b).flatten()
    torch.testing.assert_close(distance(perceptual, a, b), expected, rtol=1e-4, atol=1e-7)


def test_staged_weights_give_what_lpips_itself_gives(trunk: Path) -> None:
    staged = Perceptual(trunk)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, lpips=True, verbose=False)
    reference.net.load_state_dict(staged.trunk.state_dict())
    a, b = pictures(seed=0), pictures(seed=1)
    expected = reference.eval()(a, b).flatten()
    torch.testing.assert_close(distance(staged, a, b), expected, rtol=1e-4, atol=1e-7)


def test_a_staged_trunk_is_loaded_and_named(trunk: Path, perceptual: Perceptual) -> None:
    staged = Perceptual(trunk)
    assert staged.name == "alexnet-staged"
    assert perceptual.name == "alexnet-random-0"
    state = torch.load(trunk, weights_only=True)
    for key, tensor in staged.trunk.state_dict().items():
        assert torch.equal(tensor, state["features." + key.split(".", 1)[1]])


def test_random_weights_are_the_same_every_time(perceptual: Perceptual) -> None:
    torch.manual_seed(99)
    again = Perceptual(None)
    for a, b in zip(perceptual.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_global_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Perceptual(None)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_of_it_is_trained(perceptual: Perceptual) -> None:
    assert not any(p.requires_grad for p in perceptual.parameters())
    assert not perceptual.training


# Files of something else


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """What a trunk is loaded into: making a whole `Perceptual` per file takes seconds."""
    features: nn.Module = lpips.LPIPS(net="alex", pnet_rand=True, lpips=False, verbose=False).net
    return features


def refusal_of(net: nn.Module, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_trunk(net, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not torchvision's alexnet state dict")
    assert "\n" not in message
    return message


def test_a_missing_trunk_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: not torchvision.*No such file"):
        Perceptual(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    "thing",
    [
        None,
        [1, 2],
        torch.zeros(3),
        {"features.0.weight": torch.zeros(1)},
        {f"features.{i}.{k}": 1 for i in (0, 3, 6, 8, 10) for k in ("weight", "bias")},
    ],
    ids=["none", "list", "tensor", "incomplete", "numbers"],
)
def test_a_file_of_something_else_is_named(net: nn.Module, tmp_path: Path, thing: object) -> None:
    refusal_of(net, saved(tmp_path / "other.pth", thing))


def test_a_trunk_of_another_network_says_what_is_missing(net: nn.Module, tmp_path: Path) -> None:
    state = torchvision.models.vgg11(weights=None, num_classes=2).features.state_dict()
    assert "features.0.weight" in refusal_of(net, saved(tmp_path / "vgg.pth", state))


class _Marker:
    """Pickles as a call that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self._path), "w")


def test_a_pickle_is_refused_and_not_executed(net: nn.Module, tmp_path: Path) -> None:
    path, marker = tmp_path / "trap.pth", tmp_path / "executed"
    path.write_bytes(pickle.dumps(_Marker(marker)))
    message = refusal_of(net, path)
    assert not marker.exists()
    assert "weights_only" not in message  # no advice to execute it after all


def test_a_truncated_trunk_is_named(net: nn.Module, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(100)}, buffer)
    path = tmp_path / "cut.pth"
    for length in range(0, len(buffer.getvalue()), 400):
        path.write_bytes(buffer.getvalue()[:length])
        refusal_of(net, path)


@given(st.binary(max_size=40))
@example(b"G")  # a number that ends too early
@example(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # the head of torch's old format
@settings(max_examples=50)
def test_arbitrary_bytes_raise_nothing_else(net: nn.Module, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.pth"
    path.write_bytes(data)
    refusal_of(net, path)
