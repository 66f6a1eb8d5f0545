"""Tiny untrained generators, and a configuration that uses them: a round takes milliseconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from insetgan_batch.config import RunConfig, parse
from insetgan_batch.data import manifest
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from tests.records import montage_items

CANVAS = Architecture((4, 2), (8, 8, 8, 8, 8), z_dim=16, w_dim=16, mapping_layers=2)  # 64x32
FACE = Architecture((4, 4), (8, 8, 8, 8), z_dim=16, w_dim=16, mapping_layers=2)  # 32x32


@dataclasses.dataclass(frozen=True)
class Bench:
    """A place to run in: configuration, and where manifest and output are."""

    config: RunConfig
    manifest: str
    out: str


def changed(config: RunConfig, **changes: Any) -> RunConfig:
    """With other settings of its method."""
    return dataclasses.replace(config, settings=dataclasses.replace(config.settings, **changes))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    paths = {}
    for name, architecture in (("canvas", CANVAS), ("face", FACE)):
        paths[name] = directory / f"{name}.safetensors"
        checkpoint.save(paths[name], StyleGAN2(architecture), {"name": f"tiny {name}"})
    return paths


def fields_of(models: dict[str, Path]) -> dict[str, Any]:
    """The configuration as a YAML file would hold it."""
    return {
        "canvas": str(models["canvas"]),
        "insets": {"face": str(models["face"])},
        "detector": {"fixed": {"canvas": [8, 8, 20, 24], "face": [8, 8, 24, 28]}},
        "perceptual": "random",
        "slots": 2,
        "max_actors": 1,  # each imports torch, which costs more than the items
        "recipe": {
            "resolution": 32,
            "coarse_size": 32,
            "min_rounds": 2,
            "max_rounds": 2,
            "stages": [],
            "canvas": {"steps": 2},
            "insets": {"face": {"steps": 2}},
        },
    }


def bench_in(directory: Path, fields: dict[str, Any], bodies: int, faces: int) -> Bench:
    """A bench there, with a montage of so many bodies and faces."""
    uri = str(directory / "manifest.parquet")
    items = montage_items(range(bodies), range(10, 10 + faces))
    manifest.write(uri, items, schema(["face"]))
    return Bench(parse(fields, "test"), uri, str(directory / "out"))


@pytest.fixture
def fields(tiny_models: dict[str, Path]) -> dict[str, Any]:
    """A configuration of the tiny generators, to be changed."""
    return fields_of(tiny_models)


@pytest.fixture
def montages(tmp_path: Path, fields: dict[str, Any]) -> Callable[..., Bench]:
    """Makes a bench for this test; `changes` go over the fields."""

    def make(bodies: int = 2, faces: int = 2, **changes: Any) -> Bench:
        return bench_in(tmp_path, fields | changes, bodies, faces)

    return make
