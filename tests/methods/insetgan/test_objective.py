"""What a moving generator is held to: which terms, on which pixels, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images
from insetgan_batch.methods.insetgan.image_terms import ImageTerms, latent_terms
from insetgan_batch.methods.insetgan.objective import (
    CanvasObjective,
    InsetObjective,
    crop_region,
    on_canvas,
)
from insetgan_batch.methods.insetgan.terms import DISTANCES, Term
from insetgan_batch.nets.perceptual import Features, Perceptual
from tests.methods.insetgan.bench import by_text, terms_of

HEIGHT, WIDTH, SIDE = 64, 48, 32
W_AVG = torch.zeros(4)
LATENTS = torch.ones(1, 1 + 3, 4)
REGION = (8.0, 10.0, 40.0, 42.0)  # whole pixels, as large as the inset
HALF_A_LEVEL = 1 / 255  # what L1 loses to its rounding off
BOX = (8.0, 6.0, 24.0, 28.0)
REGION_TERMS = {"face.coarse.l1", "face.coarse.lpips", "face.border.l1", "face.border.lpips"}
CANVAS_TERMS = REGION_TERMS | {"canvas.body.l1", "canvas.body.lpips"}
FACE_TERM = Term("face", "face")
FACE_TERMS = REGION_TERMS | {"face.face.l1", "face.face.lpips"}


class CountingPerceptual(Perceptual):
    """Knows how many batches of features it has computed."""

    def __init__(self) -> None:
        super().__init__(None)
        self.count = 0

    def features(self, image: Tensor) -> Features:
        self.count += 1
        return super().features(image)


@pytest.fixture(scope="module")
def counting() -> CountingPerceptual:
    return CountingPerceptual()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def box(*corners: float) -> Tensor:
    return torch.tensor([corners])


CANVAS, FACE, REFERENCE = noise(1, 3, HEIGHT, WIDTH), noise(1, 3, SIDE, SIDE, seed=1), 0.5


def canvas_terms(
    perceptual: Perceptual,
    *,
    canvas: Tensor = CANVAS,
    insets: dict[str, Tensor] | None = None,
    regions: dict[str, Tensor] | None = None,
    wanted: set[str] = CANVAS_TERMS,
    coarse_size: int = SIDE,
) -> dict[str, Tensor]:
    objective = CanvasObjective(
        wanted=terms_of(wanted),
        perceptual=perceptual,
        reference=torch.full_like(canvas, REFERENCE).detach(),
        insets=insets or {"face": FACE},
        regions=regions or {"face": box(*REGION)},
        w_avg=W_AVG,
        resolution=SIDE,
        coarse_size=coarse_size,
        inversion_size=64,
    )
    return by_text(objective.losses(canvas, LATENTS))


def inset_terms(
    perceptual: Perceptual,
    *,
    canvas: Tensor = CANVAS,
    face: Tensor = FACE,
    region: Tensor | None = None,
    wanted: set[str] = FACE_TERMS,
) -> dict[str, Tensor]:
    objective = InsetObjective(
        "face",
        wanted=terms_of(wanted),
        perceptual=perceptual,
        reference=torch.full_like(face, REFERENCE).detach(),
        box=box(*BOX),
        canvas=canvas,
        region=box(*REGION) if region is None else region,
        w_avg=W_AVG,
        resolution=SIDE,
        coarse_size=SIDE,
        inversion_size=64,
    )
    return by_text(objective.losses(face, LATENTS))


def changed_by(
    terms: Callable[[Tensor], dict[str, Tensor]], image: Tensor, pixels: Tensor
) -> set[str]:
    """The terms that are not exactly the same after a change of these pixels of `image`."""
    before, after = terms(image), terms(torch.where(pixels > 0, image + 0.7, image))
    return {name for name in before if not torch.equal(before[name], after[name])}


# What is computed


def test_terms_without_a_weight_are_not_computed(counting: CountingPerceptual) -> None:
    free = {"canvas.latent", "canvas.delta"}
    counting.count = 0
    assert set(canvas_terms(counting, wanted=set())) == free
    wanted = {"face.border.l1", "canvas.body.l1"}
    assert set(canvas_terms(counting, wanted=wanted)) == free | wanted
    assert set(inset_terms(counting, wanted={"face.face.l1"})) == {
        "face.latent",
        "face.delta",
        "face.face.l1",
    }
    assert counting.count == 0


def test_a_weight_brings_its_term_and_one_pair_of_features(counting: CountingPerceptual) -> None:
    counting.count = 0
    assert "face.coarse.lpips" in canvas_terms(counting, wanted={"face.coarse.lpips"})
    assert counting.count == 2


def test_features_of_what_stands_still_are_computed_once(counting: CountingPerceptual) -> None:
    counting.count = 0
    objective = CanvasObjective(
        wanted=terms_of(CANVAS_TERMS),
        perceptual=counting,
        reference=CANVAS,
        insets={"face": FACE},
        regions={"face": box(*REGION)},
        w_avg=W_AVG,
        resolution=SIDE,
        coarse_size=SIDE,
        inversion_size=64,
    )
    assert counting.count == 2  # coarse and border in one pass, and body, of the standing side
    for _ in range(4):
        objective.losses(CANVAS, LATENTS)
    assert counting.count == 2 + 4 * 2


def test_every_term_has_one_value_per_item(perceptual: Perceptual) -> None:
    """And it is the value that the item has alone."""
    canvases, faces = noise(2, 3, HEIGHT, WIDTH), noise(2, 3, SIDE, SIDE, seed=1)
    regions = torch.tensor([REGION, (-6.0, 3.0, 34.0, 43.0)])

    def terms(canvas: Tensor, face: Tensor, region: Tensor) -> dict[str, Tensor]:
        return canvas_terms(
            perceptual, canvas=canvas, insets={"face": face}, regions={"face": region}
        )

    together = terms(canvases, faces, regions)
    for i in range(2):
        alone = terms(canvases[i : i + 1], faces[i : i + 1], regions[i : i + 1])
        for name, value in together.items():
            if name.startswith("canvas.latent") or name.endswith(".delta"):
                continue
            assert value.shape == (2,)
            torch.testing.assert_close(value[i], alone[name][0], rtol=1e-4, atol=1e-6)


def test_every_distance_is_divided_by_the_area_of_its_mask(perceptual: Perceptual) -> None:
    """A mask that holds all of a small difference makes it larger, the smaller the mask is."""
    image, target = noise(1, 3, SIDE, SIDE, seed=5), noise(1, 3, SIDE, SIDE, seed=6)
    mask = images.box_mask(box(8.0, 4.0, 28.0, 24.0), (SIDE, SIDE))
    wanted = {FACE_TERM.of(distance) for distance in DISTANCES}
    found = ImageTerms({FACE_TERM: mask}, wanted, perceptual, target)(image)
    everywhere = ImageTerms({FACE_TERM: torch.ones_like(mask)}, wanted, perceptual, mask * target)
    share = 20 * 20 / SIDE**2
    for term, value in everywhere(mask * image).items():
        torch.testing.assert_close(found[term], value / share)


def test_a_mask_of_nothing_is_no_distance(perceptual: Perceptual) -> None:
    wanted = {FACE_TERM.of(distance) for distance in DISTANCES}
    nothing = torch.zeros(1, 1, SIDE, SIDE)
    image = FACE.clone().requires_grad_(True)
    found = ImageTerms({FACE_TERM: nothing}, wanted, perceptual, 0 * FACE)(image)
    assert {term: float(value) for term, value in found.items()} == dict.fromkeys(wanted, 0.0)
    (gradient,) = torch.autograd.grad(torch.stack(list(found.values())).sum(), image)
    assert not gradient.any()


def test_latent_terms_are_of_w_and_of_the_offsets() -> None:
    latents = torch.zeros(2, 1 + 3, 4)
    latents[0, 0] = 2.0  # w
    latents[1, 1:] = 3.0  # offsets
    terms = by_text(latent_terms("face", latents, torch.ones(4)))
    assert terms["face.latent"].tolist() == [1.0, 1.0]
    assert terms["face.delta"].tolist() == [0.0, 9.0]


# Agreement of canvas and inset


def test_an_inset_that_equals_its_region_has_no_coarse_and_no_border(
    perceptual: Perceptual,
) -> None:
    face = crop_region(CANVAS, box(*REGION), SIDE)
    terms = canvas_terms(perceptual, insets={"face": face})
    for name in REGION_TERMS:
        assert float(terms[name]) == pytest.approx(0, abs=1e-7)
    assert float(terms["canvas.body.l1"]) > 0.1


def test_both_sides_see_the_same_coarse_and_border(perceptual: Perceptual) -> None:
    canvas, face = canvas_terms(perceptual), inset_terms(perceptual)
    for name in REGION_TERMS:
        torch.testing.assert_close(canvas[name], face[name], rtol=1e-4, atol=1e-6)


def test_coarse_is_blind_to_detail_and_border_is_not(perceptual: Perceptual) -> None:
    fine = noise(1, 3, 64, 64)
    fine[:, :, ::2], fine[:, :, 1::2] = 0.5, -0.5
    found = {}
    for coarse_size in (32, 64):
        objective = CanvasObjective(
            wanted=terms_of({"face.coarse.l1", "face.border.l1"}),
            perceptual=perceptual,
            reference=torch.zeros(1, 3, HEIGHT, HEIGHT),
            insets={"face": fine},
            regions={"face": box(0, 0, 64, 64)},
            w_avg=W_AVG,
            resolution=64,
            coarse_size=coarse_size,
            inversion_size=64,
        )
        found[coarse_size] = by_text(objective.losses(torch.zeros(1, 3, 64, 64), LATENTS))
    assert float(found[32]["face.coarse.l1"]) == pytest.approx(0, abs=1e-6)
    assert float(found[64]["face.coarse.l1"]) == pytest.approx(0.5 - HALF_A_LEVEL)
    assert float(found[32]["face.border.l1"]) == pytest.approx(0.5 - HALF_A_LEVEL)


# Which pixels count


def test_body_is_blind_inside_of_the_regions(perceptual: Perceptual) -> None:
    regions = {"face": box(*REGION), "shoes": box(20.0, 50.0, 30.0, 60.0)}
    insets = {"face": FACE, "shoes": FACE}
    wanted = {"canvas.body.l1", "canvas.body.lpips"}

    def terms(canvas: Tensor) -> dict[str, Tensor]:
        return canvas_terms(
            perceptual, canvas=canvas, insets=insets, regions=regions, wanted=wanted
        )

    size = (HEIGHT, WIDTH)
    inside = images.box_mask(regions["face"], size) + images.box_mask(regions["shoes"], size)
    assert changed_by(terms, CANVAS, inside) == set()
    assert changed_by(terms, CANVAS, 1 - inside) == wanted
    assert int(inside.sum()) == 32 * 32 + 10 * 10


def test_face_is_blind_outside_of_the_box(perceptual: Perceptual) -> None:
    wanted = {"face.face.l1", "face.face.lpips"}

    def terms(face: Tensor) -> dict[str, Tensor]:
        return inset_terms(perceptual, face=face, wanted=wanted)

    inside = images.box_mask(box(*BOX), (SIDE, SIDE))
    assert changed_by(terms, FACE, 1 - inside) == set()
    assert changed_by(terms, FACE, inside) == wanted


def test_border_is_blind_inside_of_the_ring(perceptual: Perceptual) -> None:
    wanted = {"face.border.l1", "face.border.lpips"}

    def terms(face: Tensor) -> dict[str, Tensor]:
        return inset_terms(perceptual, face=face, wanted=wanted)

    ring = images.border_mask(SIDE)
    assert changed_by(terms, FACE, 1 - ring) == set()
    assert changed_by(terms, FACE, ring) == wanted


def test_coarse_and_border_are_blind_outside_of_the_region(perceptual: Perceptual) -> None:
    def terms(canvas: Tensor) -> dict[str, Tensor]:
        return canvas_terms(perceptual, canvas=canvas, wanted=REGION_TERMS)

    inside = images.box_mask(box(*REGION), (HEIGHT, WIDTH))
    far = 1 - images.box_mask(box(7.0, 9.0, 41.0, 43.0), (HEIGHT, WIDTH))  # bilinear neighbours
    assert changed_by(terms, CANVAS, far) == set()
    assert changed_by(terms, CANVAS, inside) == REGION_TERMS


BEYOND = (-10.0, 40.0, 22.0, 72.0)  # 10 columns left of the canvas, 8 rows below it


def test_pixels_of_a_region_beyond_the_canvas_do_not_count(perceptual: Perceptual) -> None:
    mask = on_canvas(box(*BEYOND), (HEIGHT, WIDTH), SIDE)
    assert int(mask.sum()) == 22 * 24
    assert float(mask[0, 0, :, :10].sum() + mask[0, 0, 24:].sum()) == 0

    def inset(face: Tensor) -> dict[str, Tensor]:
        return inset_terms(perceptual, face=face, region=box(*BEYOND), wanted=REGION_TERMS)

    def canvas(face: Tensor) -> dict[str, Tensor]:
        regions = {"face": box(*BEYOND)}
        return canvas_terms(perceptual, insets={"face": face}, regions=regions, wanted=REGION_TERMS)

    for terms in (inset, canvas):
        assert changed_by(terms, FACE, 1 - mask) == set()
        assert changed_by(terms, FACE, mask) == REGION_TERMS


def test_a_cut_region_has_the_mean_of_what_is_left(perceptual: Perceptual) -> None:
    terms = inset_terms(
        perceptual,
        canvas=torch.zeros(1, 3, HEIGHT, WIDTH),
        face=torch.full((1, 3, SIDE, SIDE), 0.25),
        region=box(*BEYOND),
    )
    assert float(terms["face.coarse.l1"]) == pytest.approx(0.25 - HALF_A_LEVEL)
    assert float(terms["face.border.l1"]) == pytest.approx(0.25 - HALF_A_LEVEL)


def test_a_region_off_the_canvas_counts_nothing(perceptual: Perceptual) -> None:
    terms = inset_terms(perceptual, region=box(-60.0, -60.0, -28.0, -28.0))
    for name in REGION_TERMS:
        assert float(terms[name]) == 0.0


# Gradients


def gradient_of(terms: dict[str, Tensor], image: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(sum(terms.values(), torch.zeros(1)).sum(), image)
    return gradient.abs().sum(dim=1, keepdim=True)


def test_the_canvas_is_moved_everywhere_and_its_insets_are_not(perceptual: Perceptual) -> None:
    canvas, face = CANVAS.clone().requires_grad_(True), FACE.clone()
    terms = canvas_terms(perceptual, canvas=canvas, insets={"face": face})
    assert float(gradient_of(terms, canvas).min()) > 0
    assert not face.requires_grad


def test_every_canvas_term_pulls_where_it_looks(perceptual: Perceptual) -> None:
    inside = images.box_mask(box(*REGION), (HEIGHT, WIDTH))
    for name, where in (
        ("canvas.body.l1", 1 - inside),
        ("canvas.body.lpips", 1 - inside),
        ("face.coarse.l1", inside),
    ):
        canvas = CANVAS.clone().requires_grad_(True)
        gradient = gradient_of(canvas_terms(perceptual, canvas=canvas, wanted={name}), canvas)
        assert float((gradient * where).max()) > 0
        share_elsewhere = float((gradient * (1 - where)).sum() / gradient.sum())
        assert share_elsewhere < 1e-3  # rounding of sample positions


def test_every_inset_term_pulls_where_it_looks(perceptual: Perceptual) -> None:
    ring, inside = images.border_mask(SIDE), images.box_mask(box(*BOX), (SIDE, SIDE))
    for name, where in (
        ("face.face.l1", inside),
        ("face.face.lpips", inside),
        ("face.border.l1", ring),
        ("face.border.lpips", ring),
        ("face.coarse.l1", torch.ones_like(ring)),
    ):
        face = FACE.clone().requires_grad_(True)
        gradient = gradient_of(inset_terms(perceptual, face=face, wanted={name}), face)
        assert float((gradient * where).max()) > 0
        assert float((gradient * (1 - where)).max()) == 0


def test_l1_pulls_with_the_strength_of_its_mean(perceptual: Perceptual) -> None:
    face = torch.zeros(1, 3, SIDE, SIDE, requires_grad=True)  # half a unit from the reference
    gradient = gradient_of(inset_terms(perceptual, face=face, wanted={"face.face.l1"}), face)
    area = int(images.box_mask(box(*BOX), (SIDE, SIDE)).sum())
    assert math.isclose(float(gradient.max()), 1 / area, rel_tol=1e-5)
