"""Where the insets' parts are on the canvases, and with them the insets' regions.

A part's box on the canvas comes from the item or from a detector. An inset's region is its whole
image, placed so that its own part lies on the canvas' part. After each phase of the canvas the
parts are detected again, and regions follow them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from insetgan_batch import boxes
from insetgan_batch.boxes import Box
from insetgan_batch.errors import BadInputError, ItemError
from insetgan_batch.methods.insetgan import images
from insetgan_batch.methods.insetgan.errors import LostFaceError, NoFaceFoundError
from insetgan_batch.methods.insetgan.recipe import CANVAS, Guards, Recipe
from insetgan_batch.methods.insetgan.states import Slot, Start
from insetgan_batch.nets.detector import Detector, Segmenter
from insetgan_batch.nets.generator import Generator

_MOST_CANVASES = 4  # of a region's height: a larger one fills the memory with nothing to see


class RegionTracker:
    """Detects parts and places regions, for the items of a batch."""

    def __init__(
        self,
        canvas: Generator,
        insets: Mapping[str, Generator],
        detectors: Mapping[str, Detector],
        canvas_detectors: Mapping[str, Detector],
        segmenters: Mapping[str, Segmenter],
    ) -> None:
        """By inset: generators, detectors of its part in its own image and on the canvas, and what
        segments its image.
        """
        self._canvas, self._insets = canvas, insets
        self._detectors, self._canvas_detectors = detectors, canvas_detectors
        self._segmenters = segmenters

    def inset_boxes(self, start: Start) -> dict[str, Box]:
        """The box of each inset's part in the inset's image, in its pixels.

        Raises `NoFaceFoundError` where the item names no box and the part is not detected.
        """
        return {name: _first_box(name, name, start, self._detectors) for name in self._insets}

    def canvas_boxes(self, start: Start) -> dict[str, Box]:
        """The box of each inset's part on the canvas, in its pixels; raises as `inset_boxes`."""
        return {
            name: _first_box(CANVAS, name, start, self._canvas_detectors) for name in self._insets
        }

    def regions(
        self, recipe: Recipe, canvas_boxes: Mapping[str, Box], inset_boxes: Mapping[str, Box]
    ) -> dict[str, Box]:
        """The region of each inset in canvas pixels.

        Raises `BadInputError` for one that is much larger than the canvas.
        """
        return {
            name: self._region(recipe, name, canvas_boxes[name], inset_boxes[name])
            for name in self._insets
        }

    def masks(self, start: Start) -> dict[str, Tensor]:
        """The parts in the references of insets of which the part alone is pasted, `[1 h w]`."""
        return {
            name: self._segmenters[name].mask(images.to_pixels(start.references[name][None]))[0]
            for name, settings in start.recipe.insets.items()
            if settings.region == "mask"
        }

    def follow(self, slots: Sequence[Slot]) -> None:
        """Detect the parts on the canvases of these items, and move regions towards them.

        An item whose part is lost, or whose region grows too large, has its `error` set.
        """
        slots = [slot for slot in slots if slot.error is None and slot.now.region_step > 0]
        if not slots:
            return
        pixels = images.to_pixels(torch.stack([slot.images[CANVAS] for slot in slots]))
        answers: dict[int, list[Box | None]] = {}  # one call serves all insets of a detector
        for name, detector in self._canvas_detectors.items():
            if id(detector) not in answers:
                answers[id(detector)] = detector.find(pixels)
            for slot, found in zip(slots, answers[id(detector)], strict=True):
                try:
                    self._follow(slot, name, found)
                except ItemError as err:  # its region has grown too large; the others go on
                    slot.error = err

    def _follow(self, slot: Slot, name: str, found: Box | None) -> None:
        height, width = slot.images[CANVAS].shape[1:]
        before = slot.canvas_boxes[name]
        is_same = found is not None and _is_plausible(found, before)
        if found is None or not (is_same and _is_allowed(found, slot.recipe.guards, height, width)):
            slot.missed[name] = misses = slot.missed.get(name, 0) + 1
            if misses >= slot.recipe.max_missed:
                slot.error = LostFaceError(
                    f"the {name} was not where it had been on the canvas, {misses} times"
                )
            return
        target = self._region(slot.recipe, name, found, slot.inset_boxes[name])
        step = slot.now.region_step
        slot.canvas_boxes[name] = boxes.move(before, found, step)
        slack = slot.recipe.region_slack
        slot.regions[name] = boxes.move(slot.regions[name], target, step, slack)

    def _region(self, recipe: Recipe, name: str, canvas_box: Box, inset_box: Box) -> Box:
        """An inset's region in canvas pixels: turned if the recipe says so and both boxes have
        landmarks, else upright.
        """
        generator = self._insets[name]
        is_turned = recipe.insets[name].align == "similarity"
        if is_turned and canvas_box.landmarks and inset_box.landmarks:
            align = boxes.align_landmarks
        else:
            align = boxes.align
        region = align(canvas_box, inset_box, generator.height, generator.width)
        if region.height > _MOST_CANVASES * self._canvas.height:
            raise BadInputError(
                f"inset `{name}` would cover {region.height:.0f} pixels of a canvas"
                f" {self._canvas.height} high, expected {_MOST_CANVASES} times that at most: the"
                f" part is {inset_box.height:.0f} high in the inset and {canvas_box.height:.0f} on"
                " the canvas; check both boxes"
            )
        return region


def _first_box(where: str, inset: str, start: Start, detectors: Mapping[str, Detector]) -> Box:
    """The box of an inset's part in the reference image of `where`, a generator."""
    if where in start.boxes:
        return start.boxes[where]
    if inset not in detectors:
        raise NoFaceFoundError(f"no detector for the {where}, and the item names no box")
    found = detectors[inset].find(images.to_pixels(start.references[where][None]))[0]
    if found is None:
        what = "face" if inset == "face" else f"part `{inset}`"
        raise NoFaceFoundError(f"no {what} in the {where}'s reference image")
    return found


def _is_plausible(found: Box, before: Box) -> bool:
    """Whether a detection can be the same part: less than half a box away, and less than twice as
    large or small.
    """
    dx, dy = (a - b for a, b in zip(found.centre, before.centre, strict=True))
    growth = (found.width * found.height) / (before.width * before.height)
    return abs(dx) < before.width / 2 and abs(dy) < before.height / 2 and 0.5 < growth < 2.0


def _is_allowed(found: Box, guards: Guards, height: int, width: int) -> bool:
    """Whether a detection lies within the recipe's guards, on a canvas of that size in pixels."""
    off_centre = abs(found.centre[0] - width / 2) / width
    checks = (
        (guards.min_height, found.height / height, 1),
        (guards.max_height, found.height / height, -1),
        (guards.min_top, found.y0 / height, 1),
        (guards.max_top, found.y0 / height, -1),
        (guards.max_off_centre, off_centre, -1),
    )
    return all(limit is None or sign * (value - limit) >= 0 for limit, value, sign in checks)
