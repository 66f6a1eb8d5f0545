"""Two networks with an optimiser each, which draw from every source of random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from insetgan_batch.demo import training_state
from insetgan_batch.errors import CheckpointError


class Pair:
    """A training of two networks. Each step depends on what the steps before have left."""

    def __init__(self, width: int = 3) -> None:
        self.networks = {"a": nn.Linear(2, width), "b": nn.Linear(width, 1)}
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), 0.1)
            for name, network in self.networks.items()
        }
        self.steps = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            drawn = torch.rand(2) + random.random() + float(np.random.rand())
            loss = self.networks["b"](self.networks["a"](drawn)).square().sum()
            for optimizer in self.optimizers.values():
                optimizer.zero_grad()
            torch.autograd.backward(loss)
            for optimizer in self.optimizers.values():
                optimizer.step()
            self.steps += 1

    def save(self, path: Path) -> None:
        training_state.save(
            path,
            networks=self.networks,
            optimizers=self.optimizers,
            counters={"steps": self.steps},
        )

    def load(self, path: Path) -> None:
        counters = training_state.load(path, networks=self.networks, optimizers=self.optimizers)
        self.steps = counters["steps"]

    def weights(self) -> list[float]:
        every = [p for network in self.networks.values() for p in network.parameters()]
        flat: list[float] = torch.cat([p.detach().flatten() for p in every]).tolist()
        return flat


@pytest.fixture(autouse=True)
def _own_random_numbers() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)


def test_a_loaded_training_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    whole = Pair()
    whole.run(3)
    whole.save(tmp_path / "state.pt")
    whole.run(4)
    for draw in (torch.rand, np.random.rand):  # another process has drawn other numbers
        draw(7)
    random.random()
    resumed = Pair()
    resumed.load(tmp_path / "state.pt")
    resumed.run(4)
    assert resumed.steps == whole.steps == 7
    assert resumed.weights() == whole.weights()


def test_a_write_that_fails_leaves_the_earlier_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    pair = Pair()
    pair.run(1)
    pair.save(path)
    saved = pair.weights()
    pair.run(1)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        pair.save(path)
    pair.load(path)
    assert (pair.steps, pair.weights()) == (1, saved)
    assert [*tmp_path.iterdir()] == [path]


def saved_by_another_program(path: Path) -> None:
    torch.save({"generator": {}, "step": 3}, path)


def cut(path: Path) -> None:
    Pair().save(path)
    path.write_bytes(path.read_bytes()[:200])


def of_other_networks(path: Path) -> None:
    pair = Pair()
    pair.networks["c"] = nn.Linear(1, 1)
    pair.save(path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (saved_by_another_program, "in format None, expected 1"),
        (cut, "damaged, or no state of a training"),
        (of_other_networks, r"found the networks \['a', 'b', 'c'\], expected \['a', 'b'\]"),
        (lambda path: Pair(width=4).save(path), "size mismatch"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
    ],
)
def test_a_file_of_something_else_is_one_line_that_names_it(
    write: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    write(path)
    with pytest.raises(CheckpointError, match=said) as caught:
        Pair().load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
