"""The recipes that come with the package: that they can run, and that those of published programs
do what the programs do.

The programs are written down here a second time, as the plain loops that they are, and compared
step by step: who moves, which losses count, what they compare with, where the region is found
again, and how large the steps are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from insetgan_batch.boxes import Box
from insetgan_batch.errors import BadInputError, ConfigError
from insetgan_batch.methods.insetgan import recipe_variants as recipes
from insetgan_batch.methods.insetgan import schedule
from insetgan_batch.methods.insetgan.recipe import (
    CANVAS,
    GeneratorSettings,
    ImageWeights,
    Recipe,
    Stage,
)
from insetgan_batch.methods.insetgan.recipe_variants import (
    for_item,
    merged,
    preset,
    preset_names,
    stages,
)
from insetgan_batch.methods.insetgan.settings import Settings
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Finished, Start
from insetgan_batch.nets.detector import FixedBox
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.validation import field_names

FOLDER = Path(recipes.__file__).parent / "recipes"
DOCS = Path(recipes.__file__).parents[3] / "docs" / "recipes.md"
APPLICATIONS = {
    "montage",
    "refine",
    "refine_one_way",
    "body_for_face",
    "face_for_body",
    "multi_inset",
    "generate",
}
PUBLISHED = {"official-1", "official-2", "sgh", "paper"}
NOTHING = ImageWeights()


def with_stages(*given: Stage, **fields: Any) -> Recipe:
    return dataclasses.replace(Recipe(), stages=given, **fields)


# The files


def test_every_application_and_every_published_program_has_a_recipe() -> None:
    assert set(preset_names()) == APPLICATIONS | PUBLISHED


@pytest.mark.parametrize("name", preset_names())
def test_a_recipe_has_the_name_of_its_file_and_all_its_stages_can_be(name: str) -> None:
    found = preset(name)
    assert found.name == name
    assert sum(rounds for rounds, _ in stages(found)) == found.rounds


@pytest.mark.parametrize("name", preset_names())
def test_a_recipe_can_be_named_in_a_configuration(name: str) -> None:
    found = preset(name)
    insets = {inset: f"demo:{inset}" for inset in found.insets}
    detector = {inset: "mtcnn" for inset in found.insets}
    fields = {"insets": insets, "recipe": name} | ({"detector": detector} if insets else {})
    assert Settings.parse(fields).recipe == found


def test_the_montage_is_the_default_and_names_every_field() -> None:
    fields = yaml.safe_load((FOLDER / "montage.yaml").read_text())
    assert Settings().recipe == preset("montage")
    assert _keys(fields) == _keys(dataclasses.asdict(Recipe()))


def test_a_row_cannot_change_the_rounds_of_a_recipe_with_stages() -> None:
    with pytest.raises(BadInputError, match="`max_rounds` would change nothing"):
        for_item(preset("montage"), {"max_rounds": 3})
    assert for_item(preset("refine"), {"max_rounds": 3, "min_rounds": 1}).rounds == 3


def test_the_montage_closes_its_seam_where_regions_stand_still() -> None:
    first, last = (recipe for _, recipe in stages(preset("montage")))
    assert first.region_step > last.region_step == 0
    assert last.insets["face"].border.l1 > first.insets["face"].border.l1


def _keys(fields: Any) -> Any:
    """Names only, at every depth."""
    return {k: _keys(v) for k, v in fields.items()} if isinstance(fields, dict) else None


@pytest.mark.parametrize("name", sorted(APPLICATIONS - {"montage"}))
def test_a_recipe_says_nothing_that_the_default_says(name: str) -> None:
    """The file of an application holds its differences only."""
    fields = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert list(_repeated(fields, dataclasses.asdict(Recipe()))) == []


def _repeated(fields: dict[str, Any], default: dict[str, Any]) -> Iterator[str]:
    for key, value in fields.items():
        if key in ("canvas", "insets", *Recipe().insets) and key in default and value:
            yield from _repeated(value, default[key])
        elif key in default and value != {} and merged(default, {key: value}) == default:
            yield key


def test_the_guide_names_every_recipe_and_every_field() -> None:
    text = DOCS.read_text()
    names = {*preset_names(), *field_names(Recipe)} - {"name"}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


# What a recipe is refused for


def test_an_unknown_recipe_is_one_line_that_names_the_others() -> None:
    with pytest.raises(ConfigError) as caught:
        preset("montag")
    message = str(caught.value)
    assert message.startswith("recipe 'montag': expected one of body_for_face, ")
    assert "\n" not in message
    assert all(name in message for name in preset_names())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"psi": 0.5}, "recipe.stages.0.changes has ['psi'], expected some of ['border_ramp"),
        ({"canvas": {"step": 3}}, "`canvas.step` is not a known key; did you mean `steps`?"),
        ({"canvas": {"steps": -1}}, "`canvas.steps` is -1: input should be greater than"),
        ({"canvas": 3}, "`canvas` is 3: input should be a dictionary"),
        ({"insets": 3}, "`insets` is 3: input should be a valid dictionary"),
        ({"warm_up": 2}, "`warm_up` is 2: input should be less than or equal to 1"),
        (
            {"insets": {"hat": {"steps": 0}}},
            "recipe.stages.0.changes.insets has ['hat'], expected some of ['face']",
        ),
        (
            {"canvas": {"latents": "w", "start": "seed"}},
            "recipe.stages.0.changes.canvas has ['start', 'latents'], which no stage can change",
        ),
        (
            {"insets": {"face": {"region": "mask"}}},
            "recipe.stages.0.changes.insets.face has ['region'], which no stage can change",
        ),
    ],
)
def test_a_stage_that_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    fields = dataclasses.asdict(Recipe()) | {"stages": [{"rounds": 1, "changes": changes}]}
    with pytest.raises(ConfigError) as caught:
        recipes.from_fields(fields, "here")
    assert str(caught.value).startswith(f"here: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "stage", [{"rounds": 0}, {"rounds": 1, "kept": "maybe"}, {"rounds": 1, "changed": {}}, {}]
)
def test_a_stage_has_rounds_changes_and_kept(stage: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"here: `stages\.0"):
        recipes.from_fields(dataclasses.asdict(Recipe()) | {"stages": [stage]}, "here")


@pytest.mark.parametrize(
    "overrides",
    [
        {"canvas": {"steps": 3}},
        {"insets": {"face": {"steps": 0}}},
        {"insets": {"face": {"region": "mask"}}},
        {"insets": {"hat": {"steps": 20}}},
        {"order": ["face", "canvas"]},
        {"stages": [{"rounds": 1}]},
        {"resolution": 128},
        {"coarse_size": 32},
    ],
)
def test_a_row_cannot_change_what_belongs_to_the_run(overrides: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="belong to the whole run") as caught:
        for_item(Recipe(), overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        {"max_rounds": 10**12},
        {"max_rounds": 1e12},
        {"min_rounds": 10**6, "max_rounds": 10**6},
        {"inversion": {"rounds": 10**12}},
        {"canvas": {"steps": 10**12}},
        {"stages": [{"rounds": 10**12}]},
    ],
)
def test_no_row_takes_years(overrides: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="less than or equal to 100000"):
        for_item(Recipe(), overrides)
    with pytest.raises(ConfigError, match="less than or equal to 100000"):
        recipes.from_fields(merged(dataclasses.asdict(Recipe()), overrides), "test")


def test_changes_keep_what_they_do_not_name() -> None:
    defaults = {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": [4, 5]}
    assert merged(defaults, {"a": {"c": {"e": 9}}, "f": [6]}) == {
        "a": {"b": 1, "c": {"d": 2, "e": 9}},
        "f": [6],
    }
    assert defaults == {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": [4, 5]}


def test_a_stage_keeps_what_it_does_not_name() -> None:
    (first, now), (second, then) = stages(
        with_stages(Stage(rounds=2, changes={"canvas": {"border": {"l1": 0.0}}}), Stage(rounds=3))
    )
    assert (first, second) == (2, 3)
    canvas = Recipe().canvas
    assert now.canvas == dataclasses.replace(
        canvas, border=dataclasses.replace(canvas.border, l1=0.0)
    )
    assert now.insets == Recipe().insets
    assert then.generators == Recipe().generators


# Which round is the result


def test_rounds_of_a_stage_that_is_not_kept_are_no_result() -> None:
    found = with_stages(
        Stage(rounds=2), Stage(rounds=1, kept=False), Stage(rounds=1), keep="last", best_after=0
    )
    assert [schedule.is_better(found, n, 1.0, 2.0) for n in (1, 2, 3, 4)] == [1, 1, 0, 1]


def test_the_first_round_is_the_result_until_another_is() -> None:
    found = with_stages(Stage(rounds=1, kept=False), Stage(rounds=1), keep="last")
    assert schedule.is_better(found, 1, 1.0, None)


# The published programs, step by step


@dataclasses.dataclass(frozen=True)
class Step:
    """One optimiser step. border, held: whether these terms count; anchor: after how many steps of
    its own the generator was what it is held to, None for its start.
    """

    generator: str
    border: bool
    held: bool
    anchor: int | None = None


def timeline(recipe: Recipe) -> list[Step]:
    """What a recipe does, in the order in which `SlotOptimizer.run_round` does it."""
    steps: list[Step] = []
    anchors: dict[str, int | None] = dict.fromkeys(recipe.generators)
    for rounds, now in stages(recipe):
        for name, settings in now.generators.items():
            if settings.anchor != "previous":
                anchors[name] = _done(steps, name) if settings.anchor == "stage" else None
        for _ in range(rounds):
            for name in recipe.phases:
                settings = now.generators[name]
                own = settings.body if name == CANVAS else settings.face
                held = own != NOTHING
                step = Step(name, settings.border != NOTHING, held, anchors[name] if held else None)
                steps += [step] * settings.steps
    return steps


def detections(recipe: Recipe) -> dict[int, float]:
    """How far the region goes at each detection, by the steps that the canvas has done by then."""
    found: dict[int, float] = {}
    done = 0
    for rounds, now in stages(recipe):
        for _ in range(rounds):
            done += now.canvas.steps
            if now.canvas.steps and now.region_step:
                found[done] = now.region_step
    return found


def _done(steps: list[Step], generator: str) -> int:
    return sum(step.generator == generator for step in steps)


def official(first: str, held: Mapping[str, Mapping[int, int | None]]) -> list[Step]:
    """The official program: 400 steps, sides changed after each that is a multiple of 40.

    held: of each generator, from which step on it is held to what it was after how many steps.
    """
    steps: list[Step] = []
    generator = first
    for j in range(400):
        since = [begin for begin in held[generator] if j >= begin]
        anchor = held[generator][max(since)] if since else None
        steps.append(Step(generator, border=j > 300, held=bool(since), anchor=anchor))
        if j % 40 == 0:
            generator = "face" if generator == CANVAS else CANVAS
    return steps


def official_detections(steps: list[Step]) -> dict[int, float]:
    """At every 20th step up to 100 it goes (250 - j) / 250 of the way, on the canvas as it is."""
    left: dict[int, float] = {}
    for j in range(20, 101, 20):
        done = _done(steps[:j], CANVAS)
        left[done] = left.get(done, 1.0) * (1 - (250 - j) / 250)
    return {done: 1 - share for done, share in left.items()}


# Of config_1 the body is held from 75 on to the canvas before step 74, its 35th; in step 74 itself
# that is a loss of 0. Of config_2 the body is held from the start, from 75 on to what it is then;
# the face to what it is at 120.
OFFICIAL = {
    "official-1": official(CANVAS, {CANVAS: {74: 34}, "face": {0: None}}),
    "official-2": official("face", {CANVAS: {0: None, 75: 40}, "face": {120: 41}}),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_program_is_reproduced_step_by_step(name: str) -> None:
    assert timeline(preset(name)) == OFFICIAL[name]


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_program_moves_each_generator_200_times(name: str) -> None:
    steps = timeline(preset(name))
    assert [_done(steps, name) for name in (CANVAS, "face")] == [200, 200]


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_border_counts_from_step_301_on_and_then_fully(name: str) -> None:
    found = preset(name)
    steps = timeline(found)
    assert [j for j, step in enumerate(steps) if step.border] == list(range(301, 400))
    for _, now in stages(found):
        for generator, full in found.generators.items():
            own = now.generators[generator]
            assert own.border in (NOTHING, full.border)
            assert schedule.border_ramp(now, own, 0) == 1.0


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_region_is_found_again_as_the_official_program_does(name: str) -> None:
    assert detections(preset(name)) == pytest.approx(official_detections(OFFICIAL[name]))


@pytest.mark.parametrize(("name", "last"), [("official-1", 360), ("official-2", 399)])
def test_the_last_state_after_a_step_of_the_face_is_the_result(name: str, last: int) -> None:
    found = preset(name)
    kept = [n for n in range(1, found.rounds + 1) if schedule.is_better(found, n, 2.0, 1.0)]
    before = _first_rounds(found, kept[-1])
    assert len(timeline(before)) - 1 == last
    assert OFFICIAL[name][last].generator == "face"


def _first_rounds(recipe: Recipe, count: int) -> Recipe:
    """A recipe up to the end of so many rounds, which is the end of a stage."""
    kept: list[Stage] = []
    for stage in recipe.stages:
        if sum(s.rounds for s in kept) < count:
            kept.append(stage)
    assert sum(s.rounds for s in kept) == count
    return dataclasses.replace(recipe, stages=tuple(kept))


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_step_sizes_are_constant(name: str) -> None:
    found = preset(name)
    expected = {CANVAS: 0.035, "face": 0.006 if name == "official-1" else 0.005}
    for rounds, now in stages(found):
        for settings in now.generators.values():
            for step in range(rounds * settings.steps):
                assert schedule.learning_rate(now, settings, step) == settings.learning_rate
        assert {n: p.learning_rate for n, p in now.generators.items()} == expected


def test_stylegan_humans_program_is_reproduced_step_by_step() -> None:
    face = Step("face", border=True, held=True)
    body = Step(CANVAS, border=True, held=True)
    joint = ([face] * 50 + [body] * 50) * 5
    assert timeline(preset("sgh")) == [face] * 25 + [body] * 150 + joint


def test_stylegan_humans_program_looks_for_the_face_before_steps_50_and_100_of_the_body() -> None:
    """Before step 0 is the start, where our detector looks too."""
    assert detections(preset("sgh")) == {50: 1.0, 100: 1.0}


def test_stylegan_humans_step_sizes_rise_and_fall_as_its_own() -> None:
    """In the third stage each generator counts its own 250 steps."""
    found: dict[str, list[float]] = {CANVAS: [], "face": []}
    for rounds, now in stages(preset("sgh")):
        for name, settings in now.generators.items():
            steps = range(rounds * settings.steps)
            found[name] += [schedule.learning_rate(now, settings, step) for step in steps]
    expected = {
        "face": [0.01 * ramp(t, 25) for t in range(25)] + [0.02 * ramp(t, 250) for t in range(250)],
        CANVAS: [0.05 * ramp(t, 150) for t in range(150)]
        + [0.05 * ramp(t, 250) for t in range(250)],
    }
    for name, rates in expected.items():
        assert found[name] == pytest.approx(rates)


def ramp(t: int, count: int) -> float:
    """A rise over the first 5 %, a cosine down over the last 25 %.

    The program's rise is t / (0.05 count), so its first step is none; ours is one step ahead.
    """
    rise = min(1.0, (t + 1) / (0.05 * count))
    return rise * (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t / count) / 0.25)))


RING = 2 / (8 * 256) + 2 / (8 * 240)  # the official border: four strips, each divided by its pixels
RIM = 1 - (240 / 256) ** 2  # of the official picture
REGION_BORDER = 1 - (112 / 128) ** 2  # 8 px on each side of 128
OUTSIDE = 1 - 140**2 / (1024 * 512)  # of 128 px grown by a twentieth on each side
BOX = 0.2  # of the inset's picture


@pytest.mark.parametrize(
    ("name", "generator", "term", "expected"),
    [
        ("official-1", CANVAS, "coarse.l1", 1000 / 64**2),
        ("official-1", CANVAS, "coarse.lpips", 0.15),
        ("official-1", CANVAS, "border.l2", 5000 * RING),
        ("official-1", CANVAS, "body.l1", 1000 / 32**2),
        ("official-1", CANVAS, "body.lpips", 0.01),
        ("official-1", CANVAS, "latent", 20000 / 512**2),
        ("official-1", "face", "coarse.l1", 500 / 64**2),
        ("official-1", "face", "coarse.lpips", 0.05),
        ("official-1", "face", "whole.l1", 1000 / 256**2),
        ("official-1", "face", "border.l2", 20000 * RING),
        ("official-1", "face", "border.lpips", 0.25 * RIM),
        ("official-1", "face", "face.lpips", 0.4),
        ("official-2", CANVAS, "coarse.l1", 1000 / 64**2),
        ("official-2", CANVAS, "coarse.lpips", 0.15),
        ("official-2", CANVAS, "border.l2", 5000 * RING),
        ("official-2", CANVAS, "body.l1", 1000 / 32**2),
        ("official-2", CANVAS, "body.lpips", 0.01),
        ("official-2", CANVAS, "latent", 20000 / 512**2),
        ("official-2", "face", "coarse.l1", 1000 / 64**2),
        ("official-2", "face", "coarse.lpips", 0.07),
        ("official-2", "face", "border.l2", 20000 * RING),
        ("official-2", "face", "border.lpips", 0.25 * RIM),
        ("official-2", "face", "face.lpips", 0.1),
        ("sgh", CANVAS, "coarse.l1", 500),
        ("sgh", CANVAS, "coarse.lpips", 0.05),
        ("sgh", CANVAS, "border.l1", 2500 * REGION_BORDER),
        ("sgh", CANVAS, "body.l1", 9000 * OUTSIDE),
        ("sgh", CANVAS, "body.lpips", 0.1 * OUTSIDE),
        ("sgh", CANVAS, "latent", 25000),
        ("sgh", "face", "coarse.l1", 500),
        ("sgh", "face", "coarse.lpips", 0.05),
        ("sgh", "face", "border.l1", 25000 * REGION_BORDER),
        ("sgh", "face", "face.l1", 5000 * BOX),
        ("sgh", "face", "face.lpips", 1.75 * BOX),
    ],
)
def test_a_published_weight_is_converted(
    name: str, generator: str, term: str, expected: float
) -> None:
    assert weights_of(preset(name).generators[generator])[term] == pytest.approx(
        expected, rel=0.005
    )


def weights_of(settings: GeneratorSettings) -> dict[str, float]:
    """All weights that are not 0, by name."""
    fields = dataclasses.asdict(settings)
    found = {term: fields[term] for term in ("latent", "delta")}
    for term in ("coarse", "whole", "border", "body", "face"):
        found |= {f"{term}.{distance}": weight for distance, weight in fields[term].items()}
    return {term: weight for term, weight in found.items() if weight}


@pytest.mark.parametrize(
    ("name", "canvas", "face"),
    [("official-1", 6, 6), ("official-2", 6, 5), ("sgh", 6, 5)],
)
def test_a_published_program_has_no_weight_of_the_default(
    name: str, canvas: int, face: int
) -> None:
    found = preset(name)
    assert len(weights_of(found.canvas)) == canvas
    assert len(weights_of(found.insets["face"])) == face


def test_the_stages_of_stylegan_humans_program_have_their_own_weights() -> None:
    clear, find, find_on, joint = (now for _, now in stages(preset("sgh")))
    face = weights_of(clear.insets["face"])
    assert face["coarse.l1"] == 50
    assert face["border.l1"] == pytest.approx(1000 * REGION_BORDER, rel=0.005)
    assert face["border.lpips"] == pytest.approx(0.1 * REGION_BORDER, rel=0.005)
    assert [now.canvas.latent for now in (find, find_on, joint)] == [15000, 15000, 25000]


def test_truncation_is_psi_and_the_official_one_is_1_minus_it() -> None:
    first = [0.8] * 3 + [0.7] * 2 + [0.5] + [0.4] * 2 + [0.3] * 10
    second = [0.95] + [0.8] * 2 + [0.7] * 2 + [0.5] * 3 + [0.3] * 10
    for name, alphas in (("official-1", first), ("official-2", second)):
        assert preset(name).psi == 1 - 0.5
        assert preset(name).insets["face"].psi == pytest.approx([1 - alpha for alpha in alphas])
    assert preset("sgh").psi == 0.6


def test_the_paper_has_no_ramps_finds_the_box_anew_and_stops_when_converged() -> None:
    found = preset("paper")
    assert (found.region_step, found.border_ramp_rounds, found.keep) == (1.0, 0.0, "last")
    for settings in found.generators.values():
        assert schedule.learning_rate(found, settings, 0) == settings.learning_rate
        assert schedule.learning_rate(found, settings, 900) == settings.learning_rate
        assert settings.latents == "w+delta"
    assert found.canvas.latent > found.insets["face"].latent
    assert schedule.has_converged(found, [1.0, 0.995])


# The applications


def test_the_applications_start_and_hold_as_they_say() -> None:
    found = {name: preset(name) for name in APPLICATIONS - {"generate", "multi_inset"}}
    starts = {n: (r.canvas.start, r.insets["face"].start) for n, r in found.items()}
    held = {
        n: (r.canvas.body != NOTHING, r.insets["face"].face != NOTHING) for n, r in found.items()
    }
    assert starts == {
        "montage": ("given", "given"),
        "refine": ("given", "average"),
        "refine_one_way": ("given", "average"),
        "body_for_face": ("seed", "given"),
        "face_for_body": ("given", "seed"),
    }
    assert held == {
        "montage": (True, True),
        "refine": (True, False),
        "refine_one_way": (False, False),
        "body_for_face": (False, True),
        "face_for_body": (True, False),
    }


def test_one_way_refinement_does_not_move_the_canvas() -> None:
    assert {step.generator for step in timeline(preset("refine_one_way"))} == {"face"}
    assert weights_of(preset("refine_one_way").canvas) == {}


def test_faces_for_a_body_are_compared_more_coarsely_than_the_montage() -> None:
    assert preset("face_for_body").coarse_size < Recipe().coarse_size


def test_multi_inset_is_the_montage_with_shoes_that_weigh_as_the_face() -> None:
    found, montage = preset("multi_inset"), preset("montage")
    face = montage.insets["face"]
    first, last = montage.stages
    closing = last.changes["insets"]["face"]
    changes = last.changes | {"insets": {"face": closing, "shoes": closing}}
    assert found == dataclasses.replace(
        montage,
        name="multi_inset",
        insets={"face": face, "shoes": face},
        stages=(first, dataclasses.replace(last, changes=changes)),
    )


def test_every_application_looks_at_its_seam_and_no_published_program_does() -> None:
    seams = {
        name: {
            key: settings.seam
            for key, settings in preset(name).generators.items()
            if settings.steps
        }
        for name in preset_names()
    }
    for name, by_generator in seams.items():
        if name in APPLICATIONS - {"generate"}:
            assert all(by_generator.values()), name
        else:
            assert not any(by_generator.values()), name


def test_generate_has_no_insets_and_no_steps() -> None:
    found = preset("generate")
    assert (found.insets, found.rounds, timeline(found)) == ({}, 0, [])


# They run


def small(recipe: Recipe) -> Recipe:
    """The same for tiny generators: phases of 2 steps at most, stages of one round."""
    fields = dataclasses.asdict(recipe)
    fields |= {"resolution": 32, "coarse_size": 32}
    if not recipe.stages:
        fields["min_rounds"] = fields["max_rounds"] = min(2, recipe.max_rounds)
    parts = [fields] + [stage["changes"] for stage in fields["stages"]]
    for part in parts:
        for settings in (part.get("canvas", {}), *part.get("insets", {}).values()):
            if "steps" in settings:
                settings["steps"] = min(2, settings["steps"])
    for stage in fields["stages"]:
        stage["rounds"] = 1
    return recipes.from_fields(fields, "small")


def finish(recipe: Recipe, canvas: Generator, inset: Generator, trunk: Perceptual) -> Finished:
    """Run one item to its end; every inset is painted by the same generator."""
    generators = {CANVAS: canvas} | dict.fromkeys(recipe.insets, inset)
    optimizer = SlotOptimizer(
        canvas=canvas,
        insets={name: inset for name in recipe.insets},
        detectors=dict.fromkeys(recipe.insets, FixedBox(Box(8, 6, 22, 27))),
        canvas_detectors=dict.fromkeys(recipe.insets, FixedBox(Box(8, 8, 20, 24))),
        perceptual=trunk,
        recipe=recipe,
        capacity=1,
    )
    latents, references = {}, {}
    for seed, (name, generator) in enumerate(generators.items()):
        latents[name] = generator.latents_of(generator.seeds_to_w([seed], 0.7)[0])
        references[name] = generator.images_of_seeds([seed], 0.7)[0]
    optimizer.admit(Start("one", recipe, latents, references))
    for _ in range(max(1, recipe.rounds)):
        optimizer.run_round()
        for finished in optimizer.release():
            return finished
    raise AssertionError("the item was still inside after its last round")


@pytest.mark.parametrize("name", preset_names())
def test_a_recipe_runs(
    name: str, tiny_canvas: Generator, tiny_face: Generator, perceptual: Perceptual
) -> None:
    recipe = small(preset(name))
    found = finish(recipe, tiny_canvas, tiny_face, perceptual)
    assert found.error is None
    assert [row.phase for row in found.trace] == [step.generator for step in timeline(recipe)]
    assert math.isfinite(found.best.score)
    if recipe.keep == "last":
        assert found.best.round == max(
            n
            for n in range(1, recipe.rounds + 1)
            if schedule.is_better(recipe, n, 2.0, 1.0)
            if n <= len(found.scores)
        )
    for generator in recipe.generators:
        moved = not torch.equal(found.best.latents[generator], found.start.latents[generator])
        assert moved == (_done(timeline(recipe), generator) > 0)


def test_the_official_body_is_held_to_what_it_was_at_step_74_until_the_end(
    tiny_canvas: Generator, tiny_face: Generator, perceptual: Perceptual
) -> None:
    """The loss is 0 once, where the anchor is: a stage after it does not anchor anew."""
    found = finish(small(preset("official-1")), tiny_canvas, tiny_face, perceptual)
    body = [row.raw["canvas.body.l1"] for row in found.trace if "canvas.body.l1" in row.raw]
    assert body[0] == pytest.approx(0, abs=1e-6)
    assert min(body[1:]) > 1e-5
