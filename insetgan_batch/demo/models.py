"""The demo generators: their architectures, where their weights are, and how they were taught.

`demo/canvas` paints a whole person, 256x128; `demo/face` paints a head, 128x128. Both read the same
z, so that canvas seed 5 and face seed 5 are the same person.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from insetgan_batch.demo.person import Z_DIM
from insetgan_batch.nets.stylegan2 import Architecture


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One resolution of the growing training.

    blocks: synthesis blocks in use, the base counts as one.
    """

    blocks: int
    batch: int
    steps: int


@dataclasses.dataclass(frozen=True, slots=True)
class DemoModel:
    """What `demo/train.py` needs to know. view: of `people.PeopleRenderer.render`."""

    name: str
    view: Literal["body", "face"]
    architecture: Architecture
    stages: tuple[Stage, ...]


CANVAS = DemoModel(
    name="canvas",
    view="body",
    architecture=Architecture(
        base=(4, 2),
        channels=(128, 128, 128, 96, 48, 24, 12),
        z_dim=Z_DIM,
        w_dim=128,
        mapping_layers=4,
        # The paper's 0.01 makes training by regression stall: w hardly moves.
        mapping_lr_multiplier=1.0,
    ),
    stages=(Stage(4, 32, 1200), Stage(5, 32, 1500), Stage(6, 24, 2000), Stage(7, 16, 3200)),
)

FACE = DemoModel(
    name="face",
    view="face",
    architecture=Architecture(
        base=(4, 4),
        channels=(128, 128, 128, 64, 32, 16),
        z_dim=Z_DIM,
        w_dim=128,
        mapping_layers=4,
        mapping_lr_multiplier=1.0,
    ),
    stages=(Stage(4, 32, 1200), Stage(5, 24, 1500), Stage(6, 16, 3000)),
)

MODELS = {model.name: model for model in (CANVAS, FACE)}


def weights_path(name: str) -> Path:
    """The weights of a demo generator that ship with the package."""
    return Path(__file__).parent / f"{name}.safetensors"
