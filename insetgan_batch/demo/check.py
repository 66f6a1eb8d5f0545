"""Measures what the bundled weights promise: parts found in what the generators paint for
fresh seeds, how well the network of parts knows rendered people, and the size of it all.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from insetgan_batch.data.models import demo_path
from insetgan_batch.demo import train_parts
from insetgan_batch.demo.models import MODELS
from insetgan_batch.methods.insetgan.images import to_pixels
from insetgan_batch.nets import parts
from insetgan_batch.nets.detector import (
    SMALLEST_FACE_OF_CANVAS,
    SMALLEST_FACE_OF_INSET,
    Detector,
    FaceDetector,
)
from insetgan_batch.nets.generator import Generator
from insetgan_batch.people.person import Person, seeds_to_z
from insetgan_batch.people.renderer import PeopleRenderer, Picture

FRESH_SEEDS = range(200)
PSI = 0.7
MOST_MEGABYTES = 30.0
RENDERED_SEEDS = range(60)
LEAST_IOU = 0.85
DetectedPart = Literal["face", "head", "shoes"]
# In what share of a generator's images each detector has to find what it looks for.
_LEAST_FOUND: dict[str, dict[DetectedPart, float]] = {
    "canvas": {"face": 0.95, "head": 0.99, "shoes": 0.99},
    "face": {"face": 0.99, "head": 0.99},
    "shoes": {"shoes": 0.99},
}
_BATCH = 20
_CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True, slots=True)
class GeneratorCheck:
    """One generator: in how many of the images of fresh seeds what is found, and its file."""

    name: str
    images: int
    found: dict[DetectedPart, int]
    megabytes: float
    sha256: str

    @property
    def holds(self) -> bool:
        """Whether enough was found."""
        return all(
            self.found[what] >= share * self.images
            for what, share in _LEAST_FOUND[self.name].items()
        )


@dataclasses.dataclass(frozen=True, slots=True)
class PartsCheck:
    """The network of parts on rendered people that it was not trained on.

    iou: by view and part or class, of all people together. box_error_px: of each part's box on the
    canvas, the largest distance of a side to that of the box of the labels; the median and the 95th
    percentile over people. milliseconds: of one core, by view.
    """

    people: int
    iou: dict[str, dict[str, float]]
    box_error_px: dict[str, tuple[float, float]]
    milliseconds: dict[str, float]
    megabytes: float

    @property
    def holds(self) -> bool:
        """Whether head and shoes are told from the rest."""
        return all(
            iou[part] >= LEAST_IOU
            for iou in self.iou.values()
            for part in parts.MASKED.keys() & iou
        )


def check(name: str) -> GeneratorCheck:
    """Paint 200 fresh seeds at psi 0.7 with a bundled generator and look for its parts, with a
    progress bar.
    """
    path = demo_path(name)
    generator = Generator.load(path, _CPU)
    detectors = {what: _detector(what, name) for what in _LEAST_FOUND[name]}
    found = dict.fromkeys(detectors, 0)
    for first in track(range(0, len(FRESH_SEEDS), _BATCH), f"looking for parts: {name}"):
        images = to_pixels(generator.images_of_seeds(FRESH_SEEDS[first : first + _BATCH], PSI))
        for what, detector in detectors.items():
            found[what] += sum(box is not None for box in detector.find(images))
    return GeneratorCheck(
        name=name,
        images=len(FRESH_SEEDS),
        found=found,
        megabytes=path.stat().st_size / 1e6,
        sha256=generator.sha256,
    )


def check_all() -> list[GeneratorCheck]:
    """Every bundled generator."""
    return [check(name) for name in MODELS]


def check_parts() -> PartsCheck:
    """Draw 60 people and compare, with a progress bar; without anny `MissingPackageError`."""
    path = demo_path("parts")
    network = parts.load(path, _CPU)
    people = _rendered()
    return PartsCheck(
        people=len(RENDERED_SEEDS),
        iou={view: ious(network, pictures, view) for view, pictures in people.items()},
        box_error_px={part: _box_error(network, people["body"], part) for part in parts.BOXED},
        milliseconds={view: _milliseconds(network, p, view) for view, p in people.items()},
        megabytes=path.stat().st_size / 1e6,
    )


def ious(network: parts.PartsNetwork, pictures: list[Picture], view: str) -> dict[str, float]:
    """Intersection over union of each class, and of each part's mask, where the view shows them."""
    size = pictures[0].parts.shape
    shares = network.shares(_rgb(pictures), train_parts.HEIGHTS[view])
    chosen = F.interpolate(shares, size, mode="bilinear").argmax(dim=1)
    truth = _labels(pictures).argmax(dim=1)
    groups = {name: (name,) for name in parts.CLASSES} | parts.MASKED
    measured = {}
    for name, classes in groups.items():
        wanted = torch.tensor([parts.CLASSES.index(c) for c in classes])
        a, b = torch.isin(chosen, wanted), torch.isin(truth, wanted)
        if b.float().mean() > parts.LEAST_SHARE:
            measured[name] = float((a & b).sum() / (a | b).sum())
    return measured


def _box_error(
    network: parts.PartsNetwork, pictures: list[Picture], part: parts.PartName
) -> tuple[float, float]:
    """Median and 95th percentile over bodies of the worst side of a box, in pixels."""
    detector = parts.PartDetector(network, part, height=parts.HEIGHT_OF_CANVAS)
    size = (pictures[0].parts.shape[0], pictures[0].parts.shape[1])
    rows = [parts.CLASSES.index(name) for name in parts.BOXED[part]]
    errors = []
    labels = _labels(pictures)[:, rows].sum(dim=1).numpy()
    for found, label in zip(detector.find(_rgb(pictures)), labels, strict=True):
        truth = parts.box_of_shares(label, size)
        if found is None or truth is None:
            errors.append(np.inf)
        else:
            errors.append(np.abs(np.subtract(found.as_tuple(), truth.as_tuple())).max())
    return float(np.median(errors)), float(np.quantile(errors, 0.95))


def _milliseconds(network: parts.PartsNetwork, pictures: list[Picture], view: str) -> float:
    """To know the parts of one picture, on one core: the median of a few."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for picture in pictures[:_BATCH]:
        started = time.process_time()
        network.shares(_rgb([picture]), train_parts.HEIGHTS[view])
        times.append(time.process_time() - started)
    torch.set_num_threads(threads)
    return float(1000 * np.median(times))


def _rendered() -> dict[str, list[Picture]]:
    """Fresh people by view, in the sizes of the generators."""
    renderer = PeopleRenderer()
    people = [Person.from_z(z) for z in seeds_to_z(RENDERED_SEEDS)]
    made: dict[str, list[Picture]] = {model.view: [] for model in MODELS.values()}
    for person in track(people, "drawing people"):
        for model in MODELS.values():
            size = model.architecture.image_size
            made[model.view].append(renderer.render(person, size, view=model.view))
    return made


def _rgb(pictures: list[Picture]) -> Tensor:
    return torch.from_numpy(np.stack([picture.rgb for picture in pictures]))


def _labels(pictures: list[Picture]) -> Tensor:
    return train_parts.class_shares(np.stack([picture.parts for picture in pictures]))


def _detector(what: DetectedPart, generator: str) -> Detector:
    canvas = generator == "canvas"
    if what == "face":
        smallest = SMALLEST_FACE_OF_CANVAS if canvas else SMALLEST_FACE_OF_INSET
        return FaceDetector(_CPU, smallest_face=smallest)
    height = parts.HEIGHT_OF_CANVAS if canvas else parts.HEIGHT_OF_INSET
    return parts.PartDetector(parts.load(demo_path("parts"), _CPU), what, height=height)
