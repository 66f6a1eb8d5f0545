"""InsetGAN as a run knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from insetgan_batch.method import Engine, Schema
from insetgan_batch.methods.insetgan import sources
from insetgan_batch.methods.insetgan.measures import MEASURES
from insetgan_batch.methods.insetgan.old_runs import upgrade_commit, upgrade_quarantined
from insetgan_batch.methods.insetgan.sources import schema, seed_id

if TYPE_CHECKING:
    import torch

    from insetgan_batch.config import RunConfig

__all__ = [
    "MEASURES",
    "load",
    "schema",
    "schema_of_run",
    "seed_id",
    "upgrade_commit",
    "upgrade_quarantined",
]


def schema_of_run(run: Mapping[str, Any]) -> Schema:
    """The rows of a run, by its run.json."""
    return sources.schema(list(run.get("configuration", {}).get("insets", {})))


def load(config: RunConfig, device: torch.device) -> Engine:
    """The batch of a worker; raises `CheckpointError` or `StorageError`."""
    from insetgan_batch.methods.insetgan.engine import (
        Engine as InsetGanEngine,  # torch: not for all
    )

    return InsetGanEngine(config, device)
