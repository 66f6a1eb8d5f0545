"""What an actor loads before its first item: generators, detectors, segmenters, features."""

from __future__ import annotations

import dataclasses

import torch

from insetgan_batch.boxes import Box
from insetgan_batch.data import models
from insetgan_batch.errors import CheckpointError
from insetgan_batch.methods.insetgan.recipe import CANVAS
from insetgan_batch.methods.insetgan.settings import FixedBoxes, Settings
from insetgan_batch.nets import encoder, parts
from insetgan_batch.nets.detector import (
    SMALLEST_FACE_OF_CANVAS,
    SMALLEST_FACE_OF_INSET,
    Detector,
    FaceDetector,
    FixedBox,
    Segmenter,
)
from insetgan_batch.nets.devices import Precision, best_precision
from insetgan_batch.nets.encoder import Encoder
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.identity import Identity
from insetgan_batch.nets.perceptual import Perceptual

_PARTS: dict[str, parts.PartName] = {"demo:head": "head", "demo:shoes": "shoes"}


@dataclasses.dataclass(frozen=True, slots=True)
class Networks:
    """The networks of an actor.

    By name: generators and their encoders. By inset: detectors of its part in its own image and on
    the canvas, segmenters of the part, identities of faces. precision: of steps.
    """

    precision: Precision
    generators: dict[str, Generator]
    perceptual: Perceptual
    detectors: dict[str, Detector]
    canvas_detectors: dict[str, Detector]
    segmenters: dict[str, Segmenter]
    encoders: dict[str, Encoder]
    identities: dict[str, Identity]


def load(settings: Settings, device: torch.device) -> Networks:
    """Everything that the settings name; raises `CheckpointError` or `StorageError`."""
    roles = {CANVAS: settings.canvas} | settings.insets
    precision = best_precision(device) if settings.precision == "auto" else settings.precision
    generators = {
        name: _load_generator(settings, name, model, precision, device)
        for name, model in roles.items()
    }
    detectors, canvas_detectors = _detectors(settings, device)
    return Networks(
        precision=precision,
        generators=generators,
        perceptual=_load_perceptual(settings.perceptual_trunk, precision, device),
        detectors=detectors,
        canvas_detectors=canvas_detectors,
        segmenters=_segmenters(settings, device),
        encoders={
            name: _load_encoder(settings, name, generators[name], device)
            for name in settings.encoder_models
        },
        identities={
            name: models.loaded(models.fetch(model), lambda path: Identity(path, device))
            for name, model in settings.identity.items()
        },
    )


def _detectors(
    settings: Settings, device: torch.device
) -> tuple[dict[str, Detector], dict[str, Detector]]:
    """What finds each inset's part: in the inset, and on the canvas. None where the manifest names
    the boxes. Insets of one kind share a detector, which then looks once for all.
    """
    made: dict[str, tuple[Detector, Detector]] = {}
    in_inset: dict[str, Detector] = {}
    on_canvas: dict[str, Detector] = {}
    for name, choice in settings.detectors.items():
        if isinstance(choice, FixedBoxes):
            in_inset[name] = FixedBox(Box(*choice.fixed[name]))
            on_canvas[name] = FixedBox(Box(*choice.fixed[CANVAS]))
        elif choice != "manifest":
            if choice not in made:
                made[choice] = _detector_pair(choice, device)
            in_inset[name], on_canvas[name] = made[choice]
    return in_inset, on_canvas


def _detector_pair(choice: str, device: torch.device) -> tuple[Detector, Detector]:
    """For insets and for the canvas."""
    if choice in _PARTS:
        network = _load_parts(device)
        return (
            parts.PartDetector(network, _PARTS[choice], height=parts.HEIGHT_OF_INSET),
            parts.PartDetector(network, _PARTS[choice], height=parts.HEIGHT_OF_CANVAS),
        )
    return (
        FaceDetector(device, smallest_face=SMALLEST_FACE_OF_INSET),
        FaceDetector(device, smallest_face=SMALLEST_FACE_OF_CANVAS),
    )


def _segmenters(settings: Settings, device: torch.device) -> dict[str, Segmenter]:
    """What cuts out the part of each inset that has a segmenter."""
    return {
        name: parts.PartSegmenter(_load_parts(device), _PARTS[choice])
        for name, choice in settings.segmenter.items()
    }


def _load_parts(device: torch.device) -> parts.PartsNetwork:
    return models.loaded(models.of_package("parts"), lambda path: parts.load(path, device))


def _load_generator(
    settings: Settings, name: str, model: str, precision: Precision, device: torch.device
) -> Generator:
    """A generator that a run can use; raises `CheckpointError`."""
    file = models.fetch(model)
    path = file.path
    generator = models.loaded(file, lambda path: Generator.load(path, device, precision=precision))
    if generator.image_channels != 3:
        raise CheckpointError(
            f"{path}: found {generator.image_channels} image channels, expected 3 (RGB)"
        )
    try:
        generator.seeds_to_w([0], 1.0, settings.classes.get(name))
    except ValueError as err:
        raise CheckpointError(f"{path}: `classes` for `{name}`: {err}") from err
    return generator


def _load_encoder(
    settings: Settings, name: str, generator: Generator, device: torch.device
) -> Encoder:
    """An encoder whose latents are the generator's; raises `CheckpointError`."""
    file = models.fetch(settings.encoder_models[name])
    path = file.path
    found = models.loaded(file, lambda path: encoder.load(path, device))
    shapes = (found.num_ws, found.w_dim), (generator.num_ws, len(generator.w_avg))
    if shapes[0] != shapes[1]:
        raise CheckpointError(
            f"{path}: an encoder for {shapes[0][0]} layers of {shapes[0][1]}, but the generator of"
            f" `{name}` has {shapes[1][0]} of {shapes[1][1]}; expected the one trained for it"
        )
    return found


def _load_perceptual(trunk: str | None, precision: Precision, device: torch.device) -> Perceptual:
    if trunk is None:
        return Perceptual(None, precision).to(device)
    return models.loaded(models.fetch(trunk), lambda path: Perceptual(path, precision)).to(device)
