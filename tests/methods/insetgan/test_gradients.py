"""What moves a generator, against finite differences in float64, and where it is exactly 0."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images, losses
from insetgan_batch.methods.insetgan.objective import CanvasObjective, InsetObjective, Objective
from insetgan_batch.methods.insetgan.terms import Term
from insetgan_batch.nets.perceptual import Perceptual
from tests.methods.insetgan.bench import Ellipse, terms_of

HEIGHT, WIDTH, SIDE, LAYERS, DIMENSIONS = 56, 48, 40, 3, 4
RESOLUTION = 32
STEP = 1e-7
LEVEL = 1 / 127.5
DISTANCES = ("l1", "l2", "lpips")
# Sub-pixel; the second one leaves the canvas, the third one is turned.
REGIONS = ((7.3, 9.6, 41.1, 43.4, 0.0), (-5.2, 20.7, 30.4, 56.3, 0.0), (9.1, 8.2, 38.8, 37.9, 0.3))
BOX = (8.0, 6.0, 24.0, 28.0)
REGION_TERMS = [f"face.{term}.{d}" for term in ("coarse", "whole", "border") for d in DISTANCES]
REGION_TERMS.append("face.seam")
CANVAS_TERMS = [*REGION_TERMS, *(f"canvas.body.{d}" for d in DISTANCES)]
FACE_TERMS = [*REGION_TERMS, *(f"face.face.{d}" for d in DISTANCES)]


@pytest.fixture(scope="module")
def double_perceptual() -> Perceptual:
    return Perceptual(None).double()


def noise(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=source, dtype=torch.float64) * 2 - 1


def boxes_of(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


CANVAS, FACE = noise(3, 3, HEIGHT, WIDTH), noise(3, 3, SIDE, SIDE, seed=1)
LATENTS = noise(3, 1 + LAYERS, DIMENSIONS, seed=2)
PART = Ellipse(dtype=torch.float64).mask(torch.zeros(3, SIDE, SIDE, 3))
MASKS = pytest.mark.parametrize("mask", [None, PART], ids=["box", "mask"])


def canvas_objective(
    perceptual: Perceptual, wanted: set[str], mask: Tensor | None, region: Tensor
) -> Objective:
    n = len(region)
    return CanvasObjective(
        wanted=terms_of(wanted),
        perceptual=perceptual,
        reference=noise(n, 3, HEIGHT, WIDTH, seed=3),
        insets={"face": FACE[:n]},
        regions={"face": region},
        w_avg=noise(DIMENSIONS, seed=4),
        resolution=RESOLUTION,
        coarse_size=RESOLUTION,
        inversion_size=64,
        masks={} if mask is None else {"face": mask[:n]},
    )


def inset_objective(
    perceptual: Perceptual, wanted: set[str], mask: Tensor | None, region: Tensor
) -> Objective:
    n = len(region)
    return InsetObjective(
        "face",
        wanted=terms_of(wanted),
        perceptual=perceptual,
        reference=noise(n, 3, SIDE, SIDE, seed=3),
        box=boxes_of(BOX).expand(n, -1),
        canvas=CANVAS[:n],
        region=region,
        w_avg=noise(DIMENSIONS, seed=4),
        resolution=RESOLUTION,
        coarse_size=RESOLUTION,
        inversion_size=64,
        mask=None if mask is None else mask[:n],
    )


def check_gradient(loss: Callable[[Tensor], Tensor], at: Tensor, seed: int = 9) -> Tensor:
    """Against central differences in two directions, for each item by itself; returns it."""
    at = at.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(at).sum(), at)
    for offset in range(2):
        direction = noise(*at.shape, seed=seed + offset)
        with torch.no_grad():
            slope = (loss(at + STEP * direction) - loss(at - STEP * direction)) / (2 * STEP)
        expected = (gradient * direction).flatten(1).sum(dim=1)
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-9)
    return gradient


@MASKS
@pytest.mark.parametrize("term", CANVAS_TERMS)
def test_every_term_of_the_canvas(
    double_perceptual: Perceptual, term: str, mask: Tensor | None
) -> None:
    objective = canvas_objective(double_perceptual, {term}, mask, boxes_of(*REGIONS))
    gradient = check_gradient(
        lambda image: objective.losses(image, LATENTS)[Term.parse(term)], CANVAS
    )
    assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


@MASKS
@pytest.mark.parametrize("term", FACE_TERMS)
def test_every_term_of_an_inset(
    double_perceptual: Perceptual, term: str, mask: Tensor | None
) -> None:
    objective = inset_objective(double_perceptual, {term}, mask, boxes_of(*REGIONS))
    gradient = check_gradient(
        lambda image: objective.losses(image, LATENTS)[Term.parse(term)], FACE
    )
    assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("term", ["latent", "delta"])
def test_the_terms_of_the_latents(double_perceptual: Perceptual, term: str) -> None:
    objective = inset_objective(double_perceptual, set(), None, boxes_of(*REGIONS))
    gradient = check_gradient(lambda w: objective.losses(FACE, w)[Term("face", term)], LATENTS)
    is_moved = gradient.abs().amax(dim=(0, 2)) > 0
    assert is_moved.tolist() == [term == "latent"] + [term == "delta"] * LAYERS


@pytest.mark.parametrize("term", CANVAS_TERMS)
def test_an_items_loss_does_not_move_its_neighbours(
    double_perceptual: Perceptual, term: str
) -> None:
    objective = canvas_objective(double_perceptual, {term}, None, boxes_of(*REGIONS))
    canvas = CANVAS.clone().requires_grad_(True)
    value = objective.losses(canvas, LATENTS)[Term.parse(term)]
    (gradient,) = torch.autograd.grad(value[1], canvas)
    assert gradient[1].abs().max() > 0
    assert gradient[[0, 2]].abs().max() == 0


# Crops


def smooth(height: int, width: int) -> Tensor:
    """Waves of a few pixels: `[1 3 height width]`."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    colours = [torch.sin(x / a + y / b) for a, b in ((5.0, 9.0), (-7.0, 4.0), (11.0, 6.0))]
    return torch.stack(colours)[None].double()


@pytest.mark.parametrize("size", [(32, 32), (9, 13), (60, 40)])
@pytest.mark.parametrize("region", REGIONS)
def test_a_crop_follows_its_canvas(region: tuple[float, ...], size: tuple[int, int]) -> None:
    weights = noise(1, 3, *size, seed=5)

    def weighted(canvas: Tensor) -> Tensor:
        crops = images.resample(canvas, boxes_of(region), size)
        return (crops * weights).flatten(1).sum(dim=1)

    check_gradient(weighted, CANVAS[:1])


@pytest.mark.parametrize("size", [(32, 32), (9, 9), (60, 60)])
@pytest.mark.parametrize("region", REGIONS)
def test_a_crop_follows_every_edge_of_its_box(
    region: tuple[float, ...], size: tuple[int, int]
) -> None:
    """By fractions of a pixel, and by the angle where the box is turned."""
    weights, numbers = noise(1, 3, *size, seed=5), 5 if region[4] else 4

    def weighted(box: Tensor) -> Tensor:
        crops = images.resample(smooth(HEIGHT, WIDTH), box, size)
        return (crops * weights).flatten(1).sum(dim=1)

    gradient = check_gradient(weighted, boxes_of(region[:numbers]))
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("side", [16.0, 31.7, 40.0])
def test_a_crop_is_continuous_where_its_box_passes_over_pixels(side: float) -> None:
    """However small the shift, and also from one whole pixel to the next."""
    canvas, steepest = smooth(HEIGHT, WIDTH), 1 / 4 + 1 / 5  # per pixel, both directions
    shifts = torch.arange(0, 2.01, 1 / 16, dtype=torch.float64)
    crops = [
        images.resample(canvas, boxes_of((4 + s, 5 + s, 4 + s + side, 5 + s + side)), (32, 32))
        for s in shifts.tolist()
    ]
    for before, after in itertools.pairwise(crops):
        assert 0 < (after - before).abs().max() < steepest / 16


def test_a_shift_by_a_whole_pixel_is_a_shift() -> None:
    canvas = noise(1, 3, HEIGHT, WIDTH)
    there = images.resample(canvas, boxes_of((6.3, 9.8, 26.3, 29.8)), (20, 20))
    shifted = images.resample(
        canvas.roll((2, -3), dims=(2, 3)), boxes_of((3.3, 11.8, 23.3, 31.8)), (20, 20)
    )
    torch.testing.assert_close(there, shifted)


# Where nothing may pull


@pytest.mark.parametrize("region", REGIONS)
@MASKS
@pytest.mark.parametrize("distance", DISTANCES)
def test_body_does_not_pull_inside_of_the_region(
    perceptual: Perceptual, distance: str, mask: Tensor | None, region: tuple[float, ...]
) -> None:
    """Not by the last bit of float32, and outside of it everywhere."""
    regions = boxes_of(region).float()
    inside = images.box_mask(regions, (HEIGHT, WIDTH)) > 0
    if mask is not None:
        mask = mask[:1].float()
        inside = images.spread(mask, regions, (HEIGHT, WIDTH)) > 1 - 1e-4
    term = f"canvas.body.{distance}"
    objective = CanvasObjective(
        wanted=terms_of({term}),
        perceptual=perceptual,
        reference=noise(1, 3, HEIGHT, WIDTH, seed=3).float(),
        insets={"face": FACE[:1].float()},
        regions={"face": regions},
        w_avg=noise(DIMENSIONS, seed=4).float(),
        resolution=RESOLUTION,
        coarse_size=RESOLUTION,
        inversion_size=64,
        masks={} if mask is None else {"face": mask},
    )
    canvas = CANVAS[:1].float().requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        objective.losses(canvas, LATENTS[:1].float())[Term.parse(term)], canvas
    )
    pull = gradient.abs().amax(dim=1, keepdim=True)
    assert int(inside.sum()) > 150
    assert pull[inside].max() == 0
    grown = images.dilate(images.box_mask(regions, (HEIGHT, WIDTH)), 1) > 0
    assert pull[~grown].min() > 0


@MASKS
@pytest.mark.parametrize("distance", DISTANCES)
def test_border_does_not_pull_off_its_ring(
    double_perceptual: Perceptual, distance: str, mask: Tensor | None
) -> None:
    term = f"face.border.{distance}"
    objective = inset_objective(double_perceptual, {term}, mask, boxes_of((4, 4, 44, 44)))
    face = FACE[:1].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective.losses(face, LATENTS[:1])[Term.parse(term)], face)
    pull = images.downsample(gradient.abs().amax(dim=1, keepdim=True), RESOLUTION)
    ring = images.border_mask(RESOLUTION).double()
    if mask is not None:
        ring = images.ring_of(images.downsample(mask[:1], RESOLUTION))
    off, well_off = ring == 0, images.dilate(ring, 1) == 0
    assert pull[~off].max() > 0
    assert pull[well_off].max() == 0
    assert int(well_off.sum()) > 300


def test_on_the_canvas_border_does_not_pull_off_its_ring(double_perceptual: Perceptual) -> None:
    """But for the bilinear neighbours of the ring."""
    objective = canvas_objective(
        double_perceptual, {"face.border.l1"}, None, boxes_of((8, 12, 40, 44))
    )
    canvas = CANVAS[:1].clone().requires_grad_(True)
    losses_of = objective.losses(canvas, LATENTS[:1])
    (gradient,) = torch.autograd.grad(losses_of[Term("face", "border", "l1")], canvas)
    width = images.border_width(RESOLUTION)
    interior = gradient[:, :, 12 + width + 1 : 44 - width - 1, 8 + width + 1 : 40 - width - 1]
    assert interior.abs().max() == 0
    assert gradient[:, :, 12, 8:40].abs().min() > 0


# L1 below a level


@pytest.mark.parametrize("difference", [1e-9, 1e-4, 0.5 * LEVEL, 0.99 * LEVEL, 1.01 * LEVEL, 0.7])
def test_l1_is_a_parabola_below_a_level_and_a_line_above(difference: float) -> None:
    """Its gradient is in proportion to the difference up to one level, and continuous there."""
    mask = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    image = torch.full((1, 1, 1, 1), difference, dtype=torch.float64, requires_grad=True)
    loss = losses.masked_l1(image, torch.zeros_like(mask), mask).sum()
    (gradient,) = torch.autograd.grad(loss, image)
    is_small = difference < LEVEL
    expected = difference**2 / (2 * LEVEL) if is_small else difference - LEVEL / 2
    assert math.isclose(loss.item(), expected, rel_tol=1e-9)
    assert math.isclose(float(gradient), difference / LEVEL if is_small else 1.0, rel_tol=1e-9)
