"""The seam as a term that moves generators: it is the measure of results, seen through a window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import compose, images
from insetgan_batch.methods.insetgan.seam import SeamTerm
from insetgan_batch.nets.windows import Crop
from tests.methods.insetgan.bench import Ellipse

HEIGHT, WIDTH, SIDE = 48, 40, 32
LEVELS = 127.5
CORNERS = st.floats(-12, 30)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


CANVAS, INSET = noise(3, HEIGHT, WIDTH), noise(3, SIDE, SIDE, seed=1)
PART = Ellipse().mask(torch.zeros(1, SIDE, SIDE, 3))


def term(*regions: Box, mask: Tensor | None = None) -> SeamTerm:
    rows = torch.tensor([(r.x0, r.y0, r.x1, r.y1, r.angle) for r in regions])
    return SeamTerm(rows, (HEIGHT, WIDTH), mask)


@given(
    x=CORNERS,
    y=CORNERS,
    side=st.floats(6, 40),
    angle=st.sampled_from([0.0, 0.3]),
    cut=st.booleans(),
)
def test_it_is_the_measure_of_the_composite_wherever_the_region_is(
    x: float, y: float, side: float, angle: float, cut: bool
) -> None:
    region = Box(x, y, x + side, y + side, angle=angle)
    mask = PART if cut else None
    masks = {"face": mask[0]} if mask is not None else {}
    composite = compose.compose(CANVAS, {"face": INSET}, {"face": region}, masks)
    expected = compose.seam(composite, region, masks.get("face"))
    found = term(region, mask=mask)(Crop.whole(CANVAS[None]), INSET[None])
    assert float(found) * LEVELS == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_each_item_of_a_batch_has_its_own() -> None:
    places = [Box(4, 5, 20, 21), Box(-6, 20, 18, 44), Box(10.5, 9.25, 36.5, 35.25)]
    canvases, insets = noise(3, 3, HEIGHT, WIDTH), noise(3, 3, SIDE, SIDE, seed=1)
    together = term(*places)(Crop.whole(canvases), insets)
    alone = [
        term(place)(Crop.whole(canvases[i : i + 1]), insets[i : i + 1])
        for i, place in enumerate(places)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_it_pulls_at_both_sides_of_the_edge_and_nowhere_else() -> None:
    region = Box(8, 8, 24, 24)
    canvas = CANVAS[None].clone().requires_grad_(True)
    inset = INSET[None].clone().requires_grad_(True)
    gradients = torch.autograd.grad(term(region)(Crop.whole(canvas), inset).sum(), [canvas, inset])
    at, pulled = (gradient[0].abs().amax(dim=0) > 0 for gradient in gradients)
    rows = torch.arange(HEIGHT)[:, None].expand(HEIGHT, WIDTH)
    columns = torch.arange(WIDTH)[None].expand(HEIGHT, WIDTH)
    near = images.box_mask(torch.tensor([[6.0, 6.0, 26.0, 26.0]]), (HEIGHT, WIDTH))[0, 0] > 0
    inside = (rows >= 8) & (rows < 24) & (columns >= 8) & (columns < 24)
    assert at.any()
    assert not (at & inside).any()
    assert not (at & ~near).any()
    assert pulled.any()
    assert not pulled[8:-8, 8:-8].any()


def test_a_region_off_the_canvas_has_none() -> None:
    canvas = CANVAS[None].clone().requires_grad_(True)
    value = term(Box(100, 100, 120, 120))(Crop.whole(canvas), INSET[None])
    assert value.tolist() == [0.0]
    (gradient,) = torch.autograd.grad(value.sum(), canvas)
    assert not gradient.any()
