"""Recipes made from recipes: presets, changed fields, and a recipe in a stage, an inversion, a row.

`recipes/*.yaml` holds the presets, each as its differences from the plain recipe of `recipe.py`;
the default is `montage`.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Collection
from typing import Any

import pydantic
import yaml

from insetgan_batch.errors import BadInputError, ConfigError
from insetgan_batch.methods.insetgan.recipe import CANVAS, GeneratorSettings, Recipe
from insetgan_batch.validation import explain, field_names

_ADAPTER = pydantic.TypeAdapter(Recipe)
# For hints: what an unknown key may have been meant to be.
_FIELD_NAMES = field_names(Recipe)


def preset(name: str) -> Recipe:
    """A recipe that comes with the package; `ConfigError` names them all."""
    return from_fields(preset_fields(name), f"recipe {name}")


def preset_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name[0] != "_")


def preset_fields(name: str) -> dict[str, Any]:
    """What the file of a recipe says, over the default's fields."""
    if name not in preset_names():
        raise ConfigError(f"recipe {name!r}: expected one of {', '.join(preset_names())}")
    fields: dict[str, Any] = yaml.safe_load((_folder() / f"{name}.yaml").read_text()) or {}
    default = dataclasses.asdict(Recipe())
    if "insets" in fields:  # an inset beside the face has no weights of the default
        default["insets"] = {k: v for k, v in default["insets"].items() if k in fields["insets"]}
    return merged(default, fields)


def from_fields(fields: dict[str, Any], where: str) -> Recipe:
    """A checked recipe; `where` names the source in a `ConfigError`."""
    try:
        recipe = _ADAPTER.validate_python(fields)
        stages(recipe)
    except pydantic.ValidationError as err:
        lines = [f"{where}: {line}" for line in explain(err, _FIELD_NAMES)]
        raise ConfigError("\n".join(lines)) from err
    return recipe


def stages(recipe: Recipe) -> list[tuple[int, Recipe]]:
    """(rounds, the recipe as it is in them) of every stage; one for a recipe without stages.

    Raises pydantic's `ValidationError` for a change that cannot be.
    """
    if not recipe.stages:
        return [(recipe.max_rounds, recipe)]
    fields = dataclasses.asdict(recipe) | {"stages": ()}
    return [
        (
            stage.rounds,
            _ADAPTER.validate_python(
                merged(fields, stage.changes) | {"min_rounds": 0, "max_rounds": stage.rounds}
            ),
        )
        for stage in recipe.stages
    ]


def inverting(recipe: Recipe, names: Collection[str]) -> Recipe:
    """The recipe as it is while these generators become what their pictures show."""
    how = recipe.inversion
    still = GeneratorSettings(steps=0)
    moving = GeneratorSettings(
        steps=how.steps,
        learning_rate=how.learning_rate,
        latents=how.latents,
        picture=how.picture,
        latent=how.latent,
        delta=how.delta,
        w_noise=how.w_noise,
    )
    return dataclasses.replace(
        recipe,
        canvas=moving if CANVAS in names else still,
        insets={name: moving if name in names else still for name in recipe.insets},
        stages=(),
        min_rounds=0,
        max_rounds=how.rounds,
        warm_up=how.warm_up,
        cool_down=how.cool_down,
        final_rate=how.final_rate,
        border_ramp_rounds=0.0,
        region_step=0.0,
        full_share=1.0,  # all layers move, so no step may be of low resolution
    )


def for_item(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe of one row. Raises `BadInputError`: a row's mistake is a row's failure.

    What all items of a batch share cannot differ by row: the phases and the number of steps, which
    are their common clock, the sizes at which regions are compared, and what has a mask.
    """
    if not overrides:
        return recipe
    try:
        changed = _ADAPTER.validate_python(merged(dataclasses.asdict(recipe), overrides))
        is_same = _shared(changed) == _shared(recipe)
    except pydantic.ValidationError as err:
        lines = "; ".join(explain(err, _FIELD_NAMES))
        raise BadInputError(f"overrides: {lines}") from err
    if recipe.stages and "max_rounds" in overrides:
        raise BadInputError(
            "overrides: the recipe has stages, so `max_rounds` would change nothing"
        )
    if not is_same:
        raise BadInputError(
            "overrides: `steps`, `region`, `order`, `stages`, `resolution`, `coarse_size`,"
            " `picture_size`, `full_share`, what an inversion takes and the set of insets belong to"
            " the whole run"
        )
    return changed


def merged(defaults: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested changes over nested defaults: a file that changes one weight keeps all others."""
    result = dict(defaults)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def _shared(recipe: Recipe) -> tuple[object, ...]:
    generators = {name: (own.steps, own.region) for name, own in recipe.generators.items()}
    how = recipe.inversion
    inversion = how.rounds, how.steps, how.resolution
    sizes = recipe.resolution, recipe.coarse_size, recipe.picture_size, recipe.full_share
    return generators, recipe.order, recipe.stages, sizes, inversion


def _folder() -> Any:
    return importlib.resources.files("insetgan_batch.methods.insetgan") / "recipes"
