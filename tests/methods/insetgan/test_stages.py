"""What a recipe says of time and of failure: stages, phases, anchors, the kept round, guards, and
the items that do not come through.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import schedule
from insetgan_batch.methods.insetgan.errors import DivergedError, LostFaceError
from insetgan_batch.methods.insetgan.recipe import (
    GeneratorSettings,
    Guards,
    ImageWeights,
    Recipe,
    Stage,
)
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Finished
from insetgan_batch.methods.insetgan.terms import term_weights
from insetgan_batch.nets.checkpoint import Checkpoint
from insetgan_batch.nets.detector import Detector
from insetgan_batch.nets.generator import Generator
from tests.conftest import random_generator
from tests.methods.insetgan.bench import CANVAS_BOX, Bench, Scripted, changed, run_until_empty
from tests.methods.insetgan.conftest import FACE as FACE_ARCHITECTURE

L1 = ImageWeights(l1=1.0)
RECIPE = Recipe(
    region_slack=0.0,
    canvas=GeneratorSettings(steps=2, learning_rate=0.03, coarse=L1, border=L1, body=L1),
    insets={"face": GeneratorSettings(steps=3, learning_rate=0.02, coarse=L1, border=L1, face=L1)},
    resolution=32,
    coarse_size=32,
    min_rounds=3,
    max_rounds=3,
    border_ramp_rounds=1.0,
)


def staged(*stages: tuple[int, dict[str, Any]], **fields: Any) -> Recipe:
    """Some rounds under some changes each, and no stop in between."""
    made = tuple(Stage(rounds=rounds, changes=changes) for rounds, changes in stages)
    return dataclasses.replace(RECIPE, stages=made, min_rounds=99, **fields)


def face(**fields: Any) -> dict[str, Any]:
    return {"insets": {"face": fields}}


def canvas(**fields: Any) -> dict[str, Any]:
    return {"canvas": fields}


def history(bench: Bench, recipe: Recipe, **fields: Any) -> list[dict[str, Tensor]]:
    """The latents at the start and after every round."""
    optimizer = bench.optimizer(recipe)
    optimizer.admit(bench.start("one", 0, recipe, **fields))
    (slot,) = optimizer.slots
    found = []
    for _ in range(recipe.rounds + 1):
        found.append({name: m.latents for name, m in slot.moments.items()})
        optimizer.run_round()
    return found


# Stages


def test_a_stage_changes_weights_in_its_rounds_and_no_others(bench: Bench) -> None:
    recipe = staged((2, {}), (1, canvas(body={"l1": 7.0})), (1, {}))
    found = bench.finish(bench.start("one", 0, recipe), recipe=recipe)["one"]
    weights = {row.round: row.weight for row in found.trace if row.phase == "canvas"}
    assert [weights[n]["canvas.body.l1"] for n in (1, 2, 3, 4)] == [1.0, 1.0, 7.0, 1.0]
    assert {row.weight["face.face.l1"] for row in found.trace if row.phase == "face"} == {1.0}


def test_a_term_may_belong_to_one_stage_alone(bench: Bench) -> None:
    recipe = staged((1, {}), (1, face(whole={"l2": 2.0})), (1, {}))
    found = bench.finish(bench.start("one", 0, recipe), recipe=recipe)["one"]
    rounds = {row.round for row in found.trace if "face.whole.l2" in row.raw}
    assert rounds == {2}


def test_a_stage_changes_the_number_of_steps_in_its_rounds(bench: Bench) -> None:
    recipe = staged((1, face(steps=0)), (2, canvas(steps=1)), (1, {}))
    found = bench.finish(bench.start("one", 0, recipe), recipe=recipe)["one"]
    phases = [(row.round, row.phase) for row in found.trace]
    first, middle = [(1, "canvas")] * 2, [("canvas", 1), ("face", 3)]
    later = [(n, name) for n in (2, 3) for name, steps in middle for _ in range(steps)]
    assert phases == first + later + [(4, "canvas")] * 2 + [(4, "face")] * 3
    assert [row.step for row in found.trace if row.phase == "face"] == list(range(9))
    assert found.steps == len(phases)


def test_a_stage_changes_the_step_size_in_its_rounds(bench: Bench) -> None:
    recipe = staged((1, {}), (1, canvas(learning_rate=1e-6)), (1, {}))
    latents = [state["canvas"] for state in history(bench, recipe)]
    moved = [float((b - a).abs().max()) for a, b in itertools.pairwise(latents)]
    assert moved[0] > 1e-2
    assert 0 < moved[1] < 1e-5
    assert moved[2] > 1e-3


def test_ramps_begin_anew_with_every_stage_and_not_with_every_round(bench: Bench) -> None:
    recipe = staged((2, {}), (2, {"border_ramp_rounds": 2.0}))
    found = bench.finish(bench.start("one", 0, recipe), recipe=recipe)["one"]
    ramp = [row.weight["face.border.l1"] for row in found.trace if row.phase == "canvas"]
    assert ramp == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.25, 0.5, 0.75, 1.0])


def test_the_step_size_of_a_stage_falls_over_its_own_rounds(bench: Bench) -> None:
    """Adam's step is as long as the step size where gradients keep their direction."""
    fields: dict[str, Any] = {"warm_up": 0.0, "final_rate": 0.0, "cool_down": 1.0}
    recipe = staged((3, {}), (3, {}), **fields)
    latents = [state["canvas"] for state in history(bench, recipe)]
    moved = [float((b - a).abs().max()) for a, b in itertools.pairwise(latents)]
    assert moved[0] > moved[1] > moved[2]
    assert moved[3] > 2 * moved[2]
    assert moved[3] > moved[4] > moved[5]


def test_the_score_is_by_the_recipes_own_weights_in_every_stage(bench: Bench) -> None:
    """Else rounds of two stages could not be compared, and the best one would mean nothing."""
    recipe = staged((1, canvas(body={"l1": 50.0}, border={"l1": 0.0})), keep="last")
    found = bench.finish(bench.start("one", 0, recipe), recipe=recipe)["one"]
    for state in (found.start, found.best):
        score = sum(
            weight * state.terms[str(term)]
            for name, settings in RECIPE.generators.items()
            for term, weight in term_weights(name, settings, ["face"], 1.0).items()
            if weight
        )
        assert state.score == pytest.approx(score, rel=1e-5)
    assert found.trace[0].weight["canvas.body.l1"] == 50.0


def test_items_in_different_stages_live_in_one_batch(bench: Bench) -> None:
    """Each has the weights, steps and anchors of its own stage."""
    recipe = staged((1, face(steps=0)), (1, canvas(steps=0, anchor="stage")), (1, {}))
    optimizer = bench.optimizer(recipe)
    found: dict[str, Finished] = {}
    for boundary in range(5):
        if boundary < 3:
            optimizer.admit(bench.start(f"item {boundary}", boundary, recipe))
        optimizer.run_round()
        found |= {f.key: f for f in optimizer.release()}
    assert len(found) == 3
    for item in found.values():
        phases = [(row.round, row.phase) for row in item.trace]
        assert phases == (
            [(1, "canvas")] * 2 + [(2, "face")] * 3 + [(3, "canvas")] * 2 + [(3, "face")] * 3
        )


# Phases


@pytest.mark.parametrize("name", ["canvas", "face"])
def test_a_generator_without_steps_does_not_move(bench: Bench, name: str) -> None:
    """The other one does, towards it."""
    still = canvas(steps=0) if name == "canvas" else face(steps=0)
    recipe = dataclasses.replace(RECIPE, stages=(Stage(rounds=2, changes=still),))
    start = bench.start("one", 0, recipe)
    found = bench.finish(start, recipe=recipe)["one"]
    other = "face" if name == "canvas" else "canvas"
    assert torch.equal(found.best.latents[name], start.latents[name])
    assert torch.equal(found.best.images[name], found.start.images[name])
    assert not torch.equal(found.best.latents[other], start.latents[other])
    assert {row.phase for row in found.trace} == {other}
    assert found.scores[-1] < found.start.score


def test_while_the_canvas_stands_nobody_looks_at_it(bench: Bench) -> None:
    """The part cannot have moved."""
    recipe = staged((2, canvas(steps=0)), (1, {}))
    detector = Scripted([CANVAS_BOX], [None])
    (found,) = bench.finish(
        bench.start("one", 0, recipe), recipe=recipe, detectors={"canvas": detector}
    ).values()
    assert len(detector.images) == 2
    assert found.missed_detections == 1


@pytest.mark.parametrize("order", [("canvas", "face"), ("face", "canvas")])
def test_phases_come_in_the_order_of_the_recipe(bench: Bench, order: tuple[str, ...]) -> None:
    recipe = dataclasses.replace(RECIPE, order=order)
    found = bench.finish(bench.start("one", 0, recipe), recipe=recipe)["one"]
    steps = {"canvas": 2, "face": 3}
    once = [name for name in order for _ in range(steps[name])]
    assert [row.phase for row in found.trace] == 3 * once


def test_without_any_steps_an_item_leaves_as_it_came(bench: Bench) -> None:
    recipe = dataclasses.replace(RECIPE, min_rounds=0, max_rounds=0)
    optimizer = bench.optimizer(recipe)
    optimizer.admit(bench.start("one", 0, recipe))
    (found,) = optimizer.release()
    assert (found.stop, found.steps, found.scores, found.trace) == ("max_rounds", 0, [], [])
    assert found.best is found.start


# Which round is kept, and when to stop


def kept(recipe: Recipe, scores: Sequence[float]) -> int:
    """The round, from 1, that `is_better` leaves."""
    round_, best = 0, None
    for number, score in enumerate(scores, 1):
        if schedule.is_better(recipe, number, score, best):
            round_, best = number, score
    return round_


def stops_after(recipe: Recipe, scores: Sequence[float]) -> int:
    """Rounds done when a curve has converged; all of them if it does not."""
    counts = range(1, len(scores) + 1)
    return next((n for n in counts if schedule.has_converged(recipe, scores[:n])), len(scores))


VALLEY = [5.0, 3.0, 2.0, 4.0, 2.5]


@pytest.mark.parametrize(
    ("scores", "fields", "expected"),
    [
        (VALLEY, {}, 3),
        (VALLEY, {"keep": "last"}, 5),
        (VALLEY, {"best_after": 2}, 3),
        (VALLEY, {"best_after": 3}, 5),  # the low one of the warm-up does not count
        (VALLEY, {"best_after": 9}, 5),  # nothing but warm-up: where it ended
        (VALLEY, {"keep": "last", "best_after": 3}, 5),
        ([3.0, 3.0, 3.0], {}, 1),  # no better is not better
        ([1.0], {"best_after": 5}, 1),
    ],
)
def test_the_kept_round(scores: list[float], fields: dict[str, Any], expected: int) -> None:
    assert kept(dataclasses.replace(RECIPE, **fields), scores) == expected


def test_a_stage_that_is_not_kept_leaves_no_result_unless_there_is_no_other() -> None:
    stages = (Stage(rounds=2, kept=False), Stage(rounds=2), Stage(rounds=1, kept=False))
    recipe = dataclasses.replace(RECIPE, stages=stages)
    assert kept(recipe, [1.0, 1.0, 4.0, 5.0, 0.5]) == 3
    assert kept(dataclasses.replace(recipe, best_after=3), [1.0, 1.0, 4.0, 5.0, 0.5]) == 4
    assert kept(dataclasses.replace(recipe, keep="last"), [1.0, 1.0, 4.0, 5.0, 0.5]) == 4
    assert kept(recipe, [1.0, 2.0]) == 1


@pytest.mark.parametrize(
    ("scores", "fields", "expected"),
    [
        ([9.0, 5.0, 4.99, 4.0], {"min_rounds": 2, "tolerance": 0.01}, 3),
        ([9.0, 5.0, 4.99, 4.0, 3.0], {"min_rounds": 4, "tolerance": 0.01}, 5),
        ([9.0, 5.0, 4.99, 4.98, 3.0], {"min_rounds": 4, "tolerance": 0.01}, 4),
        ([9.0, 5.0, 4.99, 4.98], {"min_rounds": 2, "tolerance": 0.0}, 4),
        ([9.0, 5.0, 5.1, 4.0], {"min_rounds": 2, "tolerance": 0.0}, 3),
        ([9.0, 8.0, 7.0], {"min_rounds": 0, "tolerance": 0.9}, 2),
    ],
)
def test_when_a_curve_has_converged(
    scores: list[float], fields: dict[str, Any], expected: int
) -> None:
    assert stops_after(dataclasses.replace(RECIPE, max_rounds=9, **fields), scores) == expected


# Anchors and latents


def references(bench: Bench, recipe: Recipe) -> tuple[list[Tensor], list[Tensor]]:
    """The canvas' reference in every round, and its image at the start of each."""
    optimizer = bench.optimizer(recipe)
    optimizer.admit(bench.start("one", 0, recipe))
    (slot,) = optimizer.slots
    held, painted = [], []
    for _ in range(recipe.rounds):
        painted.append(slot.images["canvas"])
        optimizer.run_round()
        held.append(slot.references["canvas"])
    return held, painted


def test_an_anchor_is_set_at_the_start_of_its_stage_only(bench: Bench) -> None:
    recipe = staged((1, {}), (2, canvas(anchor="stage")), (1, canvas(anchor="previous")), (1, {}))
    held, painted = references(bench, recipe)
    assert torch.equal(held[0], painted[0])  # what was given: the item's own start
    for round_ in (1, 2, 3):
        assert torch.equal(held[round_], painted[1])
    assert torch.equal(held[4], painted[0])
    assert not torch.equal(painted[1], painted[0])


def test_an_anchor_of_the_first_stage_is_what_was_painted_at_the_start(bench: Bench) -> None:
    recipe = staged((2, canvas(anchor="stage")))
    other = bench.start("other", 7)
    start = dataclasses.replace(bench.start("one", 0, recipe), references=other.references)
    optimizer = bench.optimizer(recipe)
    optimizer.admit(start)
    (slot,) = optimizer.slots
    painted = slot.images["canvas"]
    optimizer.run_round()
    optimizer.run_round()
    assert torch.equal(slot.references["canvas"], painted)
    assert torch.equal(slot.references["face"], other.references["face"])
    assert torch.equal(start.references["canvas"], other.references["canvas"])


@pytest.mark.parametrize(("latents", "moves"), [("w", 0), ("w+", 1), ("w+delta", 2)])
def test_only_the_latents_that_are_free_move(bench: Bench, latents: str, moves: int) -> None:
    """w alone, the layers alone, or both; offsets that an item came with stay."""
    recipe = changed(RECIPE, canvas={"latents": latents})
    start = bench.start("one", 0, recipe)
    start.latents["canvas"][1:] = 0.1 * torch.randn(
        start.latents["canvas"][1:].shape, generator=torch.Generator().manual_seed(5)
    )
    found = bench.finish(start, recipe=RECIPE)["one"]
    before, after = start.latents["canvas"], found.best.latents["canvas"]
    w_moved = not torch.equal(before[0], after[0])
    layers_moved = ((before[1:] - after[1:]).abs().amax(dim=1) > 0).tolist()
    assert w_moved is (moves != 1)
    assert layers_moved == [moves != 0] * len(layers_moved)
    assert found.scores[-1] < found.start.score


# Guards and lost faces

# Of a canvas of 64x32 pixels: a quarter as high, its top at 9/64, its centre at 15/32.
FOUND = Box(9, 9, 21, 25)


@pytest.mark.parametrize(
    ("field", "passes", "refuses"),
    [
        ("min_height", 0.25, 0.251),
        ("max_height", 0.25, 0.249),
        ("min_top", 9 / 64, 0.15),
        ("max_top", 9 / 64, 0.14),
        ("max_off_centre", 1 / 32, 0.03),
    ],
)
def test_a_detection_beyond_a_guard_is_none(
    bench: Bench, field: str, passes: float, refuses: float
) -> None:
    for limit, misses in ((passes, 0), (refuses, 1)):
        recipe = dataclasses.replace(RECIPE, guards=Guards(**{field: limit}))
        detectors: dict[str, Detector] = {"canvas": Scripted([CANVAS_BOX], [FOUND])}
        optimizer = bench.optimizer(recipe, detectors=detectors)
        optimizer.admit(bench.start("one", 0, recipe))
        (slot,) = optimizer.slots
        before = slot.regions["face"]
        optimizer.run_round()
        assert slot.missed_detections == misses
        assert (slot.regions["face"] == before) is bool(misses)


def lose(bench: Bench, *seen: Box | None, **fields: Any) -> SlotOptimizer:
    recipe = dataclasses.replace(RECIPE, min_rounds=9, max_rounds=9, **fields)
    answers = Scripted([CANVAS_BOX], *([box] for box in seen))
    optimizer = bench.optimizer(recipe, detectors={"canvas": answers})
    optimizer.admit(bench.start("one", 0, recipe))
    for _ in seen:
        optimizer.run_round()
    return optimizer


def test_a_face_that_is_lost_too_often_fails_the_item(bench: Bench) -> None:
    """However often it was seen in between."""
    assert lose(bench, None, CANVAS_BOX, None, max_missed=3).release() == []
    (found,) = lose(bench, None, CANVAS_BOX, None, None, max_missed=3).release()
    assert isinstance(found.error, LostFaceError)
    assert found.error.reason == "lost_face"
    assert "\n" not in str(found.error)
    assert "3 times" in str(found.error)
    assert (found.missed_detections, len(found.scores)) == (3, 3)
    assert found.best.round in (1, 2, 3)


def test_an_item_that_has_lost_its_face_does_not_move_any_more(bench: Bench) -> None:
    optimizer = lose(bench, None, max_missed=1)
    (slot,) = optimizer.slots
    assert {row.phase for row in slot.trace} == {"canvas"}
    optimizer.run_round()
    assert len(slot.trace) == RECIPE.canvas.steps
    (found,) = optimizer.release()
    assert found.best is found.start


# Items that run away


def test_a_score_that_rises_too_far_fails_the_item(bench: Bench) -> None:
    """With what stood before it."""
    wild = changed(RECIPE, canvas={"learning_rate": 30.0, "body": {"l1": 9.0}}, max_rise=1.5)
    optimizer = bench.optimizer(RECIPE)
    optimizer.admit(bench.start("wild", 0, wild))
    optimizer.admit(bench.start("calm", 0, RECIPE))
    optimizer.run_round()
    (found,) = optimizer.release()
    assert found.key == "wild"
    assert found.scores[0] > 1.5 * found.start.score
    assert isinstance(found.error, DivergedError)
    assert "1.5 times" in str(found.error)
    assert found.best is found.start
    assert optimizer.keys == ["calm"]


class Fragile(Generator):
    """Paints what is no number once a latent of the fragile item has moved."""

    broken: Tensor  # ws `[l c]` at the item's start

    def synthesise(self, ws: Tensor, **more: Any) -> Tensor:
        image = super().synthesise(ws, **more)
        distance = (ws.detach() - self.broken).abs().amax(dim=(1, 2))[:, None, None, None]
        is_broken = (distance > 1e-3) & (distance < 0.2)
        return image * torch.where(is_broken, float("nan"), 1.0)


@pytest.fixture(scope="module")
def fragile_bench(double_bench: Bench) -> Bench:
    """Its face breaks for seed 0."""
    network = random_generator(FACE_ARCHITECTURE, 2).double().freeze()
    fragile = Fragile(Checkpoint(network, {}, "fragile"), torch.device("cpu"))
    fragile.broken = torch.full((8, 8), 1e9, dtype=torch.float64)
    bench = Bench(double_bench.generators | {"face": fragile}, double_bench.perceptual)
    latents = bench.start("one", 0).latents["face"]
    fragile.broken = fragile.ws_of(latents)
    return bench


def test_a_generator_that_fails_one_item_in_its_middle_touches_no_other(
    fragile_bench: Bench, double_bench: Bench
) -> None:
    """Its numbers are in the same batch, through the networks and their gradients."""
    keys = {"a": 3, "breaks": 0, "b": 5}

    def first_round(bench: Bench) -> SlotOptimizer:
        optimizer = bench.optimizer(RECIPE)
        for key, seed in keys.items():
            optimizer.admit(bench.start(key, seed, RECIPE))
        optimizer.run_round()
        return optimizer

    broken, healthy = first_round(fragile_bench), first_round(double_bench)
    for slot, other in zip(broken.slots, healthy.slots, strict=True):
        if slot.key != "breaks":
            for name, moments in slot.moments.items():
                assert torch.equal(moments.latents, other.moments[name].latents)
            assert slot.trace == other.trace
            assert slot.scores == other.scores
    (found,) = broken.release()
    assert (found.key, found.stop, found.scores) == ("breaks", "diverged", [])
    assert isinstance(found.error, DivergedError)
    assert "face" in str(found.error)
    assert all(bool(x.isfinite().all()) for x in found.best.latents.values())
    left, both = run_until_empty(broken), run_until_empty(healthy)
    for key in ("a", "b"):
        assert left[key].scores == pytest.approx(both[key].scores, rel=1e-9)


@pytest.mark.parametrize("name", ["canvas", "face"])
def test_a_reference_that_is_not_a_number_touches_no_other_item(bench: Bench, name: str) -> None:
    def first_round(value: float) -> SlotOptimizer:
        optimizer = bench.optimizer(RECIPE)
        for key, seed in {"a": 3, "sick": 0, "b": 5}.items():
            start = bench.start(key, seed, RECIPE)
            if key == "sick":
                start.references[name][0, 20, 12] += value
            optimizer.admit(start)
        optimizer.run_round()
        return optimizer

    broken, healthy = first_round(float("nan")), first_round(0.0)
    for slot, other in zip(broken.slots, healthy.slots, strict=True):
        if slot.key != "sick":
            for generator, moments in slot.moments.items():
                assert torch.equal(moments.latents, other.moments[generator].latents)
            assert slot.scores == other.scores
    assert [(f.key, f.stop) for f in broken.release()] == [("sick", "diverged")]
