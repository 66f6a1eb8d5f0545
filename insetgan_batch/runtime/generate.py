"""Images of seeds, straight from one generator: to look at a model before a run is spent on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from insetgan_batch.data import models
from insetgan_batch.inset.images import to_pixels
from insetgan_batch.nets.generator import Generator, best_device

_BATCH = 16


def generate(model: str, seeds: Sequence[int], psi: float, out: Path) -> Iterator[Path]:
    """Write `seed<n>.png` for every seed and `sheet.png` of all; yields each path when it is
    written.

    psi: truncation, 1 untouched, 0 the average. Raises `CheckpointError`, `StorageError`.
    """
    generator = Generator.load(models.fetch(model).path, best_device())
    out.mkdir(parents=True, exist_ok=True)
    pictures: list[np.ndarray] = []
    for first in range(0, len(seeds), _BATCH):
        some = seeds[first : first + _BATCH]
        batch = to_pixels(generator.images_of_seeds(some, psi)).cpu().numpy()
        for seed, pixels in zip(some, batch, strict=True):
            path = out / f"seed{seed:04d}.png"
            Image.fromarray(pixels).save(path)
            yield path
        pictures.extend(batch)
    path = out / "sheet.png"
    Image.fromarray(contact_sheet(pictures)).save(path)
    yield path


def contact_sheet(pictures: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Pictures of one size `[H W 3]` side by side, row by row; about twice as wide as high by
    default.
    """
    height, width = pictures[0].shape[:2]
    columns = columns or min(
        len(pictures), math.ceil(math.sqrt(2 * len(pictures) * height / width))
    )
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = divmod(i, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = picture
    return sheet
