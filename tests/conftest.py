"""One thread per test process, and tiny untrained generators that any test may share.

The generators are frozen and their weights are drawn once: random, with biases and noise that are
not zero, because a fresh network has both at zero and hides mistakes in them.
"""

from __future__ import annotations

import os

# Before anything imports Triton: the kernels for GPUs run on the CPU, in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis
import pytest
import torch

from insetgan_batch.nets.checkpoint import Checkpoint
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from tests.bench import fields, montages, tiny_models  # noqa: F401 - fixtures for every room
from tests.methods.negative_bench import negatives  # noqa: F401

torch.set_num_threads(1)

# No test depends on how fast the machine is just now. What a fixture makes for one test serves all
# of its examples: they take it as it is.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("any machine")

_CPU = torch.device("cpu")


def random_generator(architecture: Architecture, seed: int = 0) -> StyleGAN2:
    """A generator whose weights are all random, `w_avg` too; global random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = StyleGAN2(architecture)
        with torch.no_grad():
            for name, parameter in generator.named_parameters():
                if name.endswith(("bias", "noise_strength")):
                    parameter.add_(0.3 * torch.randn_like(parameter))
            generator.mapping.w_avg.normal_(std=0.3)
    return generator


def frozen(architecture: Architecture, seed: int) -> Generator:
    """The same, standing still."""
    generator = random_generator(architecture, seed).freeze()
    return Generator(Checkpoint(generator, {}, f"tiny-{seed}"), _CPU)


@pytest.fixture(scope="session")
def tiny_canvas() -> Generator:
    """Paints 64x32 in five blocks."""
    return frozen(Architecture((4, 2), (8,) * 5, z_dim=16, w_dim=8, mapping_layers=2), seed=1)


@pytest.fixture(scope="session")
def tiny_face() -> Generator:
    """Paints 32x32 in four blocks."""
    return frozen(Architecture((4, 4), (8,) * 4, z_dim=16, w_dim=8, mapping_layers=2), seed=2)


@pytest.fixture(scope="session")
def perceptual() -> Perceptual:
    """Seeded random features."""
    return Perceptual(None)
