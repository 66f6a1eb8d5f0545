"""What is rendered in a step: regions as in the full image, whole images at a lower resolution,
small generators whole.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import images
from insetgan_batch.methods.insetgan.objective import crop_region
from insetgan_batch.methods.insetgan.phase_renderer import PhaseRenderer
from insetgan_batch.methods.insetgan.seam import SeamTerm
from insetgan_batch.nets.checkpoint import Checkpoint
from insetgan_batch.nets.detector import FixedBox
from insetgan_batch.nets.devices import Precision
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.nets.stylegan2 import Architecture
from insetgan_batch.nets.windows import Crop
from tests.conftest import random_generator
from tests.methods.insetgan.bench import RECIPE, Bench, furthest, movement

CANVAS = Architecture((4, 2), (8,) * 6, z_dim=16, w_dim=8, mapping_layers=2)  # 128x64
FACE = Architecture((4, 4), (8,) * 5, z_dim=16, w_dim=8, mapping_layers=2)  # 64x64
LOW, RESOLUTION = 64, 32  # the canvas' lower resolution is 64x32
# Sub-pixel; the second one leaves the canvas, the third one is turned, the last one is outside.
REGIONS = (
    (17.3, 29.6, 41.1, 53.4, 0.0),
    (-15.2, 80.7, 30.4, 126.3, 0.0),
    (19.1, 8.2, 48.8, 37.9, 0.5),
    (70.0, 130.0, 90.0, 150.0, 0.0),
)
# At low resolution, in both types of picture.
SMALL = dataclasses.replace(RECIPE, picture_size=32, full_share=0.25)
BOXES = {"canvas": Box(20, 20, 40, 44), "face": Box(16, 12, 44, 54)}
DETECTORS = {name: FixedBox(box) for name, box in BOXES.items()}


def generator(architecture: Architecture, seed: int, precision: Precision = "float32") -> Generator:
    """In double precision, but for its `low_precision`."""
    network = random_generator(architecture, seed).double().freeze()
    source = Checkpoint(network, {}, f"tiny-{seed}")
    return Generator(source, torch.device("cpu"), precision=precision)


@pytest.fixture(scope="module")
def canvas() -> Generator:
    return generator(CANVAS, 1)


@pytest.fixture(scope="module")
def large_bench(canvas: Generator) -> Bench:
    """Generators with twice the pixels that their losses compare."""
    return Bench({"canvas": canvas, "face": generator(FACE, 2)}, Perceptual(None).double())


def random_latents(generator: Generator, count: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    size = (count, 1 + generator.num_ws, len(generator.w_avg))
    return 0.5 * torch.randn(size, generator=source, dtype=torch.float64)


def paint(generator: Generator, latents: Tensor) -> Tensor:
    return generator.synthesise(generator.ws_of(latents))


def renderer_of(generator: Generator, latents: Tensor, side: int = 32) -> PhaseRenderer:
    return PhaseRenderer(
        generator,
        side=side,
        latents=latents,
        rendered=paint(generator, latents),
        regions={"face": torch.tensor(REGIONS[: len(latents)], dtype=torch.float64)},
    )


def cut_out(crop: Crop) -> Tensor:
    """The regions in what was painted around them."""
    regions = torch.tensor(REGIONS[: len(crop.pixels)], dtype=torch.float64)
    return crop_region(crop.pixels, crop.window.boxes(regions), RESOLUTION)


def cropped(generator: Generator, latents: Tensor) -> Tensor:
    regions = torch.tensor(REGIONS[: len(latents)], dtype=torch.float64)
    return images.resample(paint(generator, latents), regions, (RESOLUTION, RESOLUTION))


def test_a_region_is_seen_as_the_whole_picture_has_it(canvas: Generator) -> None:
    begin, later = (random_latents(canvas, len(REGIONS), seed) for seed in (0, 1))
    _, crops = renderer_of(canvas, begin).low().render(later)
    torch.testing.assert_close(cut_out(crops["face"]), cropped(canvas, later), rtol=0, atol=1e-9)


def test_an_edge_is_seen_as_the_whole_picture_has_it(canvas: Generator) -> None:
    begin, later = (random_latents(canvas, len(REGIONS), seed) for seed in (0, 1))
    _, crops = renderer_of(canvas, begin).low().render(later)
    edge = SeamTerm(torch.tensor(REGIONS, dtype=torch.float64), (128, 64))
    inset = torch.rand(len(REGIONS), 3, 64, 64, dtype=torch.float64)
    found = edge(crops["face"], inset)
    assert (found[:3] > 0).all()
    expected = edge(Crop.whole(paint(canvas, later)), inset)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_region_moves_the_latents_as_if_the_picture_were_whole(canvas: Generator) -> None:
    latents = random_latents(canvas, len(REGIONS), 0)
    renderer = renderer_of(canvas, latents)
    latents.requires_grad_()
    pull = torch.randn(len(REGIONS), 3, RESOLUTION, RESOLUTION, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((seen * pull).sum(), latents)[0]
        for seen in (cut_out(renderer.low().render(latents)[1]["face"]), cropped(canvas, latents))
    )
    assert (expected.flatten(1).abs().amax(dim=1) > 1e-3).all()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_phase_begins_with_the_whole_picture_reduced(canvas: Generator) -> None:
    begin, later = (random_latents(canvas, 2, seed) for seed in (0, 1))
    renderer = renderer_of(canvas, begin)
    assert renderer.height == LOW
    expected = images.downsample(paint(canvas, begin), LOW)
    torch.testing.assert_close(renderer.low().render(begin)[0], expected, rtol=0, atol=1e-9)
    low = [canvas.synthesise(canvas.ws_of(x), upto=LOW) for x in (begin, later)]
    torch.testing.assert_close(
        renderer.low().render(later)[0], expected + low[1] - low[0], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("side", [33, 64, 1024])
def test_a_picture_that_is_small_enough_is_painted_whole(canvas: Generator, side: int) -> None:
    latents = random_latents(canvas, 2, 0)
    renderer = renderer_of(canvas, latents, side)
    assert renderer.is_whole
    picture, crops = renderer.full().render(latents)
    assert torch.equal(picture, paint(canvas, latents))
    assert not crops


def test_colours_of_the_last_block_alone_are_painted_whole() -> None:
    residual = generator(dataclasses.replace(CANVAS, synthesis="resnet"), 1)
    latents = random_latents(residual, 2, 0)
    assert renderer_of(residual, latents).is_whole


# Low precision


@pytest.fixture(scope="module")
def mixed() -> Generator:
    """The canvas with steps in bfloat16."""
    return generator(CANVAS, 1, "bfloat16")


@pytest.mark.parametrize("side", [32, 1024])
def test_a_phase_in_low_precision_begins_with_the_true_pictures(
    mixed: Generator, side: int
) -> None:
    begin = random_latents(mixed, len(REGIONS), 0)
    picture, _ = renderer_of(mixed, begin, side).full().render(begin)
    true = paint(mixed, begin)
    assert (paint(mixed.low_precision, begin) - true).abs().max() > 1e-3
    torch.testing.assert_close(picture, true, rtol=0, atol=1e-9)


def test_low_resolution_in_low_precision_begins_with_the_true_pictures_too(
    mixed: Generator,
) -> None:
    begin = random_latents(mixed, len(REGIONS), 0)
    picture, crops = renderer_of(mixed, begin).low().render(begin)
    reduced = images.downsample(paint(mixed, begin), LOW)
    torch.testing.assert_close(picture, reduced, rtol=0, atol=1e-9)
    # Convolutions of another size add bfloat16 in another order.
    difference = cut_out(crops["face"]) - cropped(mixed, begin)
    assert difference.abs().mean() < 1e-3


@pytest.mark.parametrize("side", [32, 1024])
def test_the_error_of_low_precision_is_held(mixed: Generator, side: int) -> None:
    begin, later = (random_latents(mixed, 2, seed) for seed in (0, 1))
    picture, _ = renderer_of(mixed, begin, side).full().render(later)
    error = paint(mixed, begin) - paint(mixed.low_precision, begin)
    expected = paint(mixed.low_precision, later) + error
    torch.testing.assert_close(picture, expected, rtol=0, atol=1e-9)


def test_what_is_kept_is_in_full_precision(mixed: Generator) -> None:
    """Steps in bfloat16 move the latents; pictures and scores are the generators' own."""
    bench = Bench({"canvas": mixed, "face": generator(FACE, 2)}, Perceptual(None).double())
    recipe = dataclasses.replace(RECIPE, min_rounds=2, max_rounds=2)
    found = bench.finish(bench.start("a", 3, recipe), recipe=recipe, detectors=DETECTORS)["a"]
    assert movement(found) > 0.01
    assert torch.equal(
        found.best.images["canvas"], paint(mixed, found.best.latents["canvas"][None])[0]
    )
    assert found.best.score < 0.8 * found.start.score


# In the batch


def test_scores_at_low_resolution_are_those_of_whole_pictures(large_bench: Bench) -> None:
    """Both begin at the same score, in which the low resolution has no part, and end near it."""
    low, whole = (
        large_bench.finish(
            large_bench.start("a", 3, recipe),
            recipe=recipe,
            detectors=DETECTORS,
        )["a"]
        for recipe in (
            dataclasses.replace(SMALL, picture_size=size, min_rounds=2, max_rounds=2)
            for size in (32, 64)
        )
    )
    assert low.start.score == whole.start.score
    assert low.best.score < 0.8 * low.start.score
    assert low.best.score < 1.05 * whole.best.score
    assert furthest(low, whole) > 1e-3  # else both were painted whole


def test_an_item_does_not_see_how_large_the_windows_of_others_are(large_bench: Bench) -> None:
    """Another region makes the common window larger, and the same pixels are seen in it."""
    one = large_bench.start("one", 3, SMALL, boxes={"canvas": Box(20, 20, 40, 44)})
    others = [
        large_bench.start("large", 4, SMALL, boxes={"canvas": Box(2, 10, 60, 80)}),
        large_bench.start("beyond", 5, SMALL, boxes={"canvas": Box(-20, 90, 10, 126)}),
    ]
    alone = large_bench.finish(one, recipe=SMALL, detectors=DETECTORS)["one"]
    beside = large_bench.finish(one, *others, recipe=SMALL, detectors=DETECTORS)["one"]
    assert movement(alone) > 0.01
    assert furthest(alone, beside) < 1e-9


def test_layers_that_are_not_seen_stay_as_they_were(large_bench: Bench) -> None:
    """The last two are for the highest resolution; w moves, and offsets make up for it."""
    recipe = dataclasses.replace(SMALL, full_share=0.0, min_rounds=1, max_rounds=1)
    found = large_bench.finish(
        large_bench.start("a", 3, recipe), recipe=recipe, detectors=DETECTORS
    )["a"]
    for name, seen in (("canvas", 10), ("face", 8)):
        before, after = (
            Generator.ws_of(x) for x in (found.start.latents[name], found.best.latents[name])
        )
        torch.testing.assert_close(after[seen:], before[seen:], rtol=0, atol=1e-12)
        assert (after[:seen] - before[:seen]).abs().amin() > 0
        assert (found.best.latents[name][0] - found.start.latents[name][0]).abs().max() > 0.01


def test_a_step_in_full_resolution_renews_what_is_held(canvas: Generator) -> None:
    begin, later = (random_latents(canvas, 2, seed) for seed in (0, 1))
    renderer = renderer_of(canvas, begin)
    picture, crops = renderer.full().render(later)
    torch.testing.assert_close(picture, paint(canvas, later), rtol=0, atol=1e-9)
    assert not crops
    expected = images.downsample(picture, LOW)
    torch.testing.assert_close(renderer.low().render(later)[0], expected, rtol=0, atol=1e-9)


def test_the_film_shows_whole_pictures(large_bench: Bench) -> None:
    found = large_bench.finish(
        large_bench.start("a", 3, SMALL), recipe=SMALL, detectors=DETECTORS, film_every=5
    )["a"]
    assert {frame.shape for frame in found.film} == {(128, 64, 3)}
