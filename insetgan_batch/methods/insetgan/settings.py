"""The settings of a run of InsetGAN: which files of weights, by which recipe (`recipe.py`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from insetgan_batch import config
from insetgan_batch.data.models import DEMO_PREFIX, split_model
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods.insetgan import recipe_variants as recipes
from insetgan_batch.methods.insetgan.recipe import Recipe
from insetgan_batch.validation import STRICT

_MOST_RESOLUTION_PX = 8_192  # beyond it is a typing error, which would fail late
# The encoder that the package has for one of its generators.
_OWN_ENCODERS = {"demo:face": "demo:encoder"}
STAGE_ALEXNET = (
    'python -c "import torch, torchvision;'
    " torch.save(torchvision.models.alexnet(weights='DEFAULT').state_dict(), 'alexnet.pth')\""
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
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


_Detector = Literal["mtcnn", "manifest", "demo:head", "demo:shoes"]
DetectorChoice = _Detector | FixedBoxes | dict[str, _Detector | FixedBoxes]


def _detector(value: object, _: object) -> object:
    """A detector, or one for each inset; a mistake is told of the one kind that was meant."""
    if isinstance(value, dict) and "fixed" not in value:
        return _EACH_DETECTOR.validate_python(value)
    return _one_detector(value)


def _one_detector(value: object) -> object:
    boxes = isinstance(value, dict | FixedBoxes)
    return (_BOXES if boxes else _NAMED_DETECTOR).validate_python(value)


_BOXES = pydantic.TypeAdapter(FixedBoxes)
_NAMED_DETECTOR = pydantic.TypeAdapter[str](_Detector)
_EACH_DETECTOR = pydantic.TypeAdapter(
    dict[str, Annotated[Any, pydantic.PlainValidator(_one_detector)]]
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings(config.Settings):
    """Which generators, held to what, by which recipe."""

    FREE: ClassVar[frozenset[str]] = frozenset({"film_every"})

    # `demo:canvas`, or a path or URI of a generator's file; `#sha256=<64 digits>` behind it says
    # which file it has to be.
    canvas: str = "demo:canvas"
    # The same for each inset of the recipe, by its name.
    insets: dict[str, str] = dataclasses.field(default_factory=lambda: {"face": "demo:face"})
    # The name of a recipe of this package, or its changed fields: `{preset: refine, psi: 0.5}`.
    recipe: Recipe = dataclasses.field(default_factory=lambda: recipes.preset("montage"))
    # What finds latents for the pictures that a manifest names, by generator: an encoder of this
    # package, or one of e4e or pSp, trained for that generator. A generator without one starts at
    # the seed whose picture is nearest. Left out, the demo's face has the demo's.
    encoders: dict[str, str] | None = None
    # What says whether two faces are one person's, by inset: the weights of facenet-pytorch's
    # InceptionResnetV1. Without it no identity is measured.
    identity: dict[str, str] = dataclasses.field(default_factory=dict)
    # "mtcnn" finds faces, "demo:head" and "demo:shoes" those parts of the demo's people. Without a
    # detector: "manifest" takes the columns `<generator>_box`, and `{fixed: {canvas: [...], face:
    # [...]}}` one box for all; regions then stay where they are. Or one of these for each inset:
    # `{face: mtcnn, shoes: demo:shoes}`.
    detector: Annotated[DetectorChoice, pydantic.WrapValidator(_detector)] = "mtcnn"
    # Which part is the region of an inset whose recipe says `region: mask`.
    segmenter: dict[str, Literal["demo:head", "demo:shoes"]] = dataclasses.field(
        default_factory=dict
    )
    # Path or URI of torchvision's alexnet state dict, or "random". Left out, it is random for the
    # demo's generators, and an error for real ones: random features would spoil results that cost
    # real money.
    perceptual: str | None = None
    # Of convolutions in steps: of every generator's highest resolutions and, as bfloat16, of LPIPS.
    # What is kept is float32. auto: bfloat16 where the device has arithmetic for it, else float32.
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    # The class of each generator that was trained with classes, by its name.
    classes: dict[str, Annotated[int, Field(ge=0)]] = dataclasses.field(default_factory=dict)
    # Keep the composite of every so many steps of an item, for its `film.webp`; 0 for no film.
    film_every: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """With a recipe that is named, or only changed; each of its stages is checked, too."""
        found = super().parse({**fields, "recipe": _recipe_fields(fields)})
        recipes.stages(found.recipe)
        return found

    def __post_init__(self) -> None:
        """Checks that concern several fields."""
        self._check_recipe()
        self._check_names()
        self._check_detectors()
        self._check_models()

    def _check_recipe(self) -> None:
        if set(self.insets) != set(self.recipe.insets):
            raise ValueError(
                f"insets has {sorted(self.insets)}, but recipe `{self.recipe.name}` has"
                f" {sorted(self.recipe.insets)}; give each inset of the recipe one generator"
            )
        if not self.insets and self.recipe.rounds:
            raise ValueError(
                f"insets is empty, but recipe `{self.recipe.name}` optimises: give each of its"
                " insets a generator, or choose the recipe `generate`"
            )
        if self.recipe.resolution > _MOST_RESOLUTION_PX:
            raise ValueError(
                f"recipe.resolution is {self.recipe.resolution}, expected at most"
                f" {_MOST_RESOLUTION_PX} pixels"
            )
        masked = {
            name for name, settings in self.recipe.insets.items() if settings.region == "mask"
        }
        if missing := sorted(masked - self.segmenter.keys()):
            raise ValueError(f"segmenter lacks {missing}, whose recipe says `region: mask`")

    def _check_names(self) -> None:
        """What is said by name of a generator or an inset is said of one that there is."""
        generators = {"canvas", *self.insets}
        if unknown := sorted(self.classes.keys() - generators):
            raise ValueError(f"classes has {unknown}, expected some of {sorted(generators)}")
        if unknown := sorted((self.encoders or {}).keys() - generators):
            raise ValueError(f"encoders has {unknown}, expected some of {sorted(generators)}")
        if unknown := sorted(self.identity.keys() - self.insets.keys()):
            raise ValueError(f"identity has {unknown}, expected some of {sorted(self.insets)}")
        known = self.recipe.insets.items()
        if lacking := [n for n, p in known if p.identity and n not in self.identity]:
            raise ValueError(
                f"recipe.insets.{lacking[0]}.identity has a weight, but `identity` names no weights"
                f" of FaceNet for it; set `identity: {{{lacking[0]}: FILE}}`, or the weight to 0"
            )

    def _check_detectors(self) -> None:
        """Each inset has a place of its own on the canvas."""
        generators = {"canvas", *self.insets}
        for inset, detector in self.detectors.items():
            expected = generators if detector is self.detector else {"canvas", inset}
            if isinstance(detector, FixedBoxes) and set(detector.fixed) != expected:
                raise ValueError(
                    f"detector.fixed has {sorted(detector.fixed)}, expected one box for each of"
                    f" {sorted(expected)}"
                )
        if isinstance(self.detector, dict) and self.detector.keys() != self.insets.keys():
            raise ValueError(
                f"detector has {sorted(self.detector)}, expected one for each of"
                f" {sorted(self.insets)}"
            )
        is_shared = not isinstance(self.detector, dict) or "manifest" in self.detectors.values()
        if len(self.insets) > 1 and is_shared:
            raise ValueError(
                "detector finds one place on the canvas, but there are the insets"
                f" {sorted(self.insets)}; give each its own: `{{face: mtcnn, shoes: demo:shoes}}`"
            )

    def _check_models(self) -> None:
        for name, model in self.models.items():
            try:
                split_model(model)
            except ValueError as err:
                key = f"insets.{name}" if name in self.insets else name
                raise ValueError(f"{key} is {err}") from err
        if self.insets and self.perceptual is None and not self._uses_only_demo_generators:
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
    def detectors(self) -> dict[str, str | FixedBoxes]:
        """What finds the part of each inset, on the canvas and in the inset."""
        if isinstance(self.detector, dict):
            return dict(self.detector)
        return dict.fromkeys(self.insets, self.detector)

    @property
    def models(self) -> dict[str, str]:
        """Every file of weights, by the names that `run.json` gives them."""
        trunk = self.perceptual_trunk
        others = {} if trunk is None else {"perceptual": trunk}
        others |= {f"encoder.{name}": model for name, model in self.encoder_models.items()}
        others |= {f"identity.{name}": model for name, model in self.identity.items()}
        return {"canvas": self.canvas} | self.insets | others

    @property
    def warnings(self) -> list[str]:
        """Random features say little about real pictures."""
        if not self.insets or self.perceptual_trunk is not None:
            return []
        return ["LPIPS compares random features: fine for the demo, not for real models"]

    def with_models(self, models: Mapping[str, str]) -> Self:
        """Generators, LPIPS, encoders and FaceNets by other names."""
        return dataclasses.replace(
            self,
            canvas=models["canvas"],
            insets={name: models[name] for name in self.insets},
            perceptual=models.get("perceptual", self.perceptual),
            encoders={name: models[f"encoder.{name}"] for name in self.encoder_models},
            identity={name: models[f"identity.{name}"] for name in self.identity},
        )

    @property
    def encoder_models(self) -> dict[str, str]:
        """The encoder of each generator that has one."""
        if self.encoders is not None:
            return self.encoders
        roles = {"canvas": self.canvas} | self.insets
        return {n: _OWN_ENCODERS[model] for n, model in roles.items() if model in _OWN_ENCODERS}

    @property
    def _uses_only_demo_generators(self) -> bool:
        return all(name.startswith(DEMO_PREFIX) for name in (self.canvas, *self.insets.values()))


def _recipe_fields(fields: Mapping[str, Any]) -> object:
    """The fields of the recipe that a file names, changes, or leaves to `montage`."""
    given = fields.get("recipe", {})
    if isinstance(given, str):
        return recipes.preset_fields(given)
    if not isinstance(given, dict):
        return given
    changes = {key: value for key, value in given.items() if key != "preset"}
    base = recipes.preset_fields(str(given.get("preset", "montage")))
    named = fields.get("insets", base["insets"])
    if isinstance(named, dict):  # a file with other insets brings their weights with it
        base["insets"] = {k: v for k, v in base["insets"].items() if k in named}
        base["stages"] = [_stage_of(stage, named) for stage in base["stages"]]
    if "max_rounds" in changes and "stages" not in changes and base["stages"]:
        raise ConfigError(
            f"recipe.max_rounds is {changes['max_rounds']!r}, but recipe `{base['name']}` has"
            " stages, which have rounds of their own; change recipe.stages, or set it to []"
        )
    return recipes.merged(base, changes)


def _stage_of(stage: dict[str, Any], insets: Collection[str]) -> dict[str, Any]:
    """A preset's stage without what it changes of insets that there are not."""
    changes = dict(stage.get("changes", {}))
    if "insets" in changes:
        changes["insets"] = {k: v for k, v in changes["insets"].items() if k in insets}
    return stage | {"changes": changes}
