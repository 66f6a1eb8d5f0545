"""InsetGAN as a run knows it: see `method.Method`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from insetgan_batch.method import Engine, Schema
from insetgan_batch.methods.insetgan import sources
from insetgan_batch.methods.insetgan.measures import MEASURES
from insetgan_batch.methods.insetgan.old_runs import upgrade_commit, upgrade_quarantined
from insetgan_batch.methods.insetgan.page import page
from insetgan_batch.methods.insetgan.sources import seed_id
from insetgan_batch.recipe_variants import stages

if TYPE_CHECKING:
    import torch

    from insetgan_batch.config import RunConfig

__all__ = [
    "MEASURES",
    "REASONS",
    "load",
    "page",
    "phases",
    "rows",
    "rows_of_run",
    "seed_id",
    "steps",
    "upgrade_commit",
    "upgrade_quarantined",
    "warnings",
    "with_models",
]

REASONS = {
    "far_inversion": "picture cannot be painted",
    "no_face": "no face found",
    "lost_face": "the part was lost on the canvas",
    "diverged": "a loss is no longer a number",
}


def rows(config: RunConfig) -> Schema:
    """By the insets of the configuration."""
    return sources.schema(list(config.insets))


def rows_of_run(run: Mapping[str, Any]) -> Schema:
    """By the insets of its run.json."""
    return sources.schema(list(run.get("configuration", {}).get("insets", {})))


def phases(config: RunConfig) -> list[str]:
    """The canvas and each inset, which move one after the other."""
    return list(config.recipe.generators)


def steps(config: RunConfig) -> int:
    """Of all rounds of all stages."""
    return sum(
        rounds * sum(own.steps for own in stage.generators.values())
        for rounds, stage in stages(config.recipe)
    )


def warnings(config: RunConfig) -> list[str]:
    """Random features say little about real pictures."""
    if not config.insets or config.perceptual_trunk is not None:
        return []
    return ["LPIPS compares random features: fine for the demo, not for real models"]


def with_models(config: RunConfig, names: Mapping[str, str]) -> RunConfig:
    """Generators, LPIPS, encoders and FaceNets by other names."""
    return dataclasses.replace(
        config,
        canvas=names["canvas"],
        insets={name: names[name] for name in config.insets},
        perceptual=names.get("perceptual", config.perceptual),
        encoders={name: names[f"encoder.{name}"] for name in config.encoder_models},
        identity={name: names[f"identity.{name}"] for name in config.identity},
    )


def load(config: RunConfig, device: torch.device) -> Engine:
    """The batch of a worker; raises `CheckpointError` or `StorageError`."""
    from insetgan_batch.methods.insetgan.engine import (
        Engine as InsetGanEngine,  # torch: not for all
    )

    return InsetGanEngine(config, device)
