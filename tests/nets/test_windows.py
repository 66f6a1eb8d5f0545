"""Windows: what is painted in them is what the whole image has there, and they lie where asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from insetgan_batch.nets.stylegan2 import StyleGAN2
from insetgan_batch.nets.windows import Window
from tests.conftest import random_generator
from tests.nets.test_stylegan2 import architecture, random_ws

# Corners (top, left) and size (h, w) in pixels of the lowest resolution of the whole images.
DEEP = {"channels": (5, 4, 6, 3, 4), "base": (12, 8)}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"base": (12, 16)},
    {"base": (9, 10), "conv_clamp": 1.0},
    {"image_channels": 1},
]
INSIDE, EDGES = ((4, 3), (5, 4)), ((0, 0), (9, 5))
SIZE = (3, 3)


def painter(**changes: Any) -> StyleGAN2:
    """In double precision, with noise that shows."""
    generator = random_generator(architecture(**DEEP | changes)).freeze().double()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.7)
    return generator


def window(
    generator: StyleGAN2,
    blocks: int,
    corners: tuple[tuple[int, int], ...],
    size: tuple[int, int] = SIZE,
) -> Window:
    """In pixels of the whole image; corners are those of the base, whatever the blocks."""
    architecture = generator.architecture
    height, width = architecture.resolutions[blocks - 1]
    base_height, base_width = architecture.base
    inside = tuple(
        (
            min(top * height // base_height, height - size[0]),
            min(left * width // base_width, width - size[1]),
        )
        for top, left in corners
    )
    return Window(inside, *size).scaled_up(architecture.image_size[0] // height)


def cut_by_hand(image: Tensor, window: Window) -> Tensor:
    return torch.stack(
        [
            image[i, :, top : top + window.height, left : left + window.width]
            for i, (top, left) in enumerate(window.corners)
        ]
    )


def double_ws(generator: StyleGAN2, count: int) -> Tensor:
    return random_ws(generator, count).double()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("corners", [INSIDE, EDGES])
def test_a_window_has_what_the_whole_image_has_there(
    changes: dict[str, Any], blocks: int, corners: tuple[tuple[int, int], ...]
) -> None:
    generator = painter(**changes)
    ws, at = double_ws(generator, 2), window(generator, blocks, corners)
    low, (crop,) = generator.synthesis.synthesise_crops(ws, blocks, [at])
    assert torch.equal(low, generator.synthesis(ws, blocks))
    expected = cut_by_hand(generator.synthesis(ws), at)
    torch.testing.assert_close(crop, expected, rtol=0, atol=1e-9)


def test_several_windows_have_what_the_whole_image_has_there() -> None:
    generator = painter()
    ws = double_ws(generator, 2)
    at = [
        window(generator, 2, INSIDE),
        window(generator, 2, EDGES, (4, 5)),
        Window.whole(2, generator.architecture.image_size),
    ]
    image = generator.synthesis(ws)
    for crop, place in zip(generator.synthesis.synthesise_crops(ws, 2, at)[1], at, strict=True):
        torch.testing.assert_close(crop, cut_by_hand(image, place), rtol=0, atol=1e-9)


@pytest.mark.parametrize("corners", [INSIDE, EDGES])
def test_gradients_through_a_window_are_those_through_the_whole_image(
    corners: tuple[tuple[int, int], ...],
) -> None:
    generator = painter()
    at = window(generator, 2, corners)
    pulls = torch.randn(2, 3, at.height, at.width, dtype=torch.float64)
    ws = double_ws(generator, 2).requires_grad_()
    seen = (
        generator.synthesis.synthesise_crops(ws, 2, [at])[1][0],
        cut_by_hand(generator.synthesis(ws), at),
    )
    gradients = [torch.autograd.grad((picture * pulls).sum(), ws)[0] for picture in seen]
    assert gradients[0].abs().max() > 1e-2
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-9)


def test_only_colours_in_every_block_can_be_looked_at_early() -> None:
    generator = painter(synthesis="resnet")
    with pytest.raises(ValueError, match="only `skip`"):
        generator.synthesis.synthesise_crops(double_ws(generator, 1), 2, [])


def test_windows_share_the_size_of_the_largest_and_hold_every_box() -> None:
    boxes = [(33.5, 17.0, 47.9, 31.0), (8.0, 8.0, 16.0, 32.1)]
    found = Window.around(boxes, (64, 96), 8)
    assert (found.height, found.width) == (32, 16)
    assert found.corners == ((16, 32), (8, 8))


@pytest.mark.parametrize(
    ("box", "corner", "size"),
    [
        ((-20.0, -4.0, 9.0, 7.0), (0, 0), (8, 16)),  # over the corner
        ((90.0, 60.0, 120.0, 99.0), (56, 88), (8, 8)),  # over the other
        ((200.0, -50.0, 220.0, -40.0), (0, 88), (8, 8)),  # far outside
        ((-50.0, -50.0, 200.0, 200.0), (0, 0), (64, 96)),  # all around
    ],
)
def test_a_box_that_leaves_the_image_counts_as_far_as_it_is_inside(
    box: tuple[float, ...], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    found = Window.around([box], (64, 96), 8)
    assert (found.corners, (found.height, found.width)) == ((corner,), size)


def test_a_window_at_the_edge_moves_inwards_to_share_its_size() -> None:
    found = Window.around([(0.0, 0.0, 40.0, 40.0), (88.0, 56.0, 96.0, 64.0)], (64, 96), 8)
    assert found == Window(((0, 0), (24, 56)), 40, 40)


def test_the_margin_is_as_wide_as_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = painter()
    ws, at = double_ws(generator, 2), window(generator, 2, INSIDE)
    monkeypatch.setattr("insetgan_batch.nets.windows.MARGIN_PX", 2)
    (crop,) = generator.synthesis.synthesise_crops(ws, 2, [at])[1]
    assert (crop - cut_by_hand(generator.synthesis(ws), at)).abs().max() > 1e-3
