"""Images of seeds, straight from one generator: to look at a model before a run is spent on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from insetgan_batch.data import models
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods.insetgan.images import to_pixels
from insetgan_batch.nets.devices import Precision, best_device
from insetgan_batch.nets.generator import Generator

_BATCH = 16
_MOST_ON_A_SHEET = 100
_PILLOW_CHANNELS = (1, 3, 4)  # gray, RGB, RGBA


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PaintSettings:
    """How seeds become files.

    psi: truncation, 1 untouched, 0 the average; one number, or one per layer. label: the class, of
    a generator with classes. file_format: npy keeps the floats as they are, `[C H W]`, nominally in
    -1..1; WebP is lossless.
    """

    psi: float | Sequence[float] = 0.7
    label: int | None = None
    noise: Literal["const", "none", "random"] = "const"
    file_format: Literal["png", "webp", "npy"] = "png"
    precision: Precision = "float32"


def generate(
    model: str, seeds: Sequence[int], settings: PaintSettings, out: Path
) -> Iterator[Path]:
    """Write `seed<n>.<format>` for every seed and `sheet.png` of the first hundred; yields each
    path when it is written.

    Raises `CheckpointError`, `StorageError`, and `ConfigError` for settings that the generator
    cannot serve; then nothing is written.
    """
    file = models.fetch(model)
    path, device = file.path, best_device()
    generator = models.loaded(
        file, lambda path: Generator.load(path, device, precision=settings.precision)
    ).low_precision
    if settings.file_format != "npy" and generator.image_channels not in _PILLOW_CHANNELS:
        raise ConfigError(f"{path}: {generator.image_channels} channels are no picture; use npy")
    try:
        generator.seeds_to_ws(seeds[:1], settings.psi, settings.label)
    except ValueError as err:
        raise ConfigError(f"{path}: {err}") from err
    out.mkdir(parents=True, exist_ok=True)
    pictures: list[np.ndarray] = []
    for first in range(0, len(seeds), _BATCH):
        some = seeds[first : first + _BATCH]
        images = generator.images_of_seeds(
            some, settings.psi, label=settings.label, noise=settings.noise
        )
        pixels = to_pixels(images).cpu().numpy()
        for seed, image, picture in zip(some, images.cpu().numpy(), pixels, strict=True):
            path = out / f"seed{seed:04d}.{settings.file_format}"
            if settings.file_format == "npy":
                np.save(path, image)
            else:
                _picture(picture).save(path, lossless=True)
            yield path
        pictures.extend(pixels[: _MOST_ON_A_SHEET - len(pictures)])
    if generator.image_channels in _PILLOW_CHANNELS:
        path = out / "sheet.png"
        _picture(contact_sheet(pictures)).save(path)
        yield path


def contact_sheet(pictures: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Pictures of one size `[H W C]` side by side, row by row; about twice as wide as high by
    default.
    """
    height, width, channels = pictures[0].shape
    columns = columns or min(
        len(pictures), math.ceil(math.sqrt(2 * len(pictures) * height / width))
    )
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * height, columns * width, channels), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = divmod(i, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = picture
    return sheet


def _picture(pixels: np.ndarray) -> Image.Image:
    """`[H W C]` with one channel for gray, three for RGB or four for RGBA."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
