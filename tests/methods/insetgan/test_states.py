"""An item moves to another machine in its middle: what it takes along, and how it ends there."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan.adam import MovingLatents
from insetgan_batch.methods.insetgan.errors import LostFaceError
from insetgan_batch.methods.insetgan.recipe import Recipe, Stage
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Finished, Slot, State, TraceRow
from insetgan_batch.methods.insetgan.terms import term_weights
from insetgan_batch.nets.detector import Detector, FixedBox
from tests.methods.insetgan.bench import (
    CANVAS_BOX,
    FACE_BOX,
    RECIPE,
    Bench,
    Ellipse,
    Follower,
    Scripted,
    changed,
    run_until_empty,
    through_a_file,
)

FACE = RECIPE.insets["face"]
LANDMARKS = ((11.0, 13.0), (18.0, 12.0), (15.0, 17.0))
TILTED = dataclasses.replace(CANVAS_BOX, landmarks=((9.0, 14.0), (15.0, 12.0), (13.0, 17.0)))
STAGED = dataclasses.replace(
    RECIPE,
    stages=(
        Stage(rounds=1, changes={"insets": {"face": {"anchor": "stage"}}}),
        Stage(rounds=2, changes={"canvas": {"anchor": "stage"}, "border_ramp_rounds": 0.0}),
        Stage(rounds=1, changes={"canvas": {"anchor": "previous"}, "warm_up": 0.0}),
    ),
)
LIVES: dict[str, tuple[Recipe, dict[str, Detector]]] = {
    "plain": (RECIPE, {}),
    "stages and anchors": (STAGED, {}),
    "w and w+": (changed(canvas={"latents": "w"}, insets={"face": {"latents": "w+"}}), {}),
    "masks": (
        dataclasses.replace(RECIPE, insets={"face": dataclasses.replace(FACE, region="mask")}),
        {},
    ),
    "regions that move": (changed(region_step=0.7), {"canvas": Follower(CANVAS_BOX)}),
    "regions that are turned": (
        changed(insets={"face": {"align": "similarity"}}),
        {
            "canvas": FixedBox(TILTED),
            "face": FixedBox(dataclasses.replace(FACE_BOX, landmarks=LANDMARKS)),
        },
    ),
}


def optimizer_of(bench: Bench, life: str, capacity: int = 1) -> SlotOptimizer:
    recipe, detectors = LIVES[life]
    return bench.optimizer(recipe, capacity, detectors, segmenters={"face": Ellipse()})


def everything(found: Finished) -> dict[str, Any]:
    """All that an item leaves with, but for its pictures."""
    best, start = found.best, found.start
    return {
        "scores": found.scores,
        "trace": [dataclasses.asdict(row) for row in found.trace],
        "counts": (found.steps, found.missed_detections, found.stop, str(found.error)),
        "best": (best.round, best.score, best.terms, best.regions, start.score, start.regions),
        "boxes": found.inset_boxes,
        "latents": {name: latents.tolist() for name, latents in best.latents.items()},
    }


@pytest.mark.parametrize("life", LIVES)
def test_an_item_that_moves_ends_bit_for_bit_as_the_one_that_stayed(
    bench: Bench, life: str
) -> None:
    """Everything of a slot is in its state, or follows from its start."""
    start = bench.start("one", 0, LIVES[life][0])
    home = optimizer_of(bench, life)
    home.admit(start)
    states = {}
    for rounds in (1, 2):
        home.run_round()
        states[rounds] = through_a_file(home.save("one"))
    stayed = run_until_empty(home)["one"]
    assert len(stayed.scores) > 2
    for state in states.values():
        there = optimizer_of(bench, life, capacity=3)
        there.load(start, state)
        moved = run_until_empty(there)["one"]
        assert everything(moved) == everything(stayed)
        for name, image in stayed.best.images.items():
            assert torch.equal(moved.best.images[name], image)
        assert moved.best.masks.keys() == stayed.best.masks.keys()


def test_an_item_moves_before_its_first_round(bench: Bench) -> None:
    start = bench.start("one", 0)
    home, there = optimizer_of(bench, "plain"), optimizer_of(bench, "plain")
    home.admit(start)
    there.load(start, through_a_file(home.save("one")))
    assert everything(run_until_empty(there)["one"]) == everything(run_until_empty(home)["one"])


def test_the_best_state_of_before_the_move_stays_the_best(bench: Bench) -> None:
    """The face jumps away on the machine that the item came to."""
    recipe = changed(region_step=1.0)
    away = Box(4, 14, 16, 30)
    start = bench.start("one", 5, recipe)
    home = bench.optimizer(recipe)
    home.admit(start)
    home.run_round()
    home.run_round()
    state = through_a_file(home.save("one"))
    there = bench.optimizer(recipe, detectors={"canvas": Scripted([CANVAS_BOX], [away])})
    there.load(start, state)
    (slot,) = there.slots
    before = slot.best
    assert before is not None
    moved = run_until_empty(there)["one"]
    assert moved.best.round == 2
    assert moved.scores[2] > moved.scores[1] == moved.best.score
    for name, latents in moved.best.latents.items():
        painted = bench.paint(name, latents)
        torch.testing.assert_close(moved.best.images[name], painted, rtol=1e-5, atol=1e-5)
    assert moved.best.regions == before.regions


def test_what_an_item_has_missed_is_not_forgotten(bench: Bench) -> None:
    recipe = changed(max_missed=2)
    nobody: dict[str, Detector] = {"canvas": Scripted([CANVAS_BOX], [None], [None])}
    start = bench.start("one", 0, recipe)
    home = bench.optimizer(recipe, detectors=nobody)
    home.admit(start)
    home.run_round()
    there = bench.optimizer(recipe, detectors={"canvas": Scripted([CANVAS_BOX], [None])})
    there.load(start, through_a_file(home.save("one")))
    there.run_round()
    (found,) = there.release()
    assert isinstance(found.error, LostFaceError)
    assert found.missed_detections == 2


def test_an_item_that_is_saved_stays_as_it_is(bench: Bench) -> None:
    start = bench.start("one", 0)
    saved, left = bench.optimizer(), bench.optimizer()
    for optimizer in (saved, left):
        optimizer.admit(start)
    for _ in range(3):
        state = saved.save("one")
        for moments in state["moments"].values():
            assert not moments["latents"].requires_grad
        saved.run_round()
        left.run_round()
    assert everything(saved.release()[0]) == everything(left.release()[0])


def test_a_state_that_was_taken_is_not_changed_by_later_rounds(bench: Bench) -> None:
    optimizer = bench.optimizer()
    optimizer.admit(bench.start("one", 0))
    optimizer.run_round()
    state = optimizer.save("one")
    then = through_a_file(state)
    optimizer.run_round()
    assert state["scores"] == then["scores"]
    assert state["trace"] == then["trace"]
    for name, moments in then["moments"].items():
        for key, value in moments.items():
            now = state["moments"][name][key]
            assert torch.equal(now, value) if isinstance(value, Tensor) else now == value


def test_a_state_holds_tensors_numbers_texts_lists_and_dictionaries_only(bench: Bench) -> None:
    optimizer = optimizer_of(bench, "stages and anchors")
    optimizer.admit(bench.start("one", 0, STAGED))
    for _ in range(2):
        optimizer.run_round()
    check_plain(optimizer.save("one"))


def check_plain(value: object) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            assert type(key) is str
            check_plain(inner)
    elif isinstance(value, list):
        for inner in value:
            check_plain(inner)
    else:
        assert type(value) in (Tensor, float, int, str)


def test_a_state_takes_nothing_of_its_neighbours_along(bench: Bench) -> None:
    """Its file is as large as that of an item alone."""
    sizes = []
    for neighbours in (0, 3):
        optimizer = optimizer_of(bench, "stages and anchors", capacity=4)
        for seed in range(1 + neighbours):
            optimizer.admit(bench.start(f"item {seed}", seed, STAGED))
        for _ in range(2):
            optimizer.run_round()
        file = io.BytesIO()
        torch.save(optimizer.save("item 0"), file)
        sizes.append(file.tell())
    assert abs(sizes[1] - sizes[0]) < 200


def full_size_slot(recipe: Recipe) -> Slot:
    """18 and 16 layers of 512, after all rounds of a recipe with 40 steps each."""
    shapes = {"canvas": (1 + 18, 512), "face": (1 + 16, 512)}
    box = {"face": Box(0.1, 0.2, 0.3, 0.4, 0.5)}
    latents = {name: torch.randn(shape) for name, shape in shapes.items()}
    slot = Slot(
        key="one",
        recipe=recipe,
        given={name: torch.zeros(3, 64, 64) for name in shapes},
        inset_boxes=box,
        canvas_boxes=box,
        regions=box,
        masks={},
        moments={
            name: MovingLatents(x, torch.randn_like(x), torch.rand_like(x), 200)
            for name, x in latents.items()
        },
        images={name: torch.zeros(3, 1024, 1024) for name in shapes},
    )
    for round_ in range(recipe.rounds):
        slot.begin_stage()
        for name, settings in recipe.generators.items():
            wanted = term_weights(name, settings, ["face"], 0.5).items()
            weights = {str(term): weight for term, weight in wanted if weight}
            for step in range(settings.steps):
                raw = dict(zip(weights, torch.rand(len(weights)).tolist(), strict=True))
                slot.trace.append(TraceRow(round_ + 1, name, step, raw, weights))
        slot.scores.append(float(torch.rand(())))
    best = {name: torch.randn(shape) for name, shape in shapes.items()}
    slot.best = State(3, 0.5, slot.trace[-1].raw, best, slot.images, box)
    return slot


@pytest.mark.parametrize(("anchor", "limit_bytes"), [("given", 420_000), ("stage", 495_000)])
def test_a_state_is_small(anchor: str, limit_bytes: int) -> None:
    """Latents, moments, best and curves of ten rounds; no image, even where one is the anchor."""
    stages = tuple(
        Stage(rounds=5, changes={"canvas": {"anchor": anchor}, "insets": {"face": {"anchor": a}}})
        for a in ("given", anchor)
    )
    slot = full_size_slot(dataclasses.replace(Recipe(), stages=stages))
    assert len(slot.trace) == 400
    file = io.BytesIO()
    torch.save(slot.state_dict(), file)
    assert 300_000 < file.tell() < limit_bytes
