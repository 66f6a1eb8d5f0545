"""RunConfig and Recipe: frozen dataclasses, from YAML, every check in one place.

A recipe says which generators move, with which losses and for how long; a run configuration says
with which files, on which machines. Unknown keys are errors. A weight is a number that multiplies a
loss; 0 leaves it out.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from insetgan_batch.errors import BadInputError, ConfigError, one_line

_STRICT = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
DEMO_PREFIX = "demo:"
DEMO_MODELS = ("canvas", "face", "shoes")
STAGE_ALEXNET = (
    'python -c "import torch, torchvision;'
    " torch.save(torchvision.models.alexnet(weights='DEFAULT').state_dict(), 'alexnet.pth')\""
)
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ImageWeights:
    """The two distances of one image term."""

    l1: Weight = 0.0
    lpips: Weight = 0.0


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Player:
    """One generator in its phases: how it moves, and what it is held to.

    A term that a generator has not (`body` of an inset, `face` of the canvas) must be 0.
    """

    # Optimiser steps in one phase.
    steps: Count = 20
    # Adam's step size, before ramps.
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    # Inset against the canvas' crop, both at `coarse_size`.
    coarse: ImageWeights = ImageWeights()
    # The same on the border ring, at the working resolution.
    border: ImageWeights = ImageWeights()
    # Canvas only: outside of the regions, against the canvas' reference.
    body: ImageWeights = ImageWeights()
    # Inset only: inside the inset's box, against the inset's reference.
    face: ImageWeights = ImageWeights()
    # Mean square of w - w_avg.
    latent: Weight = 0.0
    # Mean square of the per-layer offsets.
    delta: Weight = 0.0


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Recipe:
    """An application with its weights and schedule.

    The defaults are the montage of the demo generators. Who gives way is a matter of weights: the
    canvas hardly follows the inset's surroundings (`coarse`) and keeps its body, so backdrop,
    collar and hair of the inset have to come to it; the face itself is held.
    """

    name: Literal["montage"] = "montage"
    # Truncation of every seed that has none of its own: 1 untouched, 0 the average.
    psi: Annotated[float, Field(ge=0, le=1)] = 0.7
    canvas: Player = Player(
        learning_rate=0.03,
        coarse=ImageWeights(l1=0.3, lpips=0.03),
        border=ImageWeights(l1=2.0, lpips=0.1),
        body=ImageWeights(l1=8.0, lpips=0.2),
        latent=0.01,
        delta=0.1,
    )
    insets: dict[str, Player] = dataclasses.field(
        default_factory=lambda: {
            "face": Player(
                learning_rate=0.02,
                coarse=ImageWeights(l1=2.0, lpips=0.1),
                border=ImageWeights(l1=4.0, lpips=0.1),
                face=ImageWeights(l1=3.0, lpips=0.2),
                latent=0.01,
                delta=0.05,
            )
        }
    )
    # Side in pixels at which a region is compared. Near its size on the canvas: more shows nothing
    # new.
    resolution: Annotated[int, Field(ge=32)] = 64
    # Side in pixels of the coarse comparison; at most `resolution`.
    coarse_size: Annotated[int, Field(ge=32)] = 64
    # A round is one phase of each generator. At least and at most so many.
    min_rounds: Count = 6
    max_rounds: Count = 10
    # Converged: the score of a round is less than this share below the best one before it.
    tolerance: Annotated[float, Field(ge=0)] = 0.01
    # Share of the first round in which the step size rises from 0, per generator.
    warm_up: Annotated[float, Field(ge=0, le=1)] = 0.25
    # Border weights rise linearly over so many rounds; 0 for full from the start.
    border_ramp_rounds: Annotated[float, Field(ge=0)] = 1.0
    # How far a region moves towards where the detector sees it now; below 1 damps the detector's
    # noise.
    region_step: Fraction = 0.5

    def __post_init__(self) -> None:
        """Checks that concern several fields."""
        if self.coarse_size > self.resolution:
            raise ValueError(
                f"recipe.coarse_size is {self.coarse_size}, expected at most"
                f" recipe.resolution ({self.resolution})"
            )
        if self.min_rounds > self.max_rounds:
            raise ValueError(
                f"recipe.min_rounds is {self.min_rounds}, expected at most"
                f" recipe.max_rounds ({self.max_rounds})"
            )
        for name in ("canvas", "perceptual"):
            if name in self.insets:
                raise ValueError(f"recipe.insets has `{name}`, which is taken; choose another name")
        absent = {"canvas.face": self.canvas.face}
        absent |= {f"insets.{name}.body": player.body for name, player in self.insets.items()}
        for name, weights in absent.items():
            if weights != ImageWeights():
                raise ValueError(f"recipe.{name} has a weight, but there is no such term; leave it")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FixedBoxes:
    """Where the part is in every image of a generator: (x0, y0, x1, y1) in pixels, by generator."""

    fixed: dict[str, tuple[float, float, float, float]]

    def __post_init__(self) -> None:
        """Boxes must hold something."""
        for name, (x0, y0, x1, y1) in self.fixed.items():
            if not (x0 < x1 and y0 < y1):
                raise ValueError(
                    f"detector.fixed.{name} is {[x0, y0, x1, y1]}, expected [x0, y0, x1, y1] with"
                    " x0 < x1 and y0 < y1"
                )


def _detector_kind(detector: object) -> str:
    return "name" if isinstance(detector, str) else "boxes"


# A tagged union, so that a mistake in one kind is not also reported as not being the other.
DetectorChoice = Annotated[
    Annotated[Literal["mtcnn", "manifest"], pydantic.Tag("name")]
    | Annotated[FixedBoxes, pydantic.Tag("boxes")],
    pydantic.Discriminator(_detector_kind),
]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RunConfig:
    """One run: which generators, which recipe, and how much of the machine."""

    # `demo:canvas`, or a path or URI of a generator's file; `#sha256=<64 digits>` behind it says
    # which file it has to be.
    canvas: str = "demo:canvas"
    # The same for each inset of the recipe, by its name.
    insets: dict[str, str] = dataclasses.field(default_factory=lambda: {"face": "demo:face"})
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    # "mtcnn" finds faces. Without a detector: "manifest" takes the columns `<generator>_box`, and
    # `{fixed: {canvas: [...], face: [...]}}` one box for all; regions then stay where they are.
    detector: DetectorChoice = "mtcnn"
    # Path or URI of torchvision's alexnet state dict, or "random". Left out, it is random for the
    # demo's generators, and an error for real ones: random features would spoil results that cost
    # real money.
    perceptual: str | None = None
    # Items side by side in one actor.
    slots: Count = 4
    # Actors at most; None for one per GPU, or one per `cores_per_actor` where there is none.
    max_actors: Count | None = None
    cores_per_actor: Count = 1
    # Of the highest resolutions of every generator; the rest, and all losses, are float32.
    precision: Precision = "float32"
    # How features lie in memory: which is faster depends on the machine and on the generator.
    channels_last: bool = False
    # The class of each generator that was trained with classes, by its name.
    classes: dict[str, Annotated[int, Field(ge=0)]] = dataclasses.field(default_factory=dict)
    # Only for a store without conditional writes: you promise that one driver at a time uses the
    # output.
    single_writer: bool = False

    def __post_init__(self) -> None:
        """Checks that concern several fields."""
        if set(self.insets) != set(self.recipe.insets):
            raise ValueError(
                f"insets has {sorted(self.insets)}, but recipe `{self.recipe.name}` has"
                f" {sorted(self.recipe.insets)}; give each inset of the recipe one generator"
            )
        generators = {"canvas", *self.insets}
        if unknown := sorted(self.classes.keys() - generators):
            raise ValueError(f"classes has {unknown}, expected some of {sorted(generators)}")
        if isinstance(self.detector, FixedBoxes) and set(self.detector.fixed) != generators:
            raise ValueError(
                f"detector.fixed has {sorted(self.detector.fixed)}, expected one box for each of"
                f" {sorted(generators)}"
            )
        for name, model in self.models.items():
            try:
                split_model(model)
            except ValueError as err:
                key = f"insets.{name}" if name in self.insets else name
                raise ValueError(f"{key} is {err}") from err
        if self.perceptual is None and not self._uses_only_demo_generators:
            raise ValueError(
                "perceptual is missing, and these are not the demo's generators; stage AlexNet's"
                f" weights with `{STAGE_ALEXNET}` and set `perceptual: alexnet.pth`, or accept"
                " `perceptual: random`"
            )

    @property
    def perceptual_trunk(self) -> str | None:
        """The file of the trunk's weights, None for random ones."""
        return None if self.perceptual == "random" else self.perceptual

    @property
    def models(self) -> dict[str, str]:
        """Every file of weights, by the names that `run.json` gives them."""
        trunk = self.perceptual_trunk
        perceptual = {} if trunk is None else {"perceptual": trunk}
        return {"canvas": self.canvas} | self.insets | perceptual

    @property
    def _uses_only_demo_generators(self) -> bool:
        return all(name.startswith(DEMO_PREFIX) for name in (self.canvas, *self.insets.values()))


def split_model(model: str) -> tuple[str, str | None]:
    """(where a model's file is, the sha256 that it must have) of `<where>[#sha256=<64 digits>]`.

    Raises `ValueError` for a demo model that there is not, and for a sha256 that is none.
    """
    where, mark, digits = model.partition("#sha256=")
    if mark and not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise ValueError(f"{model!r}, expected 64 hexadecimal digits after `#sha256=`")
    demo_models = [f"{DEMO_PREFIX}{name}" for name in DEMO_MODELS]
    if where.startswith(DEMO_PREFIX) and where not in demo_models:
        raise ValueError(f"{model!r}, expected one of the demo's: {', '.join(demo_models)}")
    return where, digits.lower() or None


def load(path: Path) -> RunConfig:
    """Read a run configuration; every mistake in it becomes one line of a `ConfigError`."""
    try:
        fields = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err}); expected a YAML file") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"{path}: not YAML: {one_line(err)}") from err
    return parse({} if fields is None else fields, str(path))


def parse(fields: object, where: str) -> RunConfig:
    """A run configuration from what YAML gave; `where` names the source in a `ConfigError`."""
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: found {type(fields).__name__}, expected `key: value` lines")
    if isinstance(fields.get("recipe"), dict):
        fields = {**fields, "recipe": _merged(_recipe_defaults(fields), fields["recipe"])}
    try:
        return _ADAPTER.validate_python(fields)
    except pydantic.ValidationError as err:
        lines = [f"{where}: {_explain(error)}" for error in err.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from err


def recipe_for_item(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe of one row. Raises `BadInputError`: a row's mistake is a row's failure.

    What all items of a batch share cannot differ by row: the number of steps, which is their common
    clock, and the sizes at which regions are compared.
    """
    if not overrides:
        return recipe
    try:
        changed = _RECIPE_ADAPTER.validate_python(_merged(dataclasses.asdict(recipe), overrides))
    except pydantic.ValidationError as err:
        lines = [_explain(error) for error in err.errors(include_url=False)]
        raise BadInputError(f"overrides: {'; '.join(lines)}") from err
    if _shared(changed) != _shared(recipe):
        raise BadInputError(
            "overrides: `steps`, `resolution`, `coarse_size` and the set of insets belong to the"
            " whole run"
        )
    return changed


def _shared(recipe: Recipe) -> tuple[object, ...]:
    steps = {name: player.steps for name, player in recipe.insets.items()}
    return recipe.canvas.steps, steps, recipe.resolution, recipe.coarse_size


def to_fields(config: RunConfig) -> dict[str, Any]:
    """The whole configuration, defaults too, as plain values: what `run.json` keeps."""
    fields: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return fields


_ADAPTER = pydantic.TypeAdapter(RunConfig)
_RECIPE_ADAPTER = pydantic.TypeAdapter(Recipe)


def _recipe_defaults(fields: dict[str, Any]) -> dict[str, Any]:
    """The default recipe, without its insets where the file names others."""
    recipe = dataclasses.asdict(Recipe())
    named = fields.get("insets", recipe["insets"])
    if isinstance(named, dict):
        recipe["insets"] = {k: v for k, v in recipe["insets"].items() if k in named}
    return recipe


def _merged(defaults: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested changes over nested defaults: a file that changes one weight keeps all others."""
    merged = dict(defaults)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _explain(error: pydantic_core.ErrorDetails) -> str:
    """One of pydantic's errors as one line: where, what was found, what was expected."""
    loc = error["loc"]
    if loc[:1] == ("detector",):
        loc = loc[:1] + loc[2:]  # without the tag of the union
    where = ".".join(str(part) for part in loc)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        close = difflib.get_close_matches(where.rsplit(".", 1)[-1].lower(), _field_names(), n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        return f"`{where}` is not a known key{hint}"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    return f"`{where}` is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _field_names() -> list[str]:
    classes = (RunConfig, Recipe, Player, ImageWeights, FixedBoxes)
    return [field.name for cls in classes for field in dataclasses.fields(cls)]
