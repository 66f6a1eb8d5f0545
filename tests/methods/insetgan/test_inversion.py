"""Before its first round an item's generators become what its pictures show."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from insetgan_batch.methods.insetgan.errors import FarInversionError
from insetgan_batch.methods.insetgan.nearest import Nearest
from insetgan_batch.methods.insetgan.recipe import ImageWeights, Inversion, Recipe
from insetgan_batch.methods.insetgan.states import Finished, Start
from tests.methods.insetgan.bench import (
    RECIPE,
    STEPS,
    Bench,
    furthest,
    run_until_empty,
    through_a_file,
)

INVERSION = Inversion(
    rounds=3,
    steps=5,
    learning_rate=0.05,
    picture=ImageWeights(l1=1.0, lpips=0.1),
    resolution=32,
)
INVERTING = dataclasses.replace(RECIPE, inversion=INVERSION)


def inverting(**changes: Any) -> Recipe:
    return dataclasses.replace(RECIPE, inversion=dataclasses.replace(INVERSION, **changes))


def start(bench: Bench, key: str, seed: int, recipe: Recipe = INVERTING) -> Start:
    """An item whose face is given as a picture that its generator painted of another seed."""
    plain = bench.start(key, seed, recipe)
    w = bench.w("face", seed + 50, 0.7)
    latents = bench.generators["face"].latents_of(w)
    references = plain.references | {"face": bench.paint("face", latents)}
    return dataclasses.replace(plain, references=references, pictures=("face",), seed=seed)


def alone(bench: Bench, recipe: Recipe = INVERTING) -> Finished:
    return bench.finish(start(bench, "a", 1, recipe), recipe=recipe)["a"]


def rows(finished: Finished, phase: str, term: str) -> list[tuple[int, float]]:
    """(round, raw loss) of every step of a phase that has the term."""
    return [(t.round, t.raw[term]) for t in finished.trace if t.phase == phase and term in t.raw]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


def test_the_face_becomes_its_picture_before_anything_else_moves(bench: Bench) -> None:
    first = start(bench, "a", 1)
    finished = bench.finish(first, recipe=INVERTING)["a"]
    before = distance(bench.paint("face", first.latents["face"]), first.references["face"])
    after = distance(finished.start.images["face"], first.references["face"])
    assert after < 0.7 * before
    assert (finished.start.latents["canvas"] == first.latents["canvas"]).all()


def test_it_takes_its_own_rounds_and_the_recipe_has_all_of_its_own_after_them(
    bench: Bench,
) -> None:
    finished = alone(bench)
    assert [r for r, _ in rows(finished, "face", "face.picture.l1")] == [1] * 5 + [2] * 5 + [3] * 5
    assert {t.round for t in finished.trace if t.phase == "canvas"} == {4, 5, 6}
    assert finished.steps == 15 + 3 * sum(STEPS.values())
    assert (finished.stop, len(finished.scores)) == ("max_rounds", 6)
    assert finished.best.round > 3


def test_an_item_without_pictures_has_no_such_rounds(bench: Bench) -> None:
    plain = bench.finish(bench.start("a", 1), recipe=RECIPE)["a"]
    same = bench.finish(bench.start("a", 1, INVERTING), recipe=INVERTING)["a"]
    assert furthest(plain, same) == 0
    assert same.inversion == {}


def test_what_is_left_of_the_error_is_kept(bench: Bench) -> None:
    finished = alone(bench)
    painted = finished.start.images["face"].clamp(-1, 1)
    errors = finished.inversion["face"]
    assert set(errors) == {"l1", "lpips"}
    assert errors["l1"] == pytest.approx(distance(painted, finished.references["face"]), rel=1e-5)
    assert errors["lpips"] > 0


def test_a_picture_that_cannot_be_painted_ends_the_item_with_the_number(bench: Bench) -> None:
    far = alone(bench).inversion["face"]["lpips"]
    finished = alone(bench, inverting(max_error=far / 2))
    assert isinstance(finished.error, FarInversionError)
    assert f"the face is {far:.3g} from its picture by LPIPS" in str(finished.error)
    assert finished.steps == 15  # nothing more is spent on it
    assert alone(bench, inverting(max_error=far * 1.01)).error is None


def test_without_rounds_the_start_is_what_is_judged(bench: Bench) -> None:
    finished = alone(bench, inverting(rounds=0))
    assert finished.inversion["face"]["l1"] > 0
    assert len(finished.scores) == 3
    gated = bench.optimizer(inverting(rounds=0, max_error=1e-6))
    gated.admit(start(bench, "a", 1, inverting(rounds=0, max_error=1e-6)))
    (failed,) = gated.release()
    assert isinstance(failed.error, FarInversionError)


def test_neighbours_do_not_see_that_an_item_is_inverted(double_bench: Bench) -> None:
    """Some are inverted, some are not, and one comes later: each as if it were alone."""
    alone_a = double_bench.finish(start(double_bench, "a", 1), recipe=INVERTING)["a"]
    alone_b = double_bench.finish(double_bench.start("b", 2, INVERTING), recipe=INVERTING)["b"]
    optimizer = double_bench.optimizer(INVERTING, capacity=3)
    optimizer.admit(start(double_bench, "c", 3))
    optimizer.admit(double_bench.start("b", 2, INVERTING))
    optimizer.run_round()
    optimizer.admit(start(double_bench, "a", 1))
    together = run_until_empty(optimizer)
    assert furthest(together["a"], alone_a) < 1e-9
    assert furthest(together["b"], alone_b) < 1e-9


@pytest.mark.parametrize("rounds", [1, 3, 4])
def test_an_item_goes_on_elsewhere_in_and_after_its_inversion(bench: Bench, rounds: int) -> None:
    recipe = inverting(w_noise=0.1)
    whole = alone(bench, recipe)
    here, there = bench.optimizer(recipe), bench.optimizer(recipe)
    here.admit(start(bench, "a", 1, recipe))
    for _ in range(rounds):
        here.run_round()
    there.load(start(bench, "a", 1, recipe), through_a_file(here.save("a")))
    moved = run_until_empty(there)["a"]
    assert furthest(moved, whole) == 0
    assert moved.inversion == whole.inversion
    assert moved.start.score == pytest.approx(whole.start.score, rel=1e-5)
    assert (moved.start.images["face"] == whole.start.images["face"]).all()


def test_noise_is_the_items_own_and_falls_to_nothing(bench: Bench) -> None:
    noisy = inverting(w_noise=0.5, learning_rate=1e-9)
    first = rows(alone(bench, noisy), "face", "face.picture.l1")
    assert rows(alone(bench, noisy), "face", "face.picture.l1") == first
    still = rows(alone(bench, inverting(learning_rate=1e-9)), "face", "face.picture.l1")
    differences = [abs(a - b) for (_, a), (_, b) in zip(first, still, strict=True)]
    assert max(differences[:3]) > 100 * max(differences[-3:])
    other = dataclasses.replace(start(bench, "a", 1, noisy), seed=9)
    changed = rows(bench.finish(other, recipe=noisy)["a"], "face", "face.picture.l1")
    assert changed != first


def test_a_body_is_inverted_as_well(bench: Bench) -> None:
    plain = bench.start("a", 1, INVERTING)
    picture = bench.paint("canvas", bench.start("b", 60, INVERTING).latents["canvas"])
    item = dataclasses.replace(
        plain, references=plain.references | {"canvas": picture}, pictures=("canvas",)
    )
    finished = bench.finish(item, recipe=INVERTING)["a"]
    before = distance(plain.references["canvas"], picture)
    assert finished.inversion["canvas"]["l1"] < 0.8 * before


def test_the_nearest_seed_is_the_one_whose_picture_it_is(bench: Bench) -> None:
    generator = bench.generators["face"]
    nearest = Nearest(generator, bench.perceptual, 12, None)
    seeds = range(4_000_000_000, 4_000_000_012)
    for number, picture in enumerate(generator.images_of_seeds(list(seeds), 0.7)):
        w = nearest.w_of(picture)
        assert torch.allclose(w, generator.seeds_to_w([seeds[number]], 0.7)[0], atol=1e-5)


def test_the_nearest_seed_is_found_without_features_too(bench: Bench) -> None:
    generator = bench.generators["face"]
    picture = generator.images_of_seeds([4_000_000_003], 0.7)[0]
    w = Nearest(generator, None, 12, None).w_of(picture)
    assert torch.allclose(w, generator.seeds_to_w([4_000_000_003], 0.7)[0], atol=1e-5)
