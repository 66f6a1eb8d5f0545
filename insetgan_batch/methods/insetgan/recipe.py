"""A recipe: which generators move, their starts, losses and weights, the schedule, and the stop.

This module holds a recipe's fields and their defaults, a plain montage of one stage;
`recipe_variants.py` makes other recipes of it. A weight multiplies a loss; 0 leaves the loss out.
Every image loss is a sum over its mask divided by the mask's area, of images in -1..1, so that a
weight means the same at every size.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from insetgan_batch.validation import STRICT

CANVAS = "canvas"
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
MOST_STEPS = 100_000
"""Of rounds, of steps in a phase: more is a typing error, and would run for years."""
Count = Annotated[int, Field(ge=1, le=MOST_STEPS)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Psi = Annotated[float, Field(ge=0, le=1)]
# Names that mean something else in a run, or among what an item leaves.
_TAKEN = (CANVAS, "perceptual", "image", "copy_paste", "latents", "losses", "film")
# What a stage may change; the rest belongs to the whole recipe.
_OF_A_STAGE = {
    "canvas",
    "insets",
    "region_step",
    "warm_up",
    "cool_down",
    "final_rate",
    "border_ramp_rounds",
    "full_share",
}
# What of a generator's settings is fixed when an item enters, so that a stage cannot change it.
_OF_AN_ITEM = ("start", "latents", "psi", "region", "align")

_ONE_PSI = pydantic.TypeAdapter[float](Psi, config=STRICT)
_SEVERAL_PSIS = pydantic.TypeAdapter(tuple[Psi, ...], config=STRICT)


def _truncation(value: object, _: object) -> object:
    """One number or one per layer; a mistake is told of the one kind that was meant."""
    if value is None:
        return None
    is_several = isinstance(value, list | tuple)
    return (_SEVERAL_PSIS if is_several else _ONE_PSI).validate_python(value)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageWeights:
    """The three distances of one image term."""

    l1: Weight = 0.0
    l2: Weight = 0.0
    lpips: Weight = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeneratorSettings:
    """One generator of a recipe: its start, its optimisation in its phases, and its losses.

    A term that a generator has not (`body` of an inset, `face` of the canvas) must be 0.
    """

    # Optimiser steps in one phase; with 0 the generator stands still.
    steps: CountOrZero = 20
    # Adam's step size, before ramps.
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    # Where the latents begin: "given": the manifest's seed or latent; "average": w_avg; "seed": the
    # manifest's seed, else the row's own random numbers. Where it is not "given", what the manifest
    # gives is still the generator's reference.
    start: Literal["given", "average", "seed"] = "given"
    # What `body` and `face` compare with: "given": what the manifest gives; "stage": what the
    # generator painted when the stage began; "previous": what they compared with in the stage
    # before.
    anchor: Literal["given", "stage", "previous"] = "given"
    # What is free: one w for all layers, w and an offset per layer (the paper's), or the layers.
    latents: Literal["w", "w+delta", "w+"] = "w+delta"
    # Truncation of a seed, one number or one per layer; None for the recipe's.
    psi: Annotated[Psi | tuple[Psi, ...] | None, pydantic.WrapValidator(_truncation)] = None
    # Insets only: the region is the inset's whole image, or what a segmenter takes for the part.
    region: Literal["box", "mask"] = "box"
    # Insets only: an upright region, or one that is turned as the detector's landmarks are.
    align: Literal["upright", "similarity"] = "upright"
    # Inset against the canvas' crop, both at `coarse_size`.
    coarse: ImageWeights = ImageWeights()
    # The same at the working resolution, everywhere in the region.
    whole: ImageWeights = ImageWeights()
    # The same on the border ring.
    border: ImageWeights = ImageWeights()
    # How visible the region's edge is in the composite: what steps across it add to those beside.
    seam: Weight = 0.0
    # Canvas only: outside of the regions, against the canvas' reference.
    body: ImageWeights = ImageWeights()
    # Insets only: inside the inset's box, against the inset's reference.
    face: ImageWeights = ImageWeights()
    # The whole picture, against the generator's reference, at `inversion.resolution`.
    picture: ImageWeights = ImageWeights()
    # Insets only: 1 - the cosine of what FaceNet says of the faces in it and in its reference.
    # Needs the run's `identity`.
    identity: Weight = 0.0
    # Mean square of w - w_avg.
    latent: Weight = 0.0
    # Mean square of the per-layer offsets.
    delta: Weight = 0.0
    # Noise added to w in every step, in spreads of the generator's w; it falls to 0 as a square
    # over the first three quarters of a stage (StyleGAN2's projector: 0.05).
    w_noise: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Inversion:
    """What comes before an item's first round where a row gives pictures: their generators' latents
    move until they paint these pictures; the other generators stand still.

    It concerns generators that start from what is `given`. Steps are `rounds` x `steps`, in rounds
    so that it shares the batch's clock. The weights found on the demo's faces: docs/faces.md.
    """

    # Where the latents begin: by the run's encoder of the generator, where it has one, else at the
    # seed whose picture is nearest, of `tries`; at that seed; or at w_avg.
    start: Literal["encoder", "nearest", "average"] = "encoder"
    tries: Annotated[int, Field(ge=1, le=1024)] = 64
    rounds: CountOrZero = 10
    steps: Count = 20
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    # What is free, as in the generators' settings.
    latents: Literal["w", "w+delta", "w+"] = "w+delta"
    picture: ImageWeights = ImageWeights(l1=1.0, lpips=1.0)
    latent: Weight = 0.0
    delta: Weight = 0.0
    w_noise: Annotated[float, Field(ge=0)] = 0.0
    warm_up: Share = 0.25
    cool_down: Share = 0.5
    final_rate: Share = 0.0
    # Pictures are compared at so many pixels of height at most.
    resolution: Annotated[int, Field(ge=32)] = 256
    # An item whose picture is then further away by LPIPS is quarantined; None for no limit.
    max_error: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdaptivePsi:
    """For each seed the largest truncation between two that passes a test; of 8 that are tried.

    test: "detector": the part is found in the image; "distance": the mean square of w - w_avg is at
    most `threshold`.
    """

    lowest: Psi = 0.3
    highest: Psi = 1.0
    test: Literal["detector", "distance"] = "detector"
    threshold: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Guards:
    """Where a part may be found on the canvas; a detection elsewhere counts as none.

    Shares of the canvas' height (off_centre: of its width); None for no limit.
    """

    min_height: Share | None = None
    max_height: Share | None = None
    min_top: Share | None = None
    max_top: Share | None = None
    max_off_centre: Share | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stage:
    """Some rounds under changed fields: generators, ramps and `region_step`.

    kept: whether the result may be one of its rounds.
    """

    rounds: Count
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    kept: bool = True


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """An application with its weights and schedule.

    These are the fields that presets change: a plain montage of one stage. The weights decide
    which generator adapts: the canvas has a low weight on the region (`coarse`) and a high one on
    its `body`, so the inset's backdrop, collar and hair adapt to it; `face` keeps the face.
    """

    name: str = "montage"
    # Truncation of every seed that has none of its own: 1 untouched, 0 the average.
    psi: Psi = 0.7
    # Instead of `psi`, where a row has none of its own: found for each seed.
    adaptive_psi: AdaptivePsi | None = None
    # How pictures of the manifest become latents.
    inversion: Inversion = Inversion()
    canvas: GeneratorSettings = GeneratorSettings(
        learning_rate=0.03,
        coarse=ImageWeights(l1=0.3, lpips=0.03),
        border=ImageWeights(l1=2.0, lpips=0.012),
        body=ImageWeights(l1=8.0, lpips=0.2),
        latent=0.01,
        delta=0.1,
    )
    insets: dict[str, GeneratorSettings] = dataclasses.field(
        default_factory=lambda: {
            "face": GeneratorSettings(
                learning_rate=0.02,
                coarse=ImageWeights(l1=2.0, lpips=0.1),
                border=ImageWeights(l1=4.0, lpips=0.012),
                face=ImageWeights(l1=3.0, lpips=0.035),
                latent=0.01,
                delta=0.05,
            )
        }
    )
    # The phases of a round; empty for the canvas first, then each inset.
    order: tuple[str, ...] = ()
    # Rounds under changed fields, one stage after the other; they replace `max_rounds`.
    stages: tuple[Stage, ...] = ()
    # Side in pixels at which a region is compared. Near its size on the canvas: more shows nothing
    # new.
    resolution: Annotated[int, Field(ge=32)] = 64
    # Side in pixels of the coarse comparison; at most `resolution`.
    coarse_size: Annotated[int, Field(ge=32)] = 64
    # At which whole pictures are compared (`body`, `face`) while a generator moves: the lowest of
    # its resolutions whose smaller side has so many pixels, and `resolution`.
    picture_size: Annotated[int, Field(ge=32)] = 128
    # Share of the steps, evenly spread, in which they are compared in full resolution instead.
    full_share: Share = 1.0
    # A round is one phase of each generator. At least and at most so many.
    min_rounds: CountOrZero = 6
    max_rounds: CountOrZero = 10
    # Converged: the score of a round is less than this share below the best one before it.
    tolerance: Annotated[float, Field(ge=0)] = 0.01
    # Which round is the result: the one with the lowest score, or the last one.
    keep: Literal["best", "last"] = "best"
    # So many rounds are not candidates for the best: weights and regions are still settling.
    best_after: CountOrZero = 0
    # Share of the first phase of a stage in which the step size rises from 0, per generator.
    warm_up: Share = 0.25
    # Share of a stage's steps, at its end, in which the step size falls along half a cosine.
    cool_down: Share = 1.0
    # The share of the step size that is left at the end.
    final_rate: Share = 0.1
    # Border weights rise linearly over so many rounds; 0 for full from the start.
    border_ramp_rounds: Annotated[float, Field(ge=0, le=MOST_STEPS)] = 1.0
    # How far a region moves towards where the detector finds it now; below 1 damps the detector's
    # noise, 0 leaves regions where they are.
    region_step: Share = 0.5
    # Up to this share of its height a region may be off from where the detector finds it now, and
    # does not move: a detector's noise is of that size, and half a pixel is another result.
    region_slack: Share = 0.06
    guards: Guards = Guards()
    # After so many detections in vain an item fails.
    max_missed: Count = 8
    # An item whose score is so many times what it was at the start has diverged.
    max_rise: Annotated[float, Field(gt=1)] = 10.0

    def __post_init__(self) -> None:
        """Checks that concern several fields."""
        if self.coarse_size > self.resolution:
            raise ValueError(
                f"recipe.coarse_size is {self.coarse_size}, expected at most"
                f" recipe.resolution ({self.resolution})"
            )
        if self.min_rounds > self.max_rounds and not self.stages:
            raise ValueError(
                f"recipe.min_rounds is {self.min_rounds}, expected at most"
                f" recipe.max_rounds ({self.max_rounds})"
            )
        for name in _TAKEN:
            if name in self.insets:
                raise ValueError(f"recipe.insets has `{name}`, which is taken; choose another name")
        if self.order and sorted(self.order) != sorted(self.generators):
            raise ValueError(
                f"recipe.order is {list(self.order)}, expected each of {list(self.generators)} once"
            )
        absent = {"canvas.face": self.canvas.face}
        absent |= {f"insets.{name}.body": settings.body for name, settings in self.insets.items()}
        if self.canvas.identity:
            raise ValueError("recipe.canvas.identity has a weight, but only insets have one")
        for name, weights in absent.items():
            if weights != ImageWeights():
                raise ValueError(f"recipe.{name} has a weight, but there is no such term; leave it")
        for number, stage in enumerate(self.stages):
            self._check_stage(f"recipe.stages.{number}.changes", stage.changes)

    def _check_stage(self, where: str, changes: dict[str, Any]) -> None:
        """Refuse changes that would not take place; `stages` checks the values of the others."""
        if unknown := sorted(changes.keys() - _OF_A_STAGE):
            raise ValueError(f"{where} has {unknown}, expected some of {sorted(_OF_A_STAGE)}")
        given = changes.get("insets")
        insets: dict[str, Any] = given if isinstance(given, dict) else {}
        if unknown := sorted(insets.keys() - self.insets.keys()):
            raise ValueError(
                f"{where}.insets has {unknown}, expected some of {sorted(self.insets)}"
            )
        generators = {CANVAS: changes.get(CANVAS)} | {f"insets.{k}": v for k, v in insets.items()}
        for name, settings in generators.items():
            if isinstance(settings, dict) and (fixed := [f for f in _OF_AN_ITEM if f in settings]):
                raise ValueError(
                    f"{where}.{name} has {fixed}, which no stage can change; set it in"
                    f" recipe.{name}"
                )

    @property
    def generators(self) -> dict[str, GeneratorSettings]:
        """The settings of all generators by name, the canvas first."""
        return {CANVAS: self.canvas} | self.insets

    @property
    def phases(self) -> tuple[str, ...]:
        """The generators in the order in which a round moves them."""
        return self.order or tuple(self.generators)

    @property
    def rounds(self) -> int:
        """At most so many, over all stages."""
        return sum(stage.rounds for stage in self.stages) if self.stages else self.max_rounds
