"""The benches of this room: one in float32, one in float64."""

from __future__ import annotations

import pytest
import torch

from insetgan_batch.nets.checkpoint import Checkpoint
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.nets.stylegan2 import Architecture
from tests.conftest import random_generator
from tests.methods.insetgan.bench import Bench

CANVAS = Architecture((4, 2), (8,) * 5, z_dim=16, w_dim=8, mapping_layers=2)  # 64x32
FACE = Architecture((4, 4), (8,) * 4, z_dim=16, w_dim=8, mapping_layers=2)  # 32x32


@pytest.fixture(scope="session")
def bench(tiny_canvas: Generator, tiny_face: Generator, perceptual: Perceptual) -> Bench:
    return Bench({"canvas": tiny_canvas, "face": tiny_face}, perceptual)


@pytest.fixture(scope="session")
def double_bench() -> Bench:
    """No rounding to speak of: whatever differs by more is a mistake."""
    generators = {"canvas": _double(CANVAS, 1), "face": _double(FACE, 2), "hat": _double(FACE, 4)}
    return Bench(generators, Perceptual(None).double())


def _double(architecture: Architecture, seed: int) -> Generator:
    network = random_generator(architecture, seed).double().freeze()
    return Generator(Checkpoint(network, {}, f"tiny-{seed}"), torch.device("cpu"))
