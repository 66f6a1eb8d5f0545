"""Settings of InsetGAN: what a configuration may say of them, and the line of each mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from insetgan_batch import config
from insetgan_batch.config import parse, to_fields
from insetgan_batch.errors import BadInputError, ConfigError
from insetgan_batch.methods.insetgan.recipe import GeneratorSettings, ImageWeights, Recipe
from insetgan_batch.methods.insetgan.recipe_variants import for_item, preset
from insetgan_batch.methods.insetgan.settings import STAGE_ALEXNET, FixedBoxes, Settings

REAL = {"canvas": "s3://weights/body.safetensors", "insets": {"face": "face.safetensors"}}
SHA256 = "0123456789abcdef" * 4
BOXES = {"fixed": {"canvas": [8, 8, 20, 24], "face": [8, 8, 24, 28]}}

TWO_INSETS = {
    "insets": {"face": "demo:face", "shoes": "demo:shoes"},
    "recipe": {"insets": {"shoes": {"steps": 3}}},
}


def mistakes_in(fields: object) -> list[str]:
    """The lines that a configuration is refused with, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        parse(fields, "run.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("run.yaml: ") for line in lines)
    return [line.removeprefix("run.yaml: ") for line in lines]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


# What is accepted


def test_an_empty_file_is_the_demo(tmp_path: Path) -> None:
    assert config.load(written(tmp_path, "")).settings == Settings.parse({}) == Settings()
    assert Settings().canvas == "demo:canvas"
    assert Settings().perceptual_trunk is None


def test_changing_one_weight_keeps_all_others() -> None:
    recipe = Settings.parse({"recipe": {"canvas": {"border": {"l1": 7.5}}}}).recipe
    default = preset("montage")
    border = dataclasses.replace(default.canvas.border, l1=7.5)
    assert recipe == dataclasses.replace(
        default, canvas=dataclasses.replace(default.canvas, border=border)
    )
    assert border.lpips == default.canvas.border.lpips > 0


def test_changing_one_generator_keeps_the_others() -> None:
    recipe = Settings.parse({"recipe": {"insets": {"face": {"steps": 3}}}}).recipe
    default = preset("montage")
    face = dataclasses.replace(default.insets["face"], steps=3)
    assert recipe == dataclasses.replace(default, insets={"face": face})


def test_a_number_of_rounds_beside_the_stages_of_a_preset_is_refused() -> None:
    (found,) = mistakes_in({"recipe": {"max_rounds": 4}})
    assert "recipe `montage` has stages" in found
    recipe = Settings.parse({"recipe": {"max_rounds": 6, "stages": []}}).recipe
    assert recipe.rounds == 6
    assert Settings.parse({"recipe": {"preset": "refine", "max_rounds": 7}}).recipe.rounds == 7


def test_a_file_with_other_insets_has_only_these() -> None:
    fields = {
        **REAL,
        "insets": {"shoes": "shoes.safetensors"},
        "recipe": {"insets": {"shoes": {"border": {"l1": 2.0}}}},
        "perceptual": "random",
    }
    recipe = Settings.parse(fields).recipe
    assert recipe.insets == {"shoes": GeneratorSettings(border=ImageWeights(l1=2.0))}
    both = {
        **fields,
        "insets": {"shoes": "shoes.safetensors", "face": "face.safetensors"},
        "detector": {"face": "mtcnn", "shoes": "demo:shoes"},
    }
    assert Settings.parse(both).recipe.insets["face"] == preset("montage").insets["face"]


def test_each_of_several_insets_may_have_its_own_boxes() -> None:
    own = {
        name: {"fixed": {"canvas": [0, 0, 9, 9], name: [5, 5, 9, 9]}} for name in ("face", "shoes")
    }
    assert Settings.parse({**TWO_INSETS, "detector": own}).detectors.keys() == own.keys()


def test_a_data_set_of_real_images_needs_no_perceptual_weights() -> None:
    fields = {"canvas": REAL["canvas"], "insets": {}, "recipe": "generate"}
    assert Settings.parse(fields).perceptual_trunk is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"slots": 9, "max_actors": 3, "single_writer": True},
        {**REAL, "perceptual": "random", "detector": BOXES},
        {**REAL, "perceptual": "alexnet.pth", "recipe": {"psi": 0, "tolerance": 0.5}},
    ],
)
def test_a_configuration_survives_its_fields_and_yaml(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    found = parse(fields, "run.yaml")
    assert parse(to_fields(found), "run.json") == found
    path = written(tmp_path, yaml.safe_dump(to_fields(found)))
    assert config.load(path) == found


def test_fields_hold_the_defaults_too() -> None:
    fields = to_fields(parse({}, "run.yaml"))
    assert fields["recipe"]["canvas"]["border"]["l1"] == preset("montage").canvas.border.l1
    assert fields["detector"] == "mtcnn"
    assert fields["max_actors"] is None


def test_boxes_instead_of_a_detector() -> None:
    found = Settings.parse({"detector": BOXES}).detector
    assert isinstance(found, FixedBoxes)
    assert found.fixed["face"] == (8, 8, 24, 28)


# Perceptual weights


def test_real_generators_without_perceptual_weights_are_refused() -> None:
    (line,) = mistakes_in(REAL)
    assert line.startswith("perceptual is missing")
    assert STAGE_ALEXNET in line
    assert "`perceptual: random`" in line


@pytest.mark.parametrize(
    "fields", [{"canvas": "body.safetensors"}, {"insets": {"face": "face.safetensors"}}]
)
def test_one_real_generator_is_enough(fields: dict[str, Any]) -> None:
    assert "perceptual is missing" in mistakes_in(fields)[0]


def test_a_trunk_or_an_explicit_random_is_accepted() -> None:
    staged = Settings.parse({**REAL, "perceptual": "alexnet.pth"})
    assert staged.perceptual_trunk == "alexnet.pth"
    assert Settings.parse({**REAL, "perceptual": "random"}).perceptual_trunk is None


def test_the_demos_generators_are_the_demos_with_their_sha256_too() -> None:
    assert Settings.parse({"canvas": f"demo:canvas#sha256={SHA256}"}).perceptual_trunk is None
    assert "perceptual is missing" in mistakes_in({"canvas": f"demo/canvas#sha256={SHA256}"})[0]


def test_a_trunk_without_a_name_is_not_a_random_one() -> None:
    assert Settings.parse({**REAL, "perceptual": ""}).models["perceptual"] == ""


# Models


def test_the_default_settings_fit_their_recipe() -> None:
    assert set(Settings().insets) == set(Settings().recipe.insets)


def test_random_features_are_a_warning_where_something_is_optimised() -> None:
    assert "random features" in Settings().warnings[0]
    assert Settings.parse({"recipe": "generate", "insets": {}}).warnings == []


def test_models_are_all_files_of_weights() -> None:
    assert Settings().models == {
        "canvas": "demo:canvas",
        "face": "demo:face",
        "encoder.face": "demo:encoder",
    }
    assert Settings.parse({**REAL, "perceptual": "alexnet.pth"}).models == {
        "canvas": "s3://weights/body.safetensors",
        "face": "face.safetensors",
        "perceptual": "alexnet.pth",
    }


# Mistakes


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"recipe": {"canvas": {"lerning_rate": 1}}},
            "`recipe.canvas.lerning_rate` is not a known key; did you mean `learning_rate`?",
        ),
        (
            {"recipe": {"insets": {"face": {"border": {"L1": 1}}}}},
            "`recipe.insets.face.border.L1` is not a known key; did you mean `l1`?",
        ),
        ({"canvas": 3}, "`canvas` is 3: input should be a valid string"),
        ({"recipe": {"psi": 1.5}}, "`recipe.psi` is 1.5: input should be less than or equal to 1"),
        (
            {"recipe": {"canvas": {"coarse": {"l1": -1}}}},
            "`recipe.canvas.coarse.l1` is -1: input should be greater than or equal to 0",
        ),
        (
            {"recipe": {"canvas": {"coarse": {"l1": float("inf")}}}},
            "`recipe.canvas.coarse.l1` is inf: input should be a finite number",
        ),
        ({"recipe": {"resolution": 16}}, "`recipe.resolution` is 16: input should be greater"),
        ({"recipe": {"region_step": -1}}, "`recipe.region_step` is -1: input should be greater"),
        ({"recipe": "swap"}, "recipe 'swap': expected one of "),
        ({"recipe": {"preset": "swap"}}, "recipe 'swap': expected one of "),
        ({"recipe": {"canvas": {"steps": -1}}}, "`recipe.canvas.steps` is -1: input should be"),
        (
            {"recipe": {"stages": [{"rounds": 1, "changes": {"canvas": {"step": 3}}}]}},
            "`canvas.step` is not a known key; did you mean `steps`?",
        ),
        ({"recipe": None}, "`recipe` is None: input should be a dictionary"),
        ({"recipe": {"insets": {"face": 3}}}, "`recipe.insets.face` is 3: input should be a dict"),
        ({"insets": ["face"]}, "`insets` is ['face']: input should be a valid dictionary"),
        ({"detector": "dlib"}, "`detector` is 'dlib': input should be 'mtcnn'"),
        ({"detector": {"fixt": {}}}, "`detector.fixt.fixed` is missing"),
        ({"recipe": {1: 2}}, "`recipe.1` is 1: keys should be strings"),
    ],
)
def test_a_mistake_is_one_line_with_its_key_and_a_hint(fields: object, line: str) -> None:
    assert mistakes_in(fields)[0].startswith(line)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"recipe": {"resolution": 64, "coarse_size": 128}},
            "recipe.coarse_size is 128, expected at most recipe.resolution (64)",
        ),
        (
            {"recipe": {"min_rounds": 5, "max_rounds": 4, "stages": []}},
            "recipe.min_rounds is 5, expected at most recipe.max_rounds (4)",
        ),
        (
            {"insets": {"face": "demo:face", "shoes": "demo:face"}},
            "insets has ['face', 'shoes'], but recipe `montage` has ['face']",
        ),
        ({"insets": {}}, "insets is empty, but recipe `montage` optimises"),
        (
            {"recipe": {"order": ["face"]}},
            "recipe.order is ['face'], expected each of ['canvas', 'face'] once",
        ),
        (
            {"recipe": {"stages": [{"rounds": 9, "changes": {"psi": 0.5}}]}},
            "recipe.stages.0.changes has ['psi'], expected some of",
        ),
        (
            {"recipe": {"insets": {"face": {"region": "mask"}}}},
            "segmenter lacks ['face'], whose recipe says `region: mask`",
        ),
        ({"recipe": {"canvas": {"face": {"l1": 1}}}}, "recipe.canvas.face has a weight"),
        (
            {"recipe": {"insets": {"face": {"body": {"lpips": 1}}}}},
            "recipe.insets.face.body has a weight",
        ),
        (
            {"insets": {"canvas": "demo:face"}, "recipe": {"insets": {"canvas": {"steps": 3}}}},
            "recipe.insets has `canvas`",
        ),
        (
            {"insets": {"perceptual": "x"}, "recipe": {"insets": {"perceptual": {"steps": 3}}}},
            "recipe.insets has `perceptual`",
        ),
        (
            {"canvas": "demo:nonsense"},
            "canvas is 'demo:nonsense', expected one of the demo's: demo:canvas, demo:encoder",
        ),
        (
            {"insets": {"face": f"demo:faces#sha256={SHA256}"}},
            f"insets.face is 'demo:faces#sha256={SHA256}', expected one of the demo's",
        ),
        (
            {"insets": {"face": f"demo:face#sha256={SHA256[:-1]}"}},
            f"insets.face is 'demo:face#sha256={SHA256[:-1]}', expected 64 hexadecimal digits",
        ),
        (
            {"perceptual": "alexnet.pth#sha256="},
            "perceptual is 'alexnet.pth#sha256=', expected 64 hexadecimal digits",
        ),
        (
            {"detector": {"fixed": {"canvas": [0, 0, 9, 9]}}},
            "detector.fixed has ['canvas'], expected one box for each of ['canvas', 'face']",
        ),
        (
            {"detector": {"fixed": {"canvas": [0, 0, 9, 9], "face": [5, 5, 5, 9]}}},
            "detector.fixed.face is [5.0, 5.0, 5.0, 9.0], expected [x0, y0, x1, y1] with x0 < x1",
        ),
        (
            {**TWO_INSETS, "detector": "manifest"},
            "detector finds one place on the canvas, but there are the insets ['face', 'shoes'];",
        ),
        (
            {**TWO_INSETS, "detector": {"face": "mtcnn", "shoes": "manifest"}},
            "detector finds one place on the canvas",
        ),
        (
            {**TWO_INSETS, "detector": {"fixed": {**BOXES["fixed"], "shoes": [0, 0, 9, 9]}}},
            "detector finds one place on the canvas",
        ),
        (
            {"detector": {"fixed": {"canvas": [0, 0, 9], "face": [5, 5, 8, 9]}}},
            "`detector.fixed.canvas.3` is missing",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_one_line(fields: dict[str, Any], line: str) -> None:
    (found,) = mistakes_in(fields)
    assert found.startswith(line)


# One row's recipe


def test_a_row_without_overrides_has_the_recipe_itself() -> None:
    recipe = Recipe()
    assert for_item(recipe, {}) is recipe


def test_a_row_changes_its_weights_and_nothing_else() -> None:
    recipe = Recipe(psi=0.4)
    changed = for_item(recipe, {"insets": {"face": {"face": {"l1": 0.5}}}, "max_rounds": 7})
    face = dataclasses.replace(
        recipe.insets["face"], face=dataclasses.replace(recipe.insets["face"].face, l1=0.5)
    )
    assert changed == dataclasses.replace(recipe, insets={"face": face}, max_rounds=7)
    assert recipe == Recipe(psi=0.4)


@pytest.mark.parametrize(
    "overrides",
    [
        {"canvas": {"steps": 3}},
        {"insets": {"face": {"steps": 3}}},
        {"insets": {"hat": {"steps": 20}}},
        {"resolution": 128},
        {"coarse_size": 32},
    ],
)
def test_a_row_cannot_change_what_the_batch_shares(overrides: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="belong to the whole run"):
        for_item(Recipe(), overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"psy": 1}, "overrides: `psy` is not a known key; did you mean `psi`?"),
        ({"psi": 2}, "overrides: `psi` is 2: input should be less than or equal to 1"),
        (
            {"psi": 2, "hat": 1},
            "overrides: `psi` is 2: input should be less than or equal to 1; `h",
        ),
        ({"min_rounds": 99}, "overrides: recipe.min_rounds is 99, expected at most"),
        ({"insets": {"face": None}}, "overrides: `insets.face` is None: input should be a dict"),
        ({"canvas": {"face": {"l1": 1}}}, "overrides: recipe.canvas.face has a weight"),
    ],
)
def test_a_mistake_in_a_row_is_one_line_and_only_the_row_fails(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        for_item(Recipe(), overrides)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
