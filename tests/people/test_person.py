"""Persons as numbers."""

from dataclasses import astuple, fields, replace

import numpy as np
import pytest

from insetgan_batch.people.person import PARAMETERS, Z_DIM, Person, seeds_to_z


def values_of(person: Person) -> list[float]:
    return [*astuple(person.shape), *astuple(person.pose), *astuple(person.appearance)]


def test_every_parameter_has_its_own_entry_of_z() -> None:
    assert len(set(PARAMETERS)) == len(PARAMETERS) <= Z_DIM
    for i, name in enumerate(PARAMETERS):
        z = np.ones(Z_DIM)
        z[i] = -1  # the same length, so that no other entry is scaled
        before, after = values_of(Person.from_z(np.ones(Z_DIM))), values_of(Person.from_z(z))
        changed = [
            PARAMETERS[j] for j, (a, b) in enumerate(zip(before, after, strict=True)) if a != b
        ]
        assert changed == [name]


def test_the_length_of_z_does_not_matter() -> None:
    z = seeds_to_z([1])[0]
    assert values_of(Person.from_z(7.5 * z)) == pytest.approx(values_of(Person.from_z(z)), abs=1e-6)


def test_every_parameter_stays_in_its_range_however_extreme_z_is() -> None:
    for i in range(Z_DIM):
        for sign in (-1, 1):
            person = Person.from_z(sign * np.eye(Z_DIM)[i])
            for group in (person.shape, person.pose, person.appearance):
                for field in fields(group):
                    allowed = field.metadata["range"]
                    assert allowed.low <= getattr(group, field.name) <= allowed.high


def test_a_new_pose_seed_keeps_shape_and_appearance() -> None:
    first, second = Person.from_seeds(1, 2, 3), Person.from_seeds(1, 4, 3)
    assert first.shape == second.shape
    assert first.appearance == second.appearance
    assert first.pose != second.pose


def test_seeds_of_one_group_do_not_touch_the_others() -> None:
    base = Person.from_seeds(1, 2, 3)
    assert Person.from_seeds(9, 2, 3) == replace(base, shape=Person.from_seeds(9, 0, 0).shape)
    new_look = Person.from_seeds(0, 0, 9).appearance
    assert Person.from_seeds(1, 2, 9) == replace(base, appearance=new_look)


@pytest.mark.parametrize("shape", [(), (63,), (1, 64), (64, 1)])
def test_a_z_of_the_wrong_shape_is_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^z has shape .*, expected \(64,\)$"):
        Person.from_z(np.zeros(shape))


def test_ancestry_weights_sum_to_one() -> None:
    for seed in range(20):
        weights = Person.from_seeds(seed, 0, 0).shape.ancestry
        assert min(weights) > 0
        assert sum(weights) == pytest.approx(1)
