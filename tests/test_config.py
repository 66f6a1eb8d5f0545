"""Configurations: the method, its settings and the machines; the one line of each mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from insetgan_batch import config
from insetgan_batch.config import Machine, Settings, parse, to_fields
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods import names
from tests.methods import negative


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


def test_keys_of_the_machines_and_of_the_method_stand_side_by_side() -> None:
    found = parse({"slots": 9, "canvas": "demo:face", "single_writer": True}, "run.yaml")
    assert found.method == "insetgan"
    assert found.machine == Machine(slots=9, single_writer=True)
    assert found.settings.models["canvas"] == "demo:face"


def test_a_method_may_have_no_settings() -> None:
    found = parse({"method": negative.NAME, "slots": 2}, "run.yaml")
    assert (found.method, found.settings) == (negative.NAME, Settings())
    assert found.settings.models == {}


def test_no_key_is_one_of_the_machines_and_of_a_method() -> None:
    kinds: list[Any] = [Machine, names.find("insetgan").Settings]
    keys = [{field.name for field in dataclasses.fields(kind)} | {"method"} for kind in kinds]
    assert keys[0] & keys[1] == {"method"}


def test_a_resume_may_have_other_machines_and_what_its_method_leaves_free() -> None:
    assert parse({"method": negative.NAME}, "x").free == to_fields_of(Machine())
    assert parse({}, "x").free - to_fields_of(Machine()) == {"film_every"}


def to_fields_of(machine: Machine) -> set[str]:
    return {field.name for field in dataclasses.fields(machine)}


def test_fields_hold_the_defaults_too_and_the_method_if_it_is_not_the_first_one() -> None:
    """Runs of versions that knew one method have no such key, and are resumed."""
    assert to_fields(parse({}, "run.yaml"))["max_actors"] is None
    assert "method" not in to_fields(parse({"method": "insetgan"}, "run.yaml"))
    fields = to_fields(parse({"method": negative.NAME}, "run.yaml"))
    assert fields["method"] == negative.NAME
    assert parse(fields, "run.json") == parse({"method": negative.NAME}, "run.yaml")


def test_the_command_line_changes_the_fields_before_they_are_checked(tmp_path: Path) -> None:
    path = written(tmp_path, "slots: 3")
    assert config.load(path, lambda fields: fields | {"slots": 5}).machine.slots == 5
    with pytest.raises(ConfigError, match="`slots` is 0"):
        config.load(path, lambda fields: fields | {"slots": 0})


def test_a_changed_machine_leaves_the_rest_as_it_is() -> None:
    before = parse({"slots": 3, "item_hours": 2}, "run.yaml")
    after = before.on(slots=5)
    assert after.machine == Machine(slots=5, item_hours=2)
    assert (after.method, after.settings) == (before.method, before.settings)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse({}, "run.yaml").machine.slots = 3  # type: ignore[misc]


# Mistakes


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"slot": 3}, "`slot` is not a known key; did you mean `slots`?"),
        ({"metod": "x"}, "`metod` is not a known key; did you mean `method`?"),
        ({"qwertz": 3}, "`qwertz` is not a known key"),
        ({"slots": 0}, "`slots` is 0: expected a number from 1 to 4096, or auto"),
        ({"slots": "many"}, "`slots` is 'many': expected a number from 1 to 4096, or auto"),
        ({"storage": {"region": 3}}, "`storage.region` is 3: input should be a valid string"),
        ({1: 2}, "`1` is 1: keys should be strings"),
        ([1], "found list, expected `key: value` lines"),
        ("canvas", "found str, expected `key: value` lines"),
        ({"method": "insetgen"}, "`method` is 'insetgen', which cannot be imported"),
        ({"method": ["insetgan"]}, "`method` is ['insetgan'], which cannot be imported"),
        ({"method": 3}, "`method` is 3, which cannot be imported"),
        ({"method": None}, "`method` is None, which cannot be imported"),
        ({"method": negative.NAME, "canvas": "x"}, "`canvas` is not a known key"),
    ],
)
def test_a_mistake_is_one_line_with_its_key_and_a_hint(fields: object, line: str) -> None:
    (found,) = mistakes_in(fields)
    assert found.startswith(line)


def test_every_mistake_is_told_at_once() -> None:
    lines = mistakes_in({"slots": 0, "cavas": "x", "recipe": {"psi": 2, "tolerance": -1}})
    assert [line.split("`")[1] for line in lines] == [
        "recipe.psi",
        "recipe.tolerance",
        "cavas",
        "slots",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not YAML"),
        ("a: b: c", "not YAML"),
        ("- 1\n- 2", "found list"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("slots: 0", "`slots` is 0"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere.yaml", tmp_path, binary):
        with pytest.raises(ConfigError, match="cannot be read"):
            config.load(path)
