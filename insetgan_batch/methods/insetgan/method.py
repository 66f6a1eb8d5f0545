"""InsetGAN as a run knows it: see `method.Method`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from insetgan_batch.method import Engine, Schema
from insetgan_batch.methods.insetgan import sources
from insetgan_batch.methods.insetgan.card import card
from insetgan_batch.methods.insetgan.errors import (
    DivergedError,
    FarInversionError,
    LostFaceError,
    NoFaceFoundError,
)
from insetgan_batch.methods.insetgan.measures import MEASURES
from insetgan_batch.methods.insetgan.page import page
from insetgan_batch.methods.insetgan.recipe_variants import stages
from insetgan_batch.methods.insetgan.settings import Settings

if TYPE_CHECKING:
    import torch

    from insetgan_batch.config import Machine

__all__ = [
    "MEASURES",
    "REASONS",
    "Settings",
    "card",
    "load",
    "page",
    "phases",
    "rows",
    "rows_of_run",
    "steps",
]

REASONS = {
    FarInversionError.reason: "picture cannot be painted",
    NoFaceFoundError.reason: "no face found",
    LostFaceError.reason: "the part was lost on the canvas",
    DivergedError.reason: "a loss is no longer a number",
}


def rows(settings: Settings) -> Schema:
    """By the insets of the settings."""
    return sources.schema(list(settings.insets))


def rows_of_run(run: Mapping[str, Any]) -> Schema:
    """By the insets of its run.json."""
    return sources.schema(list(run.get("configuration", {}).get("insets", {})))


def phases(settings: Settings) -> list[str]:
    """The canvas and each inset, which move one after the other."""
    return list(settings.recipe.generators)


def steps(settings: Settings) -> int:
    """Of all rounds of all stages."""
    return sum(
        rounds * sum(own.steps for own in stage.generators.values())
        for rounds, stage in stages(settings.recipe)
    )


def load(settings: Settings, machine: Machine, device: torch.device) -> Engine:
    """The batch of a worker; raises `CheckpointError` or `StorageError`."""
    from insetgan_batch.methods.insetgan.engine import (
        Engine as InsetGanEngine,  # torch: not for all
    )

    return InsetGanEngine(settings, machine.least_slots, device)
