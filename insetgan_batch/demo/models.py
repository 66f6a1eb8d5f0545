"""The demo generators: their architectures, where their weights are, and how they were taught.

`demo:canvas` paints a whole person, 256x128; `demo:face` a head and `demo:shoes` a pair of shoes,
both 128x128. All read the same z, so that canvas seed 5 and face seed 5 are the same person.
"""

from __future__ import annotations

import dataclasses

from insetgan_batch.nets.stylegan2 import Architecture
from insetgan_batch.people.person import Z_DIM
from insetgan_batch.people.renderer import View


@dataclasses.dataclass(frozen=True, slots=True)
class GrowthStage:
    """Steps at one resolution. blocks: of synthesis in use, the base counts as one."""

    blocks: int
    batch: int
    steps: int


@dataclasses.dataclass(frozen=True, slots=True)
class GeneratorSchedule:
    """Growth stages under one cosine.

    The step size falls from `learning_rate` along a cosine that reaches 0 after `decay_steps`. The
    part (the head, or the shoes) weighs `part_weight` times as much as the rest of the picture.
    """

    stages: tuple[GrowthStage, ...]
    learning_rate: float
    decay_steps: int
    part_weight: float

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)


@dataclasses.dataclass(frozen=True, slots=True)
class DemoModel:
    """One generator and its training. view: of `PeopleRenderer.render`."""

    name: str
    view: View
    architecture: Architecture
    schedules: tuple[GeneratorSchedule, ...]

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return sum(schedule.steps for schedule in self.schedules)


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
    schedules=(
        GeneratorSchedule(
            (
                GrowthStage(4, 32, 1200),
                GrowthStage(5, 32, 1500),
                GrowthStage(6, 24, 2000),
                GrowthStage(7, 16, 2040),
            ),
            learning_rate=3e-3,
            decay_steps=7900,
            part_weight=3,
        ),
        # A face is 1.5 % of the picture: without this schedule MTCNN finds it in four of five only.
        GeneratorSchedule(
            (GrowthStage(7, 16, 2000),), learning_rate=1.5e-3, decay_steps=2000, part_weight=20
        ),
    ),
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
    schedules=(
        GeneratorSchedule(
            (GrowthStage(4, 32, 1200), GrowthStage(5, 24, 1500), GrowthStage(6, 16, 3000)),
            learning_rate=3e-3,
            decay_steps=5700,
            part_weight=3,
        ),
    ),
)

SHOES = DemoModel(
    name="shoes",
    view="shoes",
    architecture=Architecture(
        base=(4, 4),
        channels=(96, 96, 96, 48, 24, 12),
        z_dim=Z_DIM,
        w_dim=128,
        mapping_layers=4,
        mapping_lr_multiplier=1.0,
    ),
    schedules=(
        GeneratorSchedule(
            (GrowthStage(4, 32, 900), GrowthStage(5, 24, 900), GrowthStage(6, 16, 1400)),
            learning_rate=3e-3,
            decay_steps=3200,
            part_weight=3,
        ),
    ),
)

MODELS = {model.name: model for model in (CANVAS, FACE, SHOES)}
# (height, width) of the pictures that they are trained on, by view.
PICTURE_SIZES: dict[View, tuple[int, int]] = {
    model.view: model.architecture.image_size for model in MODELS.values()
}
