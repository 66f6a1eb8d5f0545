"""Valid files of every layout, ways to change one thing in them, and how a refusal is checked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from insetgan_batch.cli.main import app
from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import reader
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from tests.nets.foreign import originals, pretend
from tests.nets.foreign.nvidia_parts import nvidia_generator, nvidia_tensors
from tests.nets.foreign.tf_parts import tf_network, tf_options, tf_variables

SMALL = Architecture((4, 4), (3, 2), z_dim=4, w_dim=4, mapping_layers=2)
TENSORS = nvidia_tensors(SMALL)

VALID: dict[str, bytes] = {
    "nvidia": originals.nvidia(SMALL).data,
    "nvidia, protocol 2": originals.nvidia(SMALL, protocol=2, content="G_ema").data,
    "tensorflow": originals.tensorflow(SMALL).data,
    "tensorflow, protocol 5": originals.tensorflow(SMALL, protocol=5, old_numpy=False).data,
    "rosinality": originals.rosinality(SMALL).data,
    "rosinality, legacy": originals.rosinality(SMALL, training=True, zipped=False).data,
    "state dict": originals.state_dict(SMALL, prefix="module.").data,
    "safetensors": originals.state_dict(SMALL, container="safetensors").data,
    "ours": safetensors.torch.save(
        StyleGAN2(SMALL).state_dict(),
        {
            "insetgan_batch": json.dumps(
                {
                    "format": 1,
                    "architecture": {"base": [4, 4], "channels": [3, 2]}
                    | {"z_dim": 4, "w_dim": 4, "mapping_layers": 2},
                }
            )
        },
    ),
}


def checked(message: str, path: Path) -> str:
    """The message without the file's name, which it begins with; it is one line, and short."""
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 450
    return message.removeprefix(f"{path}: ")


def refusal_of(data: bytes, directory: Path) -> str:
    """The one line with which the reader and the command refuse a file, which changes nothing."""
    path, out = directory / "people.bin", directory / "out"
    path.write_bytes(data)
    before = contents_of(directory)
    with pytest.raises(CheckpointError) as caught:
        reader.read(path)
    message = str(caught.value)
    result = CliRunner().invoke(app, ["import", str(path), "--out", str(out)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"insetgan-batch: {message}\n"
    assert contents_of(directory) == before
    return checked(message, path)


def contents_of(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def read(data: bytes, directory: Path) -> reader.Contents:
    path = directory / "people.bin"
    path.write_bytes(data)
    return reader.read(path)


def snapshot(change: Callable[[Any], object], a: Architecture = SMALL) -> bytes:
    """A pickle of NVIDIA's modules, one of which was changed."""
    generator = nvidia_generator(a, nvidia_tensors(a))
    change(generator)
    return pretend.pickled({"G_ema": generator})


def networks(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A pickle of a TensorFlow network, whose state was changed."""
    network = tf_network("Gs", 6, tf_options(SMALL), *tf_variables(SMALL))
    change(network.__dict__)
    return pretend.pickled(network)


def saved(value: object, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


LAUGH: Any = ()
for _ in range(60):
    LAUGH = (LAUGH, LAUGH)


def variable(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Another value for one variable of the synthesis."""

    def change(state: dict[str, Any]) -> None:
        variables = state["components"]["synthesis"].__dict__["variables"]
        variables[:] = [(n, value if n == name else v) for n, v in variables]

    return change
