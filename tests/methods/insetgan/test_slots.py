"""The continuous batch on tiny untrained generators: 64x32 canvases and 32x32 faces.

Faults of the published codes that are guarded here: the first phase is one step long; the last
iterate is kept, whatever its score; a face that is not found ends the whole job; latents, steps and
boxes of one pair at a time.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from insetgan_batch import boxes
from insetgan_batch.boxes import Box
from insetgan_batch.errors import BadInputError, ConfigError, TooLongError
from insetgan_batch.methods.insetgan.errors import DivergedError, NoFaceFoundError
from insetgan_batch.methods.insetgan.recipe import Recipe
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.states import Finished, State
from insetgan_batch.methods.insetgan.terms import term_weights
from insetgan_batch.nets.detector import FixedBox
from insetgan_batch.nets.stylegan2 import Architecture
from tests.conftest import frozen
from tests.methods.insetgan.bench import (
    CANVAS_BOX,
    FACE_BOX,
    RECIPE,
    STEPS,
    Bench,
    Scripted,
    changed,
    furthest,
    movement,
    run_until_empty,
)

NOISE = 1e-4  # of latents: what the neighbours in a batch may change, by rounding alone


@pytest.fixture(scope="module")
def one(bench: Bench) -> Finished:
    """Seed 0, alone, three rounds."""
    return bench.finish(bench.start("one", 0))["one"]


# An item alone


def test_the_score_falls(one: Finished) -> None:
    assert one.scores[-1] < 0.9 * one.start.score
    assert one.scores == sorted(one.scores, reverse=True)
    assert one.stop == "max_rounds"
    assert one.error is None


def test_border_and_coarse_fall_at_a_small_price(one: Finished) -> None:
    for name in ("face.coarse.l1", "face.border.l1"):
        assert one.best.terms[name] < one.start.terms[name]
    assert one.start.terms["canvas.body.l1"] == one.start.terms["face.face.l1"] == 0
    assert one.best.terms["canvas.body.l1"] > 0


def test_the_start_is_round_0_before_anything_moved(one: Finished, bench: Bench) -> None:
    start = bench.start("one", 0)
    assert one.start.round == 0
    for name in ("canvas", "face"):
        assert torch.equal(one.start.latents[name], start.latents[name])
        assert torch.equal(one.start.images[name], start.references[name])
    assert one.start.regions == {"face": boxes.align(CANVAS_BOX, FACE_BOX, 32, 32)}
    assert one.inset_boxes == {"face": FACE_BOX}


def test_a_state_holds_together(one: Finished, bench: Bench) -> None:
    """Its images are painted from its latents; its score is its terms under the full weights."""
    for state in (one.start, one.best):
        for name in ("canvas", "face"):
            painted = bench.paint(name, state.latents[name])
            torch.testing.assert_close(state.images[name], painted, rtol=1e-4, atol=1e-5)
        assert state.score == pytest.approx(weighted_sum(state), rel=1e-4)


def weighted_sum(state: State) -> float:
    generators = {"canvas": RECIPE.canvas, "face": RECIPE.insets["face"]}
    return sum(
        weight * state.terms[str(term)]
        for name, settings in generators.items()
        for term, weight in term_weights(name, settings, ["face"], 1.0).items()
        if weight
    )


def test_both_w_and_the_offsets_of_every_layer_move(one: Finished) -> None:
    for name in ("canvas", "face"):
        moved = (one.best.latents[name] - one.start.latents[name]).abs().amax(dim=1)
        assert (moved > 0).all()


def test_references_are_held_to_when_they_are_not_the_start(bench: Bench) -> None:
    """An image of a manifest: latents start elsewhere, and body is not 0 at the start."""
    other = bench.start("b", 7)
    recipe = changed(canvas={"body": {"l1": 20.0}})
    start = dataclasses.replace(bench.start("a", 0, recipe), references=other.references)
    found = bench.finish(start)["a"]
    assert found.start.terms["canvas.body.l1"] > 0.01
    assert found.best.terms["canvas.body.l1"] < found.start.terms["canvas.body.l1"]
    assert torch.equal(found.start.latents["canvas"], bench.start("a", 0).latents["canvas"])


# Trace


def test_the_trace_has_every_step_of_every_phase_once(one: Finished) -> None:
    """The first phase is as long as any other."""
    expected = [
        (number + 1, phase, number * steps + step)
        for number in range(3)
        for phase, steps in STEPS.items()
        for step in range(steps)
    ]
    assert [(row.round, row.phase, row.step) for row in one.trace] == expected
    assert one.steps == len(one.trace) == 3 * (3 + 4)


def test_the_trace_keeps_raw_losses_and_the_weights_in_force(one: Finished) -> None:
    for row in one.trace:
        own = "canvas.body" if row.phase == "canvas" else "face.face"
        assert (
            set(row.raw)
            == set(row.weight)
            == {
                f"{row.phase}.latent",
                f"{row.phase}.delta",
                "face.seam",
                *(f"{t}.{d}" for t in ("face.coarse", "face.border", own) for d in ("l1", "lpips")),
            }
        )
        ramp = min(1.0, (row.step + 1) / (2 * STEPS[row.phase]))
        assert row.weight["face.border.l1"] == pytest.approx(ramp)
        assert row.weight["face.coarse.l1"] == 1.0


def test_the_first_row_of_the_trace_is_the_start(one: Finished) -> None:
    for name, value in one.trace[0].raw.items():
        assert value == pytest.approx(one.start.terms[name], rel=1e-4, abs=1e-7)


def test_only_one_generator_moves_in_a_phase(bench: Bench) -> None:
    """While the canvas moves the face stands still, and the other way round."""
    optimizer = bench.optimizer()
    start = bench.start("a", 0)
    optimizer.admit(start)
    (slot,) = optimizer.slots
    optimizer.run_phase("canvas", lambda: None)
    canvas = slot.moments["canvas"].latents
    assert torch.equal(slot.moments["face"].latents, start.latents["face"])
    assert not torch.equal(canvas, start.latents["canvas"])
    optimizer.run_phase("face", lambda: None)
    assert torch.equal(slot.moments["canvas"].latents, canvas)
    assert not torch.equal(slot.moments["face"].latents, start.latents["face"])


def test_on_step_is_called_at_every_step_of_the_batch(bench: Bench) -> None:
    optimizer = bench.optimizer()
    calls: list[int] = []
    optimizer.run_round(lambda: calls.append(1))
    assert calls == []  # nobody is inside
    optimizer.admit(bench.start("a", 0))
    optimizer.admit(bench.start("b", 1))
    optimizer.run_round(lambda: calls.append(1))
    assert len(calls) == 3 + 4


# Best state, convergence


def test_the_best_state_is_the_lowest_score_and_not_the_last(bench: Bench) -> None:
    """The face jumps in the third round: everything learnt so far fits the region before."""
    recipe = changed(region_step=1.0)
    answers = (CANVAS_BOX, CANVAS_BOX, CANVAS_BOX, Box(4, 14, 16, 30))
    (found,) = track(bench, *answers, recipe=recipe, seed=5).release()
    assert found.scores[1] < found.scores[0]
    assert found.scores[1] < found.scores[2]  # else this test shows nothing
    assert (found.best.score, found.best.round) == (found.scores[1], 2)
    assert found.best.regions == {"face": region_of(CANVAS_BOX)}
    painted = bench.paint("canvas", found.best.latents["canvas"])
    torch.testing.assert_close(found.best.images["canvas"], painted, rtol=1e-4, atol=1e-4)


def test_an_item_that_no_longer_improves_leaves(bench: Bench) -> None:
    eager = changed(tolerance=1.0, min_rounds=2, max_rounds=9)
    found = bench.finish(bench.start("a", 0, eager), recipe=eager)["a"]
    assert (found.stop, len(found.scores)) == ("converged", 2)


def test_items_leave_when_they_are_done_and_others_enter(bench: Bench) -> None:
    """The one that enters later counts its own rounds, and ends where it ends alone."""
    short = changed(min_rounds=1, max_rounds=1)
    late = bench.start("late", 5)
    optimizer = bench.optimizer(capacity=2)
    optimizer.admit(bench.start("short", 0, short))
    optimizer.admit(bench.start("long", 2))
    assert (optimizer.free, optimizer.keys) == (0, ["short", "long"])
    optimizer.run_round()
    assert [f.key for f in optimizer.release()] == ["short"]
    assert (optimizer.free, optimizer.keys) == (1, ["long"])
    optimizer.admit(late)
    optimizer.run_round()
    assert optimizer.release() == []
    optimizer.run_round()
    assert [f.key for f in optimizer.release()] == ["long"]
    optimizer.run_round()
    (found,) = optimizer.release()
    alone = bench.finish(late)["late"]
    assert [(r.round, r.phase, r.step) for r in found.trace] == [
        (r.round, r.phase, r.step) for r in alone.trace
    ]
    assert furthest(found, alone) < NOISE


# Neighbours


def test_an_item_alone_is_the_item_in_a_batch(one: Finished, bench: Bench) -> None:
    """Up to float32 rounding, which Adam amplifies: 4e-6 were seen after 3 rounds of 7 steps.

    Latents have moved by 0.16 until then.
    """
    batch = bench.finish(bench.start("a", 4), bench.start("one", 0), bench.start("b", 8))
    assert movement(one) > 0.1
    assert furthest(one, batch["one"]) < NOISE
    assert batch["one"].scores == pytest.approx(one.scores, rel=1e-3)
    assert batch["one"].best.regions["face"].as_tuple() == pytest.approx(
        one.best.regions["face"].as_tuple()
    )
    assert furthest(batch["a"], batch["b"]) > 0.1  # they are not all the same


def test_one_round_in_a_batch_differs_by_rounding_only(bench: Bench) -> None:
    short = changed(min_rounds=1, max_rounds=1)
    alone = bench.finish(bench.start("one", 0, short))["one"]
    batch = bench.finish(bench.start("a", 4, short), bench.start("one", 0, short))
    assert furthest(alone, batch["one"]) < NOISE


def test_a_larger_region_beside_it_does_not_change_an_item(bench: Bench) -> None:
    """One region is shrunk to the working resolution, the other enlarged."""
    start = bench.start("one", 0)
    large = bench.start("large", 4, boxes={"canvas": Box(2, 2, 30, 44)})
    still = {"canvas": Scripted([None], [None], [None])}
    beside = {"canvas": Scripted([None] * 2, [None] * 2, [None] * 2)}
    results = []
    for detectors, others in ((still, []), (beside, [large])):
        optimizer = bench.optimizer(capacity=2, detectors=detectors)
        optimizer.admit(dataclasses.replace(start, boxes={"canvas": CANVAS_BOX}))
        for other in others:
            optimizer.admit(other)
        results.append(run_until_empty(optimizer))
    alone, together = results
    assert (
        together["large"].start.regions["face"].width
        > 32
        > alone["one"].start.regions["face"].width
    )
    assert furthest(alone["one"], together["one"]) < NOISE


def test_a_region_of_many_canvases_is_the_rows_bad_input(bench: Bench) -> None:
    optimizer = bench.optimizer(capacity=1)
    tiny = {"canvas": Box(2, 2, 30, 60), "face": Box(8, 8, 9, 10)}
    with pytest.raises(BadInputError, match=r"would cover .* pixels of a canvas 64 high"):
        optimizer.admit(bench.start("tiny", 0, boxes=tiny))
    assert optimizer.keys == []


def test_a_region_that_grows_to_many_canvases_ends_its_item_and_not_the_round(
    bench: Bench,
) -> None:
    recipe = changed(region_step=1.0)
    grown = Scripted([Box(0, 0, 36, 70), CANVAS_BOX])
    optimizer = bench.optimizer(recipe, capacity=2, detectors={"canvas": grown})
    nearly = {"canvas": Box(2, 2, 30, 62), "face": Box(13, 13, 19, 18.6)}
    usual = {"canvas": CANVAS_BOX, "face": FACE_BOX}
    optimizer.admit(bench.start("grows", 0, recipe, boxes=nearly))
    optimizer.admit(bench.start("stays", 2, recipe, boxes=usual))
    optimizer.run_round()
    (found,) = optimizer.release()
    assert (found.key, type(found.error)) == ("grows", BadInputError)
    assert optimizer.keys == ["stays"]


def test_an_item_that_is_given_up_leaves_with_that_error_and_no_other_does(bench: Bench) -> None:
    optimizer = bench.optimizer(capacity=2)
    for n, key in enumerate("ab"):
        optimizer.admit(bench.start(key, n))
    optimizer.run_round()
    error = TooLongError("it took two hours")
    optimizer.give_up("a", error)
    (found,) = optimizer.release()
    assert (found.key, found.error) == ("a", error)
    assert optimizer.keys == ["b"]


def test_an_item_that_is_not_a_number_leaves_and_its_neighbours_do_not_notice(
    bench: Bench,
) -> None:
    healthy = [bench.start("a", 4), bench.start("b", 8)]
    sick = bench.start("sick", 0)
    sick.latents["face"][3] = float("nan")
    optimizer = bench.optimizer(capacity=3)
    for start in (healthy[0], sick, healthy[1]):
        optimizer.admit(start)
    optimizer.run_round()
    (found,) = optimizer.release()
    assert (found.key, found.stop) == ("sick", "diverged")
    assert isinstance(found.error, DivergedError)
    assert "\n" not in str(found.error)
    assert found.error.reason == "diverged"
    assert found.best is found.start
    assert optimizer.keys == ["a", "b"]
    together = run_until_empty(optimizer)
    without = bench.finish(*healthy)
    for key in ("a", "b"):
        assert together[key].error is None
        assert furthest(together[key], without[key]) < NOISE
        assert together[key].scores == pytest.approx(without[key].scores, rel=1e-3)


def test_latents_that_are_not_finite_do_not_stop_an_empty_batch(bench: Bench) -> None:
    sick = bench.start("sick", 0)
    sick.latents["canvas"][:] = float("inf")
    optimizer = bench.optimizer()
    optimizer.admit(sick)
    optimizer.run_round()
    assert [f.stop for f in optimizer.release()] == ["diverged"]
    optimizer.run_round()
    assert optimizer.release() == []


def test_rows_have_their_own_weights_in_one_batch(one: Finished, bench: Bench) -> None:
    plain = bench.start("plain", 0)
    loose = bench.start("loose", 0, changed(insets={"face": {"face": {"l1": 0.01, "lpips": 0.0}}}))
    held = bench.start("held", 0, changed(canvas={"body": {"l1": 50.0}, "learning_rate": 0.01}))
    batch = bench.finish(plain, loose, held)
    weights = {key: found.trace[3].weight for key, found in batch.items()}  # the face's first step
    assert weights["plain"]["face.face.l1"] == 1.0
    assert weights["loose"]["face.face.l1"] == 0.01
    assert [batch[k].trace[0].weight["canvas.body.l1"] for k in ("plain", "held")] == [1.0, 50.0]
    assert batch["held"].best.terms["canvas.body.l1"] < batch["plain"].best.terms["canvas.body.l1"]
    assert batch["loose"].best.terms["face.face.l1"] > batch["plain"].best.terms["face.face.l1"]
    assert furthest(one, batch["plain"]) < NOISE
    for start in (loose, held):
        assert furthest(bench.finish(start)[start.key], batch[start.key]) < NOISE


# Detection


def track(
    bench: Bench, *found: Box | None, recipe: Recipe = RECIPE, seed: int = 0
) -> SlotOptimizer:
    """One round for each answer of the canvas' detector, the first being the one at the start."""
    optimizer = bench.optimizer(recipe, detectors={"canvas": Scripted(*([box] for box in found))})
    optimizer.admit(bench.start("a", seed, recipe))
    for _ in found[1:]:
        optimizer.run_round()
    return optimizer


def region_of(canvas_box: Box) -> Box:
    return boxes.align(canvas_box, FACE_BOX, 32, 32)


@pytest.mark.parametrize(("step", "slack"), [(0.5, 0.0), (1.0, 0.02), (0.25, 0.01)])
def test_a_region_moves_a_step_towards_what_is_found(
    bench: Bench, step: float, slack: float
) -> None:
    there = Box(10, 9, 22, 26)
    recipe = changed(region_step=step, region_slack=slack)
    optimizer = track(bench, CANVAS_BOX, there, recipe=recipe)
    (slot,) = optimizer.slots
    expected = boxes.move(region_of(CANVAS_BOX), region_of(there), step, slack)
    assert slot.regions["face"] != region_of(CANVAS_BOX)
    assert slot.regions["face"].as_tuple() == pytest.approx(expected.as_tuple())
    expected = boxes.move(CANVAS_BOX, there, step)
    assert slot.canvas_boxes["face"].as_tuple() == pytest.approx(expected.as_tuple())
    assert slot.missed_detections == 0


def test_a_face_that_is_not_found_keeps_its_region_and_is_counted(bench: Bench) -> None:
    (found,) = track(bench, CANVAS_BOX, None, CANVAS_BOX, None).release()
    assert found.missed_detections == 2
    assert found.best.regions["face"] == region_of(CANVAS_BOX)
    assert found.error is None


@pytest.mark.parametrize(
    "jump",
    [
        Box(8 + 7, 8, 20 + 7, 24),  # more than half a box to the side
        Box(8, 8 + 9, 20, 24 + 9),
        Box(2, 0, 26, 32),  # four times as large
        Box(11, 12, 17, 20),  # a quarter
    ],
)
def test_a_jump_that_no_face_makes_is_a_miss(bench: Bench, jump: Box) -> None:
    (slot,) = track(bench, CANVAS_BOX, jump).slots
    assert slot.missed_detections == 1
    assert slot.regions["face"] == region_of(CANVAS_BOX)


def test_the_detector_sees_the_canvas_of_every_item_after_each_of_its_phases(bench: Bench) -> None:
    seen = Scripted([CANVAS_BOX], [CANVAS_BOX], [Box(9, 8, 21, 24), None])
    optimizer = bench.optimizer(detectors={"canvas": seen})
    for key, seed in (("a", 0), ("b", 4)):
        optimizer.admit(bench.start(key, seed))
    optimizer.run_round()
    a, b = optimizer.slots
    assert a.regions["face"] != region_of(CANVAS_BOX)
    assert b.regions["face"] == region_of(CANVAS_BOX)
    assert (a.missed_detections, b.missed_detections) == (0, 1)
    assert [tuple(i.shape) for i in seen.images] == [(1, 64, 32, 3)] * 2 + [(2, 64, 32, 3)]
    assert seen.images[2].dtype == torch.uint8
    painted = bench.paint("canvas", a.moments["canvas"].latents)
    expected = ((painted.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    assert (seen.images[2][0].int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("name", ["canvas", "face"])
def test_an_item_without_a_face_takes_no_slot(bench: Bench, name: str) -> None:
    optimizer = bench.optimizer(detectors={name: Scripted([None])})
    with pytest.raises(NoFaceFoundError, match=f"no face in the {name}'s reference image"):
        optimizer.admit(bench.start("a", 0))
    assert (optimizer.free, optimizer.keys) == (4, [])


def test_boxes_that_are_given_are_not_looked_for(bench: Bench) -> None:
    silent = {"canvas": Scripted(), "face": Scripted()}
    optimizer = bench.optimizer(detectors=silent)
    given = {"canvas": Box(6, 6, 22, 27), "face": Box(10, 10, 20, 20)}
    optimizer.admit(bench.start("a", 0, boxes=given))
    (slot,) = optimizer.slots
    assert slot.regions == {"face": boxes.align(given["canvas"], given["face"], 32, 32)}
    assert silent["canvas"].images == silent["face"].images == []


# Generators that do not fit


def test_an_inset_smaller_than_the_working_resolution_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"inset `face` paints 32x32.*resolution \(64\)"):
        bench.optimizer(dataclasses.replace(RECIPE, resolution=64))


def test_an_inset_that_is_not_square_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="expected a square"):
        Bench(bench.generators | {"face": bench.generators["canvas"]}, bench.perceptual).optimizer()


def test_a_larger_inset_is_compared_at_the_working_resolution(bench: Bench) -> None:
    large = frozen(Architecture((4, 4), (8,) * 5, z_dim=16, w_dim=8, mapping_layers=2), seed=3)
    with_large = Bench(bench.generators | {"face": large}, bench.perceptual)
    recipe = changed(min_rounds=1, max_rounds=1)
    found = with_large.finish(with_large.start("a", 0, recipe), recipe=recipe)["a"]
    assert found.best.images["face"].shape == (3, 64, 64)
    assert found.scores[0] < found.start.score


def test_two_insets_share_the_canvas(bench: Bench) -> None:
    """Each has its own terms and region; body looks outside of both."""
    face = RECIPE.insets["face"]
    recipe = dataclasses.replace(
        RECIPE, insets={"face": face, "hat": face}, max_rounds=1, min_rounds=1
    )
    hat = frozen(Architecture((4, 4), (8,) * 4, z_dim=16, w_dim=8, mapping_layers=2), seed=4)
    with_hat = Bench(bench.generators | {"hat": hat}, bench.perceptual)
    detectors = {"hat": FixedBox(Box(4, 4, 28, 28))}
    optimizer = with_hat.optimizer(recipe, detectors=detectors)
    optimizer.admit(with_hat.start("a", 0, recipe))
    found = run_until_empty(optimizer)["a"]
    assert [row.phase for row in found.trace] == ["canvas"] * 3 + ["face"] * 4 + ["hat"] * 4
    assert {"face.border.l1", "hat.border.l1"} <= set(found.trace[0].raw)
    assert found.best.regions["face"] != found.best.regions["hat"]
    assert found.scores[0] < found.start.score
