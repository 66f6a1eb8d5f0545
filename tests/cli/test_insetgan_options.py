"""What the options of InsetGAN make of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from insetgan_batch.cli.insetgan.options import ConfigOptions, RowOptions
from insetgan_batch.config import load, parse
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods.insetgan.settings import Settings
from tests.methods import negative

SAME = ConfigOptions()


def settings_of(path: Path, text: str, options: ConfigOptions) -> Settings:
    path.write_text(text)
    found = load(path, options.change).settings
    assert isinstance(found, Settings)
    return found


def test_the_recipe_of_a_file_that_names_none_is_the_one_asked_for(tmp_path: Path) -> None:
    path, refine = tmp_path / "run.yaml", ConfigOptions(recipe="refine")
    for text in ("", "{}", "recipe: {psi: 0.25}", "recipe: {preset: refine}"):
        assert settings_of(path, text, refine).recipe.name == "refine"
    assert settings_of(path, "recipe: {psi: 0.25}", refine).recipe.psi == 0.25
    for text in ("recipe: montage", "recipe: {preset: montage}"):
        assert settings_of(path, text, refine).recipe.name == "montage"
    assert settings_of(path, "", SAME).recipe.name == "montage"


def test_a_film_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    assert settings_of(path, "film_every: 3", ConfigOptions(film=5)).film_every == 5
    assert settings_of(path, "film_every: 3", SAME).film_every == 3


@pytest.mark.parametrize("options", [ConfigOptions(recipe="refine"), ConfigOptions(film=2)])
def test_runs_of_other_methods_have_no_such_options(options: ConfigOptions) -> None:
    fields: dict[str, Any] = {"method": negative.NAME}
    assert SAME.change(fields) == fields
    with pytest.raises(ConfigError, match="are for runs of InsetGAN"):
        options.change(fields)


def test_rows_of_photographs_are_for_insetgan_too() -> None:
    other = parse({"method": negative.NAME}, "test")
    with pytest.raises(ConfigError, match="--faces is for runs of InsetGAN"):
        RowOptions(faces="photographs").rows(other, "out", None, None)
    assert RowOptions().rows(other, "out", None, "0-9") == "seeds:0-9"
