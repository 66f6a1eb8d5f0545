"""What the bundled demo generators promise, measured: faces found in fresh seeds, and the size of
the weights.
"""

from __future__ import annotations

import dataclasses

import torch
from rich.progress import track

from insetgan_batch.data.models import demo_path
from insetgan_batch.demo.models import MODELS
from insetgan_batch.inset.images import to_pixels
from insetgan_batch.nets.detector import (
    SMALLEST_FACE_OF_CANVAS,
    SMALLEST_FACE_OF_INSET,
    FaceDetector,
)
from insetgan_batch.nets.generator import Generator

FRESH_SEEDS = range(200)
PSI = 0.7
MOST_MEGABYTES = 30.0
_LEAST_FOUND = {"canvas": 0.95, "face": 0.99}
_SMALLEST_FACE = {"canvas": SMALLEST_FACE_OF_CANVAS, "face": SMALLEST_FACE_OF_INSET}
_BATCH = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """One generator: in how many of the images of fresh seeds MTCNN finds a face, and its file."""

    name: str
    images: int
    found: int
    least_share: float
    megabytes: float
    sha256: str

    @property
    def holds(self) -> bool:
        """Whether enough faces were found."""
        return self.found >= self.least_share * self.images


def check(name: str) -> Checked:
    """Paint 200 fresh seeds at psi 0.7 with a bundled generator and look for faces, with a progress
    bar.
    """
    device = torch.device("cpu")
    path = demo_path(name)
    generator = Generator.load(path, device)
    detector = FaceDetector(device, smallest_face=_SMALLEST_FACE[name])
    found = 0
    for first in track(range(0, len(FRESH_SEEDS), _BATCH), f"looking for faces: {name}"):
        images = generator.images_of_seeds(FRESH_SEEDS[first : first + _BATCH], PSI)
        found += sum(box is not None for box in detector.find(to_pixels(images)))
    return Checked(
        name=name,
        images=len(FRESH_SEEDS),
        found=found,
        least_share=_LEAST_FOUND[name],
        megabytes=path.stat().st_size / 1e6,
        sha256=generator.sha256,
    )


def check_all() -> list[Checked]:
    """Every bundled generator."""
    return [check(name) for name in MODELS]
