"""Ramps, step sizes and stopping; the faults of the two published codes are the examples.

What they do, and what must not happen here:

- the official code's border ramp is exactly 0 for 300 of 400 steps and then 1, and a ramp of length
  0 divides by zero;
- the official code changes sides at step 0, so its first phase is one step long (guarded in
  `test_slots.py`, where phases are run);
- the official code has no end but its last iteration; the paper stops when the updates converge;
- StyleGAN-Human's code starts each stage with a step of size 0.
"""

from __future__ import annotations

import itertools

import pytest

from insetgan_batch.methods.insetgan import schedule
from insetgan_batch.methods.insetgan.recipe import GeneratorSettings, Recipe

SETTINGS = GeneratorSettings(steps=20, learning_rate=0.03)


def recipe(**fields: float) -> Recipe:
    return Recipe(**({"max_rounds": 8, "warm_up": 0.25, "border_ramp_rounds": 2.0} | fields))  # type: ignore[arg-type]


def rates(found: Recipe, own: GeneratorSettings = SETTINGS) -> list[float]:
    steps = range(found.max_rounds * own.steps)
    return [schedule.learning_rate(found, own, step) for step in steps]


# Border ramp


def test_the_border_counts_from_the_first_step_on() -> None:
    assert schedule.border_ramp(recipe(), SETTINGS, 0) == pytest.approx(1 / 40)


def test_the_border_ramp_rises_evenly_to_1_and_stays() -> None:
    ramp = [schedule.border_ramp(recipe(), SETTINGS, step) for step in range(160)]
    steps = [b - a for a, b in itertools.pairwise(ramp[:40])]
    assert steps == pytest.approx([1 / 40] * 39)
    assert ramp[39:] == [1.0] * 121


def test_no_ramp_means_full_weight_at_once() -> None:
    assert schedule.border_ramp(recipe(border_ramp_rounds=0), SETTINGS, 0) == 1.0


def test_a_ramp_of_a_fraction_of_a_step_is_full_at_once() -> None:
    assert schedule.border_ramp(recipe(border_ramp_rounds=0.01), SETTINGS, 0) == 1.0


def test_the_ramp_is_counted_in_rounds_of_the_player() -> None:
    slow = GeneratorSettings(steps=40)
    assert schedule.border_ramp(recipe(), slow, 39) == schedule.border_ramp(recipe(), SETTINGS, 19)


# Step size


@pytest.mark.parametrize("warm_up", [0.0, 0.01, 0.25, 1.0])
def test_no_step_has_size_0(warm_up: float) -> None:
    assert min(rates(recipe(warm_up=warm_up))) > 0


def test_the_step_size_rises_over_the_warm_up_and_falls_from_there() -> None:
    found = rates(recipe())
    assert all(a < b for a, b in itertools.pairwise(found[:5]))
    assert all(a > b for a, b in itertools.pairwise(found[4:]))
    assert found[0] == pytest.approx(0.03 / 5, rel=1e-3)
    assert found[4] == pytest.approx(0.03, rel=0.01)


def test_the_step_size_falls_to_about_a_tenth() -> None:
    found = rates(recipe())
    assert found[-1] == pytest.approx(0.003, rel=0.01)
    assert found[-1] >= 0.003
    assert found[80] == pytest.approx(0.03 * 0.55)  # half way down the cosine


def test_without_warm_up_the_first_step_is_a_full_one() -> None:
    assert rates(recipe(warm_up=0.0))[0] == 0.03


def test_steps_beyond_the_last_round_stay_at_a_tenth() -> None:
    assert schedule.learning_rate(recipe(), SETTINGS, 10_000) == pytest.approx(0.003)


def test_one_round_of_one_step_is_a_schedule() -> None:
    found = rates(
        recipe(max_rounds=1, min_rounds=1), GeneratorSettings(steps=1, learning_rate=0.03)
    )
    assert found == [0.03]


# Stopping


@pytest.mark.parametrize(
    ("scores", "converged"),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 1.0], False),  # before the least number of rounds
        ([1.0, 0.9, 0.8], False),
        ([1.0, 0.9, 0.899], True),  # 0.1 % is less than 2 %
        ([1.0, 0.9, 0.883], True),  # 1.9 %
        ([1.0, 0.9, 0.881], False),  # 2.1 %
        ([1.0, 0.9, 1.5], True),  # worse
        ([1.0, 0.5, 0.9, 0.8], True),  # better than the round before, not than the best one
        ([1.0, 2.0, 0.9], False),
        ([1.0, 0.999, 0.5], False),  # a slow round in between does not matter
    ],
)
def test_convergence_is_less_than_the_tolerance_below_the_best(
    scores: list[float], converged: bool
) -> None:
    assert schedule.has_converged(recipe(min_rounds=3, tolerance=0.02), scores) is converged


def test_one_round_has_nothing_to_be_compared_with() -> None:
    assert not schedule.has_converged(recipe(min_rounds=1), [1.0])
    assert schedule.has_converged(recipe(min_rounds=1), [1.0, 1.0])


def test_a_score_that_is_not_a_number_is_not_convergence() -> None:
    assert not schedule.has_converged(recipe(), [1.0, 0.9, float("nan")])


def test_steps_in_full_resolution_are_spread_evenly() -> None:
    def steps(share: float, count: int = 8) -> list[int]:
        return [number for number in range(count) if schedule.is_full(share, number)]

    assert steps(0.0) == []
    assert steps(0.25) == [3, 7]
    assert steps(0.75) == [1, 2, 3, 5, 6, 7]
    assert steps(1.0) == list(range(8))
    assert len(steps(0.3, 100)) == 30
