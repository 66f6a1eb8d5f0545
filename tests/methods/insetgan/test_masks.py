"""Parts that are cut out along a mask: what is pasted, where the border lies, what a canvas keeps.

The mask is an ellipse, soft over a few pixels, and the numbers are known from its formula.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import compose, images
from insetgan_batch.methods.insetgan.objective import CanvasObjective, InsetObjective
from insetgan_batch.methods.insetgan.states import Finished
from insetgan_batch.methods.insetgan.terms import Term
from insetgan_batch.nets.perceptual import Perceptual
from tests.methods.insetgan.bench import RECIPE, Bench, Ellipse, terms_of

HEIGHT, WIDTH, SIDE = 64, 48, 32
SIZE = (HEIGHT, WIDTH)
REGION = Box(8, 10, 40, 42)  # whole pixels, as large as the inset
REGIONS = [REGION, Box(6.4, 11.7, 41.1, 46.4), Box(-6, 30, 30, 66), Box(8, 10, 40, 42, 0.4)]
MASKED = dataclasses.replace(
    RECIPE, insets={"face": dataclasses.replace(RECIPE.insets["face"], region="mask")}
)
LEVELS = 127.5


def mask_of(side: int = SIDE) -> Tensor:
    return Ellipse().mask(torch.zeros(1, side, side, 3))


def distance(side: int = SIDE) -> Tensor:
    """Of every pixel's centre from the middle: below 1 inside of the ellipse."""
    at = (torch.arange(side) + 0.5) / side - 0.5
    return ((at / 0.3) ** 2 + (at[:, None] / 0.375) ** 2).sqrt()


def row_of(box: Box) -> Tensor:
    return torch.tensor([(box.x0, box.y0, box.x1, box.y1, box.angle)])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# Pasting


@pytest.mark.parametrize("region", REGIONS)
def test_outside_of_the_mask_is_the_canvas_and_inside_the_inset(region: Box) -> None:
    canvas, inset = noise(3, *SIZE), noise(3, SIDE, SIDE, seed=1)
    composite = compose.compose(canvas, {"face": inset}, {"face": region}, {"face": mask_of()[0]})
    whole = compose.compose(canvas, {"face": inset}, {"face": region})
    opacity = images.spread(mask_of(), row_of(region), SIZE)[0, 0]
    outside, inside = opacity == 0, opacity > 1 - 1e-6
    assert torch.equal(composite[:, outside], canvas[:, outside])
    torch.testing.assert_close(composite[:, inside], whole[:, inside], rtol=0, atol=1e-5)
    assert int(inside.sum()) > 150
    assert int((~outside).sum()) < 0.6 * region.width * region.height


@pytest.mark.parametrize("region", REGIONS)
def test_the_edge_of_a_part_is_soft(region: Box) -> None:
    """From the canvas' white to the inset's black it goes by steps."""
    canvas, inset = torch.ones(3, *SIZE), -torch.ones(3, SIDE, SIDE)
    composite = compose.compose(canvas, {"face": inset}, {"face": region}, {"face": mask_of()[0]})
    assert composite.min() >= -1.00001
    assert composite.max() <= 1.00001
    middle = int(region.centre[1])
    row = composite[0, middle, max(0, round(region.x0)) : round(region.centre[0])]
    assert int(((row > -0.95) & (row < 0.95)).sum()) >= 2
    assert float(row.diff().abs().max()) < 1.5
    hard = compose.compose(canvas, {"face": inset}, {"face": region})
    assert not ((hard > -0.95) & (hard < 0.95)).any()


def test_a_hard_mask_is_pasted_pixel_by_pixel() -> None:
    canvas, inset = noise(3, *SIZE), noise(3, SIDE, SIDE, seed=1)
    hard = (mask_of() > 0.5).float()
    composite = compose.compose(canvas, {"face": inset}, {"face": REGION}, {"face": hard[0]})
    window = composite[:, 10:42, 8:40]
    part = hard[0, 0] > 0
    torch.testing.assert_close(window[:, part], inset[:, part], rtol=0, atol=2e-5)
    torch.testing.assert_close(
        window[:, ~part], canvas[:, 10:42, 8:40][:, ~part], rtol=0, atol=2e-5
    )


# The ring


@pytest.mark.parametrize("side", [32, 64, 256])
def test_the_border_is_a_ring_along_the_edge(side: int) -> None:
    """As wide as a box', half of it on either side, and soft where the mask is."""
    ring, half = images.ring_of(mask_of(side))[0, 0], images.border_width(side) / 2
    across = (distance(side) - 1) * side  # pixels from the edge, times 0.3 to 0.375
    assert (ring[across.abs() * 0.375 < half - 1] > 0.4).all()
    assert (ring[across.abs() * 0.3 > half * 2**0.5 + 3] == 0).all()
    inner, outer = (float(ring[side_of].sum()) for side_of in (across < 0, across > 0))
    assert 0.6 < inner / outer < 1
    assert ring[0].max() == ring[:, 0].max() == 0  # not along the box


@pytest.mark.parametrize("distance_name", ["l1", "l2", "lpips"])
def test_border_pulls_on_the_ring_and_nowhere_else(
    perceptual: Perceptual, distance_name: str
) -> None:
    term = f"face.border.{distance_name}"
    objective = InsetObjective(
        "face",
        wanted=terms_of({term}),
        perceptual=perceptual,
        reference=noise(1, 3, SIDE, SIDE, seed=2),
        box=row_of(Box(8, 6, 24, 28)),
        canvas=noise(1, 3, *SIZE),
        region=row_of(REGION),
        w_avg=torch.zeros(4),
        resolution=SIDE,
        coarse_size=SIDE,
        inversion_size=64,
        mask=mask_of(),
    )
    face = noise(1, 3, SIDE, SIDE, seed=1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        objective.losses(face, torch.zeros(1, 4, 4))[Term.parse(term)], face
    )
    pull, ring = gradient.abs().amax(dim=1)[0], images.ring_of(mask_of())[0, 0]
    assert pull[ring == 0].max() == 0
    assert (pull[ring == 1] > 0).all()
    assert pull[SIDE // 2, SIDE // 2] == pull[0, 0] == 0


def test_coarse_looks_at_the_part_and_its_border_only(perceptual: Perceptual) -> None:
    """What will not be pasted may be anything."""
    terms = {"face.coarse.l1", "face.whole.l1"}
    objective = InsetObjective(
        "face",
        wanted=terms_of(terms),
        perceptual=perceptual,
        reference=noise(1, 3, SIDE, SIDE, seed=2),
        box=row_of(Box(8, 6, 24, 28)),
        canvas=noise(1, 3, *SIZE),
        region=row_of(REGION),
        w_avg=torch.zeros(4),
        resolution=SIDE,
        coarse_size=SIDE,
        inversion_size=64,
        mask=mask_of(),
    )
    latents, face = torch.zeros(1, 4, 4), noise(1, 3, SIDE, SIDE, seed=1)
    compared = torch.maximum(mask_of(), images.ring_of(mask_of()))
    before = objective.losses(face, latents)
    elsewhere = objective.losses(torch.where(compared > 0, face, face + 0.7), latents)
    inside = objective.losses(torch.where(mask_of() > 0.5, face + 0.7, face), latents)
    for term in terms_of(terms):
        assert torch.equal(before[term], elsewhere[term])
        assert not torch.equal(before[term], inside[term])


def test_face_looks_well_inside_of_the_part_only(perceptual: Perceptual) -> None:
    """Its edge belongs to the border."""
    face = noise(1, 3, SIDE, SIDE, seed=1).requires_grad_(True)
    objective = InsetObjective(
        "face",
        wanted={Term("face", "face", "l1")},
        perceptual=perceptual,
        reference=torch.zeros(1, 3, SIDE, SIDE),
        box=row_of(Box(0, 0, 4, 4)),
        canvas=noise(1, 3, *SIZE),
        region=row_of(REGION),
        w_avg=torch.zeros(4),
        resolution=SIDE,
        coarse_size=SIDE,
        inversion_size=64,
        mask=mask_of(),
    )
    value = objective.losses(face, torch.zeros(1, 4, 4))[Term("face", "face", "l1")]
    (gradient,) = torch.autograd.grad(value, face)
    pull = gradient.abs().amax(dim=1)[0]
    assert (pull[distance() < 0.6] > 0).all()
    assert pull[distance() > 1].max() == 0


# What the canvas keeps


def body_pull(perceptual: Perceptual, region: Box, mask: Tensor | None) -> Tensor:
    """The gradient of the body loss, its strength by pixel of the canvas `[H W]`."""
    objective = CanvasObjective(
        wanted={Term("canvas", "body", "l1")},
        perceptual=perceptual,
        reference=torch.full((1, 3, *SIZE), 3.0),
        insets={"face": noise(1, 3, SIDE, SIDE)},
        regions={"face": row_of(region)},
        w_avg=torch.zeros(4),
        resolution=SIDE,
        coarse_size=SIDE,
        inversion_size=64,
        masks={} if mask is None else {"face": mask},
    )
    canvas = noise(1, 3, *SIZE).requires_grad_(True)
    found = objective.losses(canvas, torch.zeros(1, 4, 4))
    (gradient,) = torch.autograd.grad(found[Term("canvas", "body", "l1")], canvas)
    return gradient.abs().amax(dim=1)[0]


@pytest.mark.parametrize("region", REGIONS)
def test_body_sees_everything_outside_of_the_grown_mask(
    perceptual: Perceptual, region: Box
) -> None:
    """Also what lies in the region's box, which is not pasted."""
    pull = body_pull(perceptual, region, mask_of())
    grown = images.spread(images.dilate(mask_of(), 2), row_of(region), SIZE)[0, 0]
    assert (pull[grown == 0] > 0.999 * pull.max()).all()
    assert pull[grown > 1 - 1e-6].max() == 0
    in_box = images.box_mask(row_of(region), SIZE)[0, 0] > 0
    assert int((in_box & (pull > 0)).sum()) > 0.3 * int(in_box.sum())


def test_body_gives_way_two_pixels_beyond_the_edge(perceptual: Perceptual) -> None:
    hard = (mask_of() > 0.5).float()
    pull = body_pull(perceptual, REGION, hard)[10:42, 8:40]
    beside = images.dilate(hard, 2)[0, 0] > 0
    assert pull[beside].max() == 0
    assert (pull[~beside] > 0).all()
    assert beside.sum() > hard.sum()


# The seam


def test_the_seam_is_measured_along_the_edge_of_the_part() -> None:
    """A hard ellipse of known contrast on a flat canvas; the box' own edge counts nothing."""
    canvas, inset = torch.zeros(3, *SIZE), torch.full((3, SIDE, SIDE), 0.2)
    hard = (mask_of()[0] > 0.5).float()
    cut = compose.compose(canvas, {"face": inset}, {"face": REGION}, {"face": hard})
    assert compose.seam(cut, REGION, hard) == pytest.approx(0.2 * LEVELS, rel=1e-3)
    assert compose.seam(cut, REGION) == pytest.approx(0, abs=1e-3)
    pasted = compose.compose(canvas, {"face": inset}, {"face": REGION})
    assert compose.seam(pasted, REGION, hard) == pytest.approx(0, abs=1e-3)
    assert compose.seam(pasted, REGION) == pytest.approx(0.2 * LEVELS, rel=1e-3)


def test_a_soft_edge_has_less_of_a_seam_than_a_hard_one() -> None:
    canvas, inset = torch.zeros(3, *SIZE), torch.full((3, SIDE, SIDE), 0.2)
    soft = mask_of()[0]
    hard = (soft > 0.5).float()
    seams = []
    for mask in (hard, soft):
        cut = compose.compose(canvas, {"face": inset}, {"face": REGION}, {"face": mask})
        seams.append(compose.seam(cut, REGION, mask))
    assert 0 < seams[1] < 0.5 * seams[0]


# In the batch


@pytest.fixture(scope="module")
def masked(bench: Bench) -> Finished:
    segmenters = {"face": Ellipse()}
    start = bench.start("one", 0, MASKED)
    return bench.finish(start, recipe=MASKED, segmenters=segmenters)["one"]


def test_an_item_leaves_with_the_masks_of_its_insets(masked: Finished) -> None:
    assert torch.equal(masked.best.masks["face"], mask_of()[0])
    assert torch.equal(masked.start.masks["face"], mask_of()[0])


def test_an_inset_with_a_box_has_no_mask(bench: Bench) -> None:
    segmenters = {"face": Ellipse()}
    found = bench.finish(bench.start("one", 0), segmenters=segmenters)["one"]
    assert found.best.masks == {}


def test_the_seam_along_the_mask_falls(masked: Finished) -> None:
    seams = []
    for state in (masked.start, masked.best):
        insets = {"face": state.images["face"]}
        image = compose.compose(state.images["canvas"], insets, state.regions, state.masks)
        seams.append(compose.seam(image, state.regions["face"], state.masks["face"]))
    assert masked.scores[-1] < masked.start.score
    assert seams[1] < seams[0]


@pytest.mark.parametrize("every", [1, 3])
def test_the_film_shows_the_part_cut_out(bench: Bench, every: int) -> None:
    """Every n-th step from the first on, before it is taken."""
    start = bench.start("one", 0, MASKED)
    more = {"segmenters": {"face": Ellipse()}, "film_every": every}
    found = bench.finish(start, recipe=MASKED, **more)["one"]
    assert len(found.film) == -(-found.steps // every)
    state = found.start
    insets = {"face": state.images["face"]}
    first = compose.compose(state.images["canvas"], insets, state.regions, state.masks)
    difference = torch.from_numpy(found.film[0]).int() - images.to_pixels(first[None])[0].int()
    assert difference.abs().max() <= 1
