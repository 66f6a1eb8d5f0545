"""The run itself: its inputs, and its driver as a process that is started again when it ends early.

InsetGAN's generators are tiny, and an item takes so many rounds of them that it lasts a second or
so: long enough for a fault to hit work in progress. Negatives take no time, so there are many.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml

from insetgan_batch.config import Settings
from insetgan_batch.data import manifest
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import StyleGAN2
from insetgan_batch.records import Item
from tests.bench import CANVAS, FACE
from tests.methods import negative
from tests.records import montage_items

BODIES, FACES = 4, 6
NEGATIVES = 400
FINISHED = (0, 1)
_ROUNDS = 10
_PROGRESS_LINE = re.compile(r"\d+/\d+ items,|loading|starting Ray|\(raylet|^\s*$")


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """What the command names, and the ids of the items in the manifest."""

    config: Path
    manifest: Path
    item_ids: frozenset[str]


def write_inputs(directory: Path, *, bodies: int = BODIES, faces: int = FACES) -> Inputs:
    """Tiny generators, a configuration that uses them, and a manifest of bodies x faces."""
    torch.manual_seed(0)
    models = {}
    for name, architecture in (("canvas", CANVAS), ("face", FACE)):
        models[name] = directory / f"{name}.safetensors"
        checkpoint.save(models[name], StyleGAN2(architecture), {"name": f"tiny {name}"})
    fields = {
        "canvas": str(models["canvas"]),
        "insets": {"face": str(models["face"])},
        "detector": {"fixed": {"canvas": [8, 8, 20, 24], "face": [8, 8, 24, 28]}},
        "perceptual": "random",
        "slots": 2,
        "recipe": {
            "resolution": 32,
            "coarse_size": 32,
            "min_rounds": _ROUNDS,
            "max_rounds": _ROUNDS,
            "stages": [],
            "canvas": {"steps": 2},
            "insets": {"face": {"steps": 2}},
        },
    }
    inputs = Inputs(
        directory / "run.yaml",
        directory / "manifest.parquet",
        frozenset(f"body{b}-face{10 + f}" for b in range(bodies) for f in range(faces)),
    )
    inputs.config.write_text(yaml.safe_dump(fields))
    items = montage_items(range(bodies), range(10, 10 + faces))
    manifest.write(str(inputs.manifest), items, schema(["face"]))
    return inputs


def write_negative_inputs(directory: Path, *, items: int = NEGATIVES) -> Inputs:
    """So many rows of some pictures, for the method `negative`."""
    pictures = [directory / f"{level}.png" for level in range(1, 256, 16)]
    for level, path in zip(range(1, 256, 16), pictures, strict=True):
        path.write_bytes(negative.picture(level))
    rows = [Item(f"i{n:04d}", {"picture": str(pictures[n % len(pictures)])}) for n in range(items)]
    inputs = Inputs(
        directory / "run.yaml",
        directory / "manifest.parquet",
        frozenset(row.item_id for row in rows),
    )
    inputs.config.write_text(yaml.safe_dump({"method": negative.NAME, "slots": 2}))
    manifest.write(str(inputs.manifest), rows, negative.rows(Settings()))
    return inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """One process of the driver. code: its exit code, negative for a signal; said: the end of what
    it wrote that is not progress.
    """

    code: int
    seconds: float
    said: list[str]


class Driver:
    """The command, started anew as often as it takes. lives: those that have ended."""

    def __init__(self, inputs: Inputs, out: str, log_directory: Path) -> None:
        self.lives: list[Life] = []
        self._command = [sys.executable, "-m", "insetgan_batch", "run", str(inputs.config)]
        self._command += ["--manifest", str(inputs.manifest), "--out", out]
        self._logs = log_directory
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    @property
    def has_finished(self) -> bool:
        """Whether the last life ended with everything done or quarantined."""
        return self._process is None and bool(self.lives) and self.lives[-1].code in FINISHED

    @property
    def is_running(self) -> bool:
        """Whether there is a process; the end of one is noticed here."""
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._bury(code)
        return False

    def start(self, ray_address: str) -> None:
        """The same command once more."""
        log = self._log()
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                self._command,
                env=os.environ | {"RAY_ADDRESS": ray_address},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._started_s = time.monotonic()

    def kill(self) -> None:
        """kill -9, if it is there."""
        if self._process is not None and self.is_running:
            self._process.send_signal(signal.SIGKILL)
            self._bury(self._process.wait())

    def stop(self) -> None:
        """SIGTERM, if it is there; it ends when it has handed over what it had in work."""
        if self._process is not None and self.is_running:
            self._process.send_signal(signal.SIGTERM)

    def _bury(self, code: int) -> None:
        lines = self._log().read_text(errors="replace").splitlines()
        said = [line[:400] for line in lines if not _PROGRESS_LINE.search(line)]
        self._process = None
        self.lives.append(Life(code, round(time.monotonic() - self._started_s, 1), said[-8:]))

    def _log(self) -> Path:
        return self._logs / f"driver-{len(self.lives) + 1}.log"
