"""Every application has a demo whose configuration and manifest fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from insetgan_batch.data import manifest
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods.insetgan import demos
from insetgan_batch.methods.insetgan.settings import Settings
from insetgan_batch.methods.insetgan.sources import schema
from tests.records import montage_items


@pytest.mark.parametrize("recipe", demos.DEMOS)
def test_a_demos_manifest_is_one_of_its_recipe(recipe: str, tmp_path: Path) -> None:
    demo = demos.find(recipe)
    settings = Settings.parse({"recipe": recipe, **demo.fields})
    assert settings.recipe.name == recipe
    assert list(settings.insets) == demo.insets
    uri = str(tmp_path / "m.parquet")
    assert manifest.write(uri, demo.items, schema(demo.insets)) == len(demo.items) <= 12
    assert list(manifest.read(uri, schema(demo.insets))) == demo.items


def test_the_montage_is_the_default_configuration_and_every_face_on_every_body() -> None:
    demo = demos.find("montage")
    assert Settings.parse({"recipe": "montage", **demo.fields}) == Settings()
    assert demo.items == montage_items([5, 7, 13], [1, 3, 6, 8])


def test_what_a_demo_gives_no_seed_for_starts_at_its_average() -> None:
    (item, *_) = demos.find("refine").items
    assert list(item.inputs) == ["canvas_seed"]


def test_a_recipe_without_a_demo_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(ConfigError, match=r"expected one of montage, .*generate"):
        demos.find("official-1")
