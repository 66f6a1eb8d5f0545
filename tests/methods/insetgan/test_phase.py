"""A phase: each item's steps by its own numbers, and what is not seen stays where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from insetgan_batch.methods.insetgan.adam import MovingLatents
from insetgan_batch.methods.insetgan.image_terms import Losses
from insetgan_batch.methods.insetgan.phase import Phase
from insetgan_batch.methods.insetgan.phase_renderer import RenderPass
from insetgan_batch.methods.insetgan.recipe import GeneratorSettings
from insetgan_batch.methods.insetgan.terms import Term, Weights
from insetgan_batch.nets.windows import Crop

LAYERS, WIDTH, STEPS = 3, 4, 5
NEAR, SMALL = Term("face", "near"), Term("face", "small")
NAMES = (NEAR, SMALL)


@dataclasses.dataclass
class Bowl:
    """Two terms: how far the picture is from a target, and how large the offsets are."""

    target: Tensor

    def losses(
        self, image: Tensor, latents: Tensor, crops: Mapping[str, Crop] | None = None
    ) -> Losses:
        far = (image - self.target).square().sum(dim=(1, 2))
        return {NEAR: far, SMALL: latents[:, 1:].square().sum(dim=(1, 2))}


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def render_pass(layers: int = LAYERS, seen: list[Tensor] | None = None) -> RenderPass:
    """A picture `[n l c]` is the layers that are seen; each is kept in `seen`."""

    def render(latents: Tensor) -> tuple[Tensor, dict[str, Crop]]:
        ws = latents[:, :1] + latents[:, 1 : 1 + layers]
        if seen is not None:
            seen.append(ws.detach())
        return ws, {}

    return RenderPass(render, layers)


def phase_of(
    moving: list[MovingLatents],
    *,
    settings: GeneratorSettings | None = None,
    rates: list[list[float]] | None = None,
    weights: list[list[Weights]] | None = None,
    noise: Tensor | None = None,
) -> Phase:
    even = [[dict.fromkeys(NAMES, 1.0)] * STEPS] * len(moving)
    return Phase(
        moving,
        [settings or GeneratorSettings()] * len(moving),
        rates=rates or [[0.1] * STEPS] * len(moving),
        weights=weights or even,
        noise=noise,
    )


def items(count: int = 2) -> list[MovingLatents]:
    return [MovingLatents.at_rest(drawn(1 + LAYERS, WIDTH, seed=i)) for i in range(count)]


def test_every_item_moves_by_its_own_weights_and_step_sizes_in_each_step() -> None:
    rates = [[0.1, 0.2, 0.05, 0.0, 0.3], [0.3, 0.1, 0.2, 0.1, 0.1]]
    weights = [
        [{NEAR: 1.0 + step + item, SMALL: 0.5 * step} for step in range(STEPS)] for item in range(2)
    ]
    moving, target = items(), drawn(2, LAYERS, WIDTH, seed=9)
    starts = [m.latents.clone() for m in moving]
    phase = phase_of(moving, rates=rates, weights=weights)
    for _ in range(STEPS):
        phase.step(render_pass(), Bowl(target))
    values = phase.end()
    assert phase.terms == list(NAMES)
    for i, start in enumerate(starts):
        latents = start.clone().requires_grad_(True)
        adam = torch.optim.Adam([latents])
        for step in range(STEPS):
            losses = Bowl(target[i : i + 1]).losses(
                render_pass().render(latents[None])[0], latents[None]
            )
            torch.testing.assert_close(values[step, :, i], torch.cat(list(losses.values())))
            parts = [weights[i][step][term] * losses[term].sum() for term in NAMES]
            adam.param_groups[0]["lr"] = rates[i][step]
            adam.zero_grad()
            torch.autograd.backward(torch.stack(parts).sum())
            adam.step()
        torch.testing.assert_close(moving[i].latents, latents.detach())
        assert moving[i].step == STEPS


def test_noise_is_on_w_while_it_is_rendered_and_gone_afterwards() -> None:
    moving, noise, seen = items(1), drawn(STEPS, 1, WIDTH, seed=3), list[Tensor]()
    before = moving[0].latents.clone()
    phase = phase_of(moving, rates=[[0.0] * STEPS], noise=noise)
    for _ in range(STEPS):
        phase.step(render_pass(seen=seen), Bowl(torch.zeros(1)))
    phase.end()
    for step in range(STEPS):
        expected = before[:1] + noise[step] + before[1:]
        torch.testing.assert_close(seen[step][0], expected)
    assert torch.equal(moving[0].latents, before)


@pytest.mark.parametrize(("latents", "moves"), [("w", True), ("w+delta", True), ("w+", False)])
def test_layers_that_are_not_seen_stay_where_they_are(latents: str, moves: bool) -> None:
    """With offsets they make up for what w has moved; a single w takes all layers along."""
    moving = items(1)
    before = moving[0].latents.clone()
    phase = phase_of(moving, settings=GeneratorSettings(latents=latents))  # type: ignore[arg-type]
    for _ in range(STEPS):
        phase.step(render_pass(layers=1), Bowl(torch.zeros(1)))
    phase.end()
    after = moving[0].latents
    assert torch.equal(after[0], before[0]) != moves
    if latents != "w":
        torch.testing.assert_close(after[0] + after[2:], before[0] + before[2:])
    assert torch.equal(after[1], before[1]) == (latents == "w")


def test_an_item_that_is_in_no_phase_is_left_alone_and_its_tensors_are_its_own() -> None:
    moving = items(2)
    other, kept = moving[1].latents, moving[0].latents
    phase = phase_of(moving[:1])
    phase.step(render_pass(), Bowl(torch.zeros(1)))
    phase.end()
    assert moving[1].latents is other
    assert moving[1].step == 0
    assert torch.equal(kept, drawn(1 + LAYERS, WIDTH, seed=0))
    assert not torch.equal(moving[0].latents, kept)
