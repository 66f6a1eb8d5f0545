"""A phase: one generator of some items takes all of its steps, and everything else stands still.

What changes from step to step are numbers that are known before: step sizes, weights, noise. They
are brought to the device once for the whole phase, so that no step waits for anything. Where a GPU
finishes a step before Python has launched the next one, a step is recorded (a CUDA graph) and
replayed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.methods.insetgan.adam import MovingBatch, MovingLatents
from insetgan_batch.methods.insetgan.image_terms import Losses
from insetgan_batch.methods.insetgan.objective import Objective
from insetgan_batch.methods.insetgan.phase_renderer import RenderPass
from insetgan_batch.methods.insetgan.recipe import GeneratorSettings
from insetgan_batch.methods.insetgan.terms import Term, Weights

_SCARCE = 0.5  # of the memory: a step that is being recorded cannot make room for itself


class Phase:
    """The steps of one generator; each item moves by its own losses, weights and step sizes."""

    def __init__(
        self,
        moving: Sequence[MovingLatents],
        settings: Sequence[GeneratorSettings],
        *,
        rates: Sequence[Sequence[float]],
        weights: Sequence[Sequence[Weights]],
        noise: Tensor | None,
    ) -> None:
        """settings: of the generator, one per item. By item and step: rates, Adam's step sizes, and
        weights, those of the losses. noise: what is added to w while an image is rendered,
        `[steps n c]`, None for none.
        """
        self._moving, self._settings = moving, settings
        self._batch = MovingBatch(moving)
        self._weighted = list(weights[0][0])
        rows = [
            [(*numbers, *own.values()) for numbers, own in zip(m.numbers(r), w, strict=True)]
            for m, r, w in zip(moving, rates, weights, strict=True)
        ]
        latents = self._batch.latents
        table = torch.tensor(rows, dtype=latents.dtype).permute(1, 2, 0).contiguous()
        self._table, self._noise = table.to(latents.device), noise
        # What the next step reads, in one place of the memory.
        self._numbers = torch.empty_like(self._table[0])
        self._w_noise = None if noise is None else torch.empty_like(noise[0])
        self._makes_up = latents.new_tensor(
            [[[float(own.latents == "w+delta")]] for own in settings]
        )
        # Both by the pass's number of layers, which tells a low-resolution pass from a full one.
        self._free: dict[int, Tensor] = {}
        self._recordings: dict[int, tuple[torch.cuda.CUDAGraph, Losses]] = {}
        self._history: list[Tensor] = []
        self.terms: list[Term] = []

    @property
    def latents(self) -> Tensor:
        """`[n 1+l c]`, as they are before the next step."""
        return self._batch.latents

    def step(self, render_pass: RenderPass, objective: Objective) -> None:
        """Take the next step: render, compute the objective's losses, and move the latents."""
        number = len(self._history)
        self._numbers.copy_(self._table[number])
        if self._noise is not None and self._w_noise is not None:
            self._w_noise.copy_(self._noise[number])
        is_first = render_pass.layers not in self._free
        if not (is_first or render_pass.layers in self._recordings) and self._waits_for_python():
            self._record(render_pass, objective)
        if render_pass.layers in self._recordings:
            graph, losses = self._recordings[render_pass.layers]
            graph.replay()
        else:
            losses = self._compute(render_pass, objective)
        self.terms = list(losses)
        self._history.append(torch.stack(list(losses.values())))

    def end(self) -> Tensor:
        """Write the latents back to the items; returns the raw losses before each step,
        `[steps terms n]`.
        """
        self._batch.hand_back(self._moving, len(self._history))
        return torch.stack(self._history)

    def _compute(self, render_pass: RenderPass, objective: Objective) -> Losses:
        """One step; returns the raw losses before it."""
        latents = self._batch.latents.detach().requires_grad_(True)
        noisy = latents
        if self._w_noise is not None:
            noisy = latents + F.pad(self._w_noise[:, None], (0, 0, 0, latents.shape[1] - 1))
        image, crops = render_pass.render(noisy)
        losses = objective.losses(image, latents, crops)
        weight_of = dict(zip(self._weighted, self._numbers[3:], strict=True))
        weighted = torch.stack([value * weight_of[term] for term, value in losses.items()])
        # The sum keeps items apart: the gradient of each is that of its own loss.
        (gradient,) = torch.autograd.grad(weighted.sum(), latents)
        if render_pass.layers not in self._free:
            rows = [_free(own, render_pass.layers, gradient[0]) for own in self._settings]
            self._free[render_pass.layers] = torch.stack(rows)
        before = self._batch.latents[:, :1].clone()
        self._batch.step(gradient, self._numbers[:3], self._free[render_pass.layers])
        # The ws of layers above the pass must not move: their offsets make up for the move of w.
        moved = before - self._batch.latents[:, :1]
        self._batch.latents[:, 1 + render_pass.layers :] += self._makes_up * moved
        return {term: value.detach() for term, value in losses.items()}

    def _waits_for_python(self) -> bool:
        """Whether a GPU is idle: it has finished the step before, and Python launches the next."""
        device = self._batch.latents.device
        return device.type == "cuda" and torch.cuda.current_stream(device).query()

    def _record(self, render_pass: RenderPass, objective: Objective) -> None:
        """Record the operations of a step as a CUDA graph, without taking the step."""
        free, total = torch.cuda.mem_get_info(self._batch.latents.device)
        if free < total * _SCARCE:
            torch.cuda.empty_cache()  # of what the recordings of earlier phases have left
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Other threads may use the device meanwhile: results are fetched in them.
            graph.capture_begin(capture_error_mode="thread_local")
            losses = self._compute(render_pass, objective)
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        self._recordings[render_pass.layers] = graph, losses


def _free(settings: GeneratorSettings, layers: int, latents: Tensor) -> Tensor:
    """1 for those of the latents `[1+l c]` that may move in a pass of so many layers, 0 for the
    others: `[1+l 1]`.
    """
    free = latents.new_ones(len(latents), 1)
    free[1 + layers :] = 0
    if settings.latents == "w":
        free[1:] = 0
    if settings.latents == "w+":
        free[0] = 0
    return free
