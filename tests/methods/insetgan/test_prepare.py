"""Where an item starts, what it is held to, and how far its seeds are truncated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.data import inputs
from insetgan_batch.errors import BadInputError
from insetgan_batch.methods.insetgan import images
from insetgan_batch.methods.insetgan.prepare import Preparer
from insetgan_batch.methods.insetgan.recipe import AdaptivePsi, Inversion, Recipe
from insetgan_batch.methods.insetgan.sources import Source, new_item
from insetgan_batch.methods.insetgan.states import Start
from insetgan_batch.nets.detector import Detector
from insetgan_batch.nets.encoder import Encoder
from insetgan_batch.nets.generator import Generator

SEED = Source("seed", 3)
TRIED = torch.linspace(1.0, 0.3, 8).tolist()


class Sees:
    """Finds something in every image from this one on, but in none of the others named."""

    def __init__(self, first: int, but: tuple[int, ...] = ()) -> None:
        self._first, self._but = first, but

    def find(self, images: Tensor) -> list[Box | None]:
        """A box or None per image."""
        seen = [i >= self._first and i not in self._but for i in range(len(images))]
        return [Box(0, 0, 9, 9) if is_seen else None for is_seen in seen]


@pytest.fixture
def generators(tiny_canvas: Generator, tiny_face: Generator) -> dict[str, Generator]:
    return {"canvas": tiny_canvas, "face": tiny_face}


def recipe(canvas: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """The default with changed fields of the canvas' settings and of the recipe."""
    settings = dataclasses.replace(Recipe().canvas, **(canvas or {}))
    return dataclasses.replace(Recipe(), canvas=settings, **changes)


def start(
    generators: dict[str, Generator],
    chosen: Recipe,
    canvas: Source = SEED,
    detectors: tuple[Detector, ...] = (),
    **row: Any,
) -> Start:
    """The start of a row with this canvas."""
    item = new_item("a", canvas, {"face": Source("seed", 4)}, **row)
    found_in = {"canvas": list(detectors), "face": []}
    preparer = Preparer(chosen, generators, found_in, {})
    return preparer.start("1-1", preparer.prepare(item, inputs.read))


def latents_of(generator: Generator, seed: int, psi: float) -> Tensor:
    """`[1+l c]`: the truncated w, and no offsets."""
    return generator.latents_of(generator.seeds_to_w([seed], psi)[0])


def painted(generator: Generator, latents: Tensor) -> Tensor:
    with torch.no_grad():
        return generator.synthesise(generator.ws_of(latents)[None])[0]


# Where the latents begin


def test_a_given_seed_is_the_start_and_the_reference(generators: dict[str, Generator]) -> None:
    found = start(generators, recipe())
    expected = latents_of(generators["canvas"], 3, 0.7)
    torch.testing.assert_close(found.latents["canvas"], expected)
    torch.testing.assert_close(found.references["canvas"], painted(generators["canvas"], expected))
    assert found.psi == {"canvas": 0.7, "face": 0.7}


def test_a_start_at_the_average_is_still_held_to_what_is_given(
    generators: dict[str, Generator],
) -> None:
    found = start(generators, recipe({"start": "average"}))
    canvas = generators["canvas"]
    assert torch.equal(found.latents["canvas"][0], canvas.w_avg)
    assert not found.latents["canvas"][1:].any()
    expected = painted(canvas, latents_of(canvas, 3, 0.7))
    torch.testing.assert_close(found.references["canvas"], expected)


def test_nothing_given_is_the_average(generators: dict[str, Generator]) -> None:
    found = start(generators, recipe(), Source())
    assert torch.equal(found.latents["canvas"][0], generators["canvas"].w_avg)
    expected = painted(generators["canvas"], found.latents["canvas"])
    torch.testing.assert_close(found.references["canvas"], expected)
    assert found.psi["canvas"] is None


def test_a_start_at_a_seed_takes_the_rows_own_where_the_manifest_gives_none(
    generators: dict[str, Generator], tmp_path: Path
) -> None:
    Image.new("RGB", (20, 40), (255, 0, 0)).save(tmp_path / "red.png")
    canvas = Source("image", str(tmp_path / "red.png"))
    found = start(generators, recipe({"start": "seed"}), canvas, seed=9)
    torch.testing.assert_close(found.latents["canvas"], latents_of(generators["canvas"], 9, 0.7))
    assert found.references["canvas"].mean(dim=(1, 2)).tolist() == [1, -1, -1]
    given = start(generators, recipe({"start": "seed"}), seed=9)
    torch.testing.assert_close(given.latents["canvas"], latents_of(generators["canvas"], 3, 0.7))


def test_rows_with_other_seeds_start_elsewhere(generators: dict[str, Generator]) -> None:
    chosen = recipe({"start": "seed"})
    one, other = (start(generators, chosen, Source(), seed=seed) for seed in (1, 2))
    assert not torch.equal(one.latents["canvas"], other.latents["canvas"])
    # Nothing is given: each is held to what it starts from, and the detector looks there.
    for found in (one, other):
        image = painted(generators["canvas"], found.latents["canvas"])
        torch.testing.assert_close(found.references["canvas"], image)


def test_given_latents_are_taken_with_their_offsets(
    generators: dict[str, Generator], tmp_path: Path
) -> None:
    canvas = generators["canvas"]
    w, delta = torch.full((8,), 0.5), torch.full((canvas.num_ws, 8), 0.25)
    file = tmp_path / "start.safetensors"
    safetensors.torch.save_file({"w": w, "delta": delta}, file)
    found = start(generators, recipe(), Source("latent", str(file)))
    assert torch.equal(found.latents["canvas"], torch.cat([w[None], delta]))


# Truncation


@pytest.mark.parametrize(
    ("row", "settings", "adaptive", "expected"),
    [
        (0.2, 0.4, True, 0.2),
        (None, 0.4, True, 0.4),
        (None, None, True, 0.9),
        (None, None, False, 0.7),
        (0.0, 0.4, True, 0.0),
    ],
)
def test_the_rows_psi_goes_before_the_generators_the_adaptive_and_the_recipes(
    generators: dict[str, Generator],
    row: float | None,
    settings: float | None,
    adaptive: bool,
    expected: float,
) -> None:
    always = AdaptivePsi(highest=0.9)
    chosen = recipe({"psi": settings}, adaptive_psi=always if adaptive else None)
    found = start(generators, chosen, Source("seed", 3, row), (Sees(0),))
    assert found.psi["canvas"] == pytest.approx(expected)
    wanted = latents_of(generators["canvas"], 3, expected)
    torch.testing.assert_close(found.latents["canvas"], wanted)


def test_one_psi_per_layer_truncates_each_layer_by_its_own(
    generators: dict[str, Generator],
) -> None:
    canvas = generators["canvas"]
    psi = tuple(np.linspace(0.2, 0.9, canvas.num_ws).tolist())
    found = start(generators, recipe({"psi": psi}))
    latents = found.latents["canvas"]
    torch.testing.assert_close(canvas.ws_of(latents)[None], canvas.seeds_to_ws([3], psi))
    assert found.psi["canvas"] == psi
    assert latents[1:].mean(dim=0).abs().max() < 1e-6  # w is in their middle


@pytest.mark.parametrize("count", [1, 2, 99])
def test_a_wrong_number_of_psis_is_the_rows_mistake_with_both_numbers(
    generators: dict[str, Generator], count: int
) -> None:
    layers = generators["canvas"].num_ws
    with pytest.raises(
        BadInputError, match=rf"found {count} values of psi, expected 1 or {layers}"
    ):
        start(generators, recipe({"psi": (0.5,) * count}))


@pytest.mark.parametrize(
    ("detectors", "expected"),
    [
        ((Sees(0),), TRIED[0]),
        ((Sees(3),), TRIED[3]),
        ((Sees(2, but=(3,)),), TRIED[2]),
        ((Sees(2), Sees(5)), TRIED[5]),
        ((Sees(99),), TRIED[-1]),
    ],
)
def test_the_largest_psi_at_which_every_part_is_seen_is_taken(
    generators: dict[str, Generator], detectors: tuple[Detector, ...], expected: float
) -> None:
    found = start(generators, recipe(adaptive_psi=AdaptivePsi()), detectors=detectors)
    assert found.psi["canvas"] == pytest.approx(expected)
    wanted = latents_of(generators["canvas"], 3, expected)
    torch.testing.assert_close(found.latents["canvas"], wanted)


@pytest.mark.parametrize("passes_at", TRIED)
def test_the_largest_psi_within_the_distance_is_taken(
    generators: dict[str, Generator], passes_at: float
) -> None:
    """A threshold just above the distance at that psi lets no larger one through."""
    canvas = generators["canvas"]
    offset = canvas.seeds_to_w([3], 1.0)[0] - canvas.w_avg
    threshold = 1.001 * passes_at**2 * float(offset.square().mean())
    adaptive = AdaptivePsi(test="distance", threshold=threshold)
    found = start(generators, recipe(adaptive_psi=adaptive))
    assert found.psi["canvas"] == pytest.approx(passes_at)


def test_a_distance_that_nothing_keeps_gives_the_lowest_psi(
    generators: dict[str, Generator],
) -> None:
    adaptive = AdaptivePsi(test="distance", threshold=1e-9, lowest=0.25)
    found = start(generators, recipe(adaptive_psi=adaptive))
    assert found.psi["canvas"] == pytest.approx(0.25)


# Of the row


def test_overrides_change_the_start_of_their_row_alone(generators: dict[str, Generator]) -> None:
    changed = start(generators, recipe(), overrides={"psi": 0.1})
    assert changed.psi == {"canvas": 0.1, "face": 0.1}
    assert changed.recipe.psi == 0.1
    assert start(generators, recipe()).psi["canvas"] == 0.7


def test_boxes_of_the_row_come_along(generators: dict[str, Generator]) -> None:
    found = start(generators, recipe(), Source("seed", 3, box=(1, 2, 30, 40)))
    assert found.boxes == {"canvas": Box(1, 2, 30, 40)}


def test_a_generator_with_classes_paints_the_one_that_is_asked_for(
    generators: dict[str, Generator],
) -> None:
    """Without classes in the generator, asking for one is a mistake: so it is passed on."""
    preparer = Preparer(recipe(), generators, {}, {"canvas": 1})
    item = new_item("a", SEED, {"face": Source()})
    with pytest.raises(ValueError, match="class 1"):
        preparer.start("1-1", preparer.prepare(item, inputs.read))


# Pictures


class Answers:
    """An encoder that has one answer, and remembers what it was shown."""

    def __init__(self, num_ws: int, w_dim: int) -> None:
        self.num_ws, self.w_dim = num_ws, w_dim
        self.latents = torch.arange(float((1 + num_ws) * w_dim)).view(1, 1 + num_ws, w_dim) / 1e3
        self.seen: list[Tensor] = []

    def encode(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return self.latents


def start_of_picture(
    generators: dict[str, Generator],
    chosen: Recipe,
    picture: Path,
    encoders: dict[str, Encoder] | None = None,
) -> Start:
    item = new_item("a", SEED, {"face": Source("image", str(picture))}, seed=9)
    preparer = Preparer(chosen, generators, {}, {}, encoders=encoders or {})
    return preparer.start("1-1", preparer.prepare(item, inputs.read))


@pytest.fixture
def picture(generators: dict[str, Generator], tmp_path: Path) -> Path:
    """What the face's generator paints of the third seed that it is compared with."""
    image = generators["face"].images_of_seeds([4_000_000_002], 0.7)
    path = tmp_path / "face.png"
    Image.fromarray(images.to_pixels(image)[0].numpy()).save(path)
    return path


def inverting(**changes: Any) -> Recipe:
    return dataclasses.replace(Recipe(), inversion=Inversion(**changes))


def test_a_picture_is_inverted_from_the_encoders_latents(
    generators: dict[str, Generator], picture: Path
) -> None:
    encoder = Answers(generators["face"].num_ws, len(generators["face"].w_avg))
    found = start_of_picture(generators, inverting(), picture, {"face": encoder})
    assert (found.pictures, found.seed) == (("face",), 9)
    assert torch.equal(found.latents["face"], encoder.latents[0])
    assert torch.equal(encoder.seen[0][0], found.references["face"])


def test_without_an_encoder_it_starts_at_the_nearest_seed(
    generators: dict[str, Generator], picture: Path
) -> None:
    found = start_of_picture(generators, inverting(tries=5), picture)
    expected = latents_of(generators["face"], 4_000_000_002, 0.7)
    torch.testing.assert_close(found.latents["face"], expected)
    encoder = Answers(generators["face"].num_ws, len(generators["face"].w_avg))
    nearest = inverting(start="nearest", tries=5)
    found = start_of_picture(generators, nearest, picture, {"face": encoder})
    torch.testing.assert_close(found.latents["face"], expected)
    assert not encoder.seen


def test_or_at_the_average_where_the_recipe_says_so(
    generators: dict[str, Generator], picture: Path
) -> None:
    found = start_of_picture(generators, inverting(start="average"), picture)
    assert torch.equal(found.latents["face"][0], generators["face"].w_avg)
    assert found.pictures == ("face",)


def test_a_picture_that_a_generator_does_not_start_from_is_only_held_to(
    generators: dict[str, Generator], picture: Path
) -> None:
    face = dataclasses.replace(Recipe().insets["face"], start="average")
    chosen = dataclasses.replace(inverting(), insets={"face": face})
    found = start_of_picture(generators, chosen, picture)
    assert found.pictures == ()
    assert torch.equal(found.latents["face"][0], generators["face"].w_avg)
