"""Images of seeds as files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from insetgan_batch.errors import ConfigError
from insetgan_batch.methods.insetgan.generate import PaintSettings, contact_sheet, generate
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.stylegan2 import Architecture
from tests.conftest import random_generator

SMALL = Architecture((4, 2), (6, 5, 4), z_dim=8, w_dim=6, mapping_layers=2)


def saved(directory: Path, **changes: object) -> str:
    """A model of random weights, by its path."""
    network = random_generator(dataclasses.replace(SMALL, **changes))  # type: ignore[arg-type]
    checkpoint.save(directory / "model.safetensors", network, {})
    return str(directory / "model.safetensors")


def painted(model: str, seeds: list[int], settings: PaintSettings, out: Path) -> list[str]:
    return [path.name for path in generate(model, seeds, settings, out)]


def expected(model: str, seed: int, settings: PaintSettings) -> np.ndarray:
    """The image `[C H W]` as the generator gives it."""
    generator = Generator.load(Path(model), torch.device("cpu"))
    images = generator.images_of_seeds(
        [seed], settings.psi, label=settings.label, noise=settings.noise
    )
    return images[0].numpy()


def test_npy_keeps_the_floats(tmp_path: Path) -> None:
    model, settings = saved(tmp_path), PaintSettings(file_format="npy", psi=1.0)
    assert painted(model, [3, 40], settings, tmp_path) == [
        "seed0003.npy",
        "seed0040.npy",
        "sheet.png",
    ]
    image = np.load(tmp_path / "seed0040.npy")
    assert (image.shape, image.dtype) == ((3, 16, 8), np.float32)
    np.testing.assert_allclose(image, expected(model, 40, settings), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_pictures_are_lossless(tmp_path: Path, file_format: str) -> None:
    model, settings = saved(tmp_path), PaintSettings(file_format=file_format)  # type: ignore[arg-type]
    painted(model, [7], settings, tmp_path)
    image = expected(model, 7, settings).transpose(1, 2, 0)
    levels = np.clip(np.round((image + 1) * 127.5), 0, 255)
    with Image.open(tmp_path / f"seed0007.{file_format}") as picture:
        assert picture.mode == "RGB"
        np.testing.assert_allclose(np.asarray(picture), levels, atol=1)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (4, "RGBA")])
def test_gray_and_transparent_pictures_have_their_mode(
    tmp_path: Path, channels: int, mode: str
) -> None:
    painted(saved(tmp_path, image_channels=channels), [0, 1], PaintSettings(), tmp_path)
    for name in ("seed0000.png", "sheet.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.mode == mode


def test_other_channels_are_no_picture(tmp_path: Path) -> None:
    model = saved(tmp_path, image_channels=5)
    with pytest.raises(ConfigError, match="5 channels are no picture; use npy"):
        painted(model, [0], PaintSettings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert painted(model, [0], PaintSettings(file_format="npy"), tmp_path / "out") == [
        "seed0000.npy"
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PaintSettings(psi=[1.0, 0.5]), "found 2 values of psi, expected 1 or 6"),
        (PaintSettings(label=1), "no classes"),
    ],
)
def test_settings_that_do_not_fit_writes_nothing(
    tmp_path: Path, settings: PaintSettings, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        painted(saved(tmp_path), [0], settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_layer_has_its_psi(tmp_path: Path) -> None:
    model = saved(tmp_path)
    painted(model, [5], PaintSettings(psi=[0.7] * 6, file_format="npy"), tmp_path / "same")
    painted(
        model, [5], PaintSettings(psi=[1, 1, 0, 0, 0, 0], file_format="npy"), tmp_path / "layers"
    )
    same, layers = (np.load(tmp_path / name / "seed0005.npy") for name in ("same", "layers"))
    np.testing.assert_allclose(same, expected(model, 5, PaintSettings()), rtol=1e-5, atol=1e-5)
    assert np.abs(same - layers).max() > 0.01


def test_noise_is_constant_none_or_random_by_seed(tmp_path: Path) -> None:
    model = saved(tmp_path)
    images = {}
    for noise in ("const", "none", "random"):
        for seeds in ([5], [4, 5]):
            out = tmp_path / f"{noise}{len(seeds)}"
            painted(model, seeds, PaintSettings(noise=noise, file_format="npy"), out)
            images[noise, len(seeds)] = np.load(out / "seed0005.npy")
    for noise in ("const", "none", "random"):
        np.testing.assert_allclose(images[noise, 1], images[noise, 2], rtol=1e-4, atol=1e-4)
    assert np.abs(images["const", 1] - images["none", 1]).max() > 0.01
    assert np.abs(images["const", 1] - images["random", 1]).max() > 0.01


def test_a_class_is_chosen(tmp_path: Path) -> None:
    model = saved(tmp_path, c_dim=3)
    for label in (0, 2):
        painted(model, [1], PaintSettings(label=label, file_format="npy"), tmp_path / str(label))
    first, other = (np.load(tmp_path / str(label) / "seed0001.npy") for label in (0, 2))
    assert np.abs(first - other).max() > 0.01
    for wrong in (None, 3, -1):
        with pytest.raises(ConfigError, match="class"):
            painted(model, [1], PaintSettings(label=wrong), tmp_path / "none")


def test_a_sheet_shows_the_first_hundred(tmp_path: Path) -> None:
    painted(saved(tmp_path), list(range(120)), PaintSettings(), tmp_path)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width * sheet.height >= 100 * 16 * 8
        assert sheet.width * sheet.height < 120 * 16 * 8


def test_a_sheet_is_filled_row_by_row() -> None:
    pictures = [np.full((2, 1, 3), level, np.uint8) for level in (10, 20, 30)]
    sheet = contact_sheet(pictures, columns=2)
    assert sheet.shape == (4, 2, 3)
    assert [sheet[0, 0, 0], sheet[0, 1, 0], sheet[2, 0, 0], sheet[2, 1, 0]] == [10, 20, 30, 255]
