"""A phase: one generator of some items takes all of its steps, and everything else stands still.

What changes from step to step are numbers that are known before: step sizes, weights, noise. They
are brought to the device once for the whole phase, so that no step waits for anything. On a GPU
that is done with a step before Python has described it, the steps that follow are recorded once (a
CUDA graph) and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.methods.insetgan.adam import MovingBatch, MovingLatents
from insetgan_batch.methods.insetgan.objective import Objective, Terms
from insetgan_batch.methods.insetgan.sight import Look
from insetgan_batch.recipe import Player

Weights = Mapping[str, float]
_SCARCE = 0.5  # of the memory: a step that is being recorded cannot make room for itself


class Phase:
    """The steps of one generator; each item moves by its own losses, weights and step sizes."""

    def __init__(
        self,
        moving: Sequence[MovingLatents],
        players: Sequence[Player],
        *,
        rates: Sequence[Sequence[float]],
        weights: Sequence[Sequence[Weights]],
        noise: Tensor | None,
    ) -> None:
        """Of each item in each step: rates and weights (`[n][steps]`); noise that w has while it is
        looked at, `[steps n c]`.
        """
        self._moving, self._players = moving, players
        self._batch = MovingBatch(moving)
        self._names = list(weights[0][0])
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
        # By the number of layers that are seen, which says which kind of step it is.
        self._free: dict[int, Tensor] = {}
        self._makes_up = latents.new_tensor(
            [[[float(player.latents == "w+delta")]] for player in players]
        )
        self._recordings: dict[int, tuple[torch.cuda.CUDAGraph, Terms]] = {}
        self._history: list[Tensor] = []
        self.terms: list[str] = []

    @property
    def latents(self) -> Tensor:
        """`[n 1+l c]` as they stand."""
        return self._batch.latents

    def step(self, look: Look, objective: Objective) -> None:
        """Take the next step, by what the objective says of what is seen."""
        number = len(self._history)
        self._numbers.copy_(self._table[number])
        if self._noise is not None and self._w_noise is not None:
            self._w_noise.copy_(self._noise[number])
        is_first = look.layers not in self._free
        if not (is_first or look.layers in self._recordings) and self._waits_for_python():
            self._record(look, objective)
        if look.layers in self._recordings:
            graph, terms = self._recordings[look.layers]
            graph.replay()
        else:
            terms = self._compute(look, objective)
        self.terms = list(terms)
        self._history.append(torch.stack(list(terms.values())))

    def end(self) -> Tensor:
        """Hand the latents back; the raw losses before each step, `[steps terms n]`."""
        self._batch.hand_back(self._moving, len(self._history))
        return torch.stack(self._history)

    def _compute(self, look: Look, objective: Objective) -> Terms:
        """One step; returns the raw losses before it."""
        latents = self._batch.latents.detach().requires_grad_(True)
        seen = latents
        if self._w_noise is not None:
            seen = latents + F.pad(self._w_noise[:, None], (0, 0, 0, latents.shape[1] - 1))
        image, cuttings = look.paint(seen)
        terms = objective.terms(image, latents, cuttings)
        by_name = dict(zip(self._names, self._numbers[3:], strict=True))
        weighted = torch.stack([value * by_name[term] for term, value in terms.items()])
        # The sum keeps items apart: the gradient of each is that of its own loss.
        (gradient,) = torch.autograd.grad(weighted.sum(), latents)
        if look.layers not in self._free:
            rows = [_free(player, look.layers, gradient[0]) for player in self._players]
            self._free[look.layers] = torch.stack(rows)
        before = self._batch.latents[:, :1].clone()
        self._batch.step(gradient, self._numbers[:3], self._free[look.layers])
        # What is not seen stays as it is: its offsets make up for what w has moved.
        moved = before - self._batch.latents[:, :1]
        self._batch.latents[:, 1 + look.layers :] += self._makes_up * moved
        return {term: value.detach() for term, value in terms.items()}

    def _waits_for_python(self) -> bool:
        """Whether the device has nothing left to do, though it was given a step a moment ago."""
        device = self._batch.latents.device
        return device.type == "cuda" and torch.cuda.current_stream(device).query()

    def _record(self, look: Look, objective: Objective) -> None:
        """Record a step without taking it."""
        free, total = torch.cuda.mem_get_info(self._batch.latents.device)
        if free < total * _SCARCE:
            torch.cuda.empty_cache()  # of what the recordings of earlier phases have left
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Other threads may use the device meanwhile: results are fetched in them.
            graph.capture_begin(capture_error_mode="thread_local")
            terms = self._compute(look, objective)
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        self._recordings[look.layers] = graph, terms


def _free(player: Player, layers: int, latents: Tensor) -> Tensor:
    """1 for the latents `[1+l c]` that a player may move when it sees so many layers, 0 for the
    others: `[1+l 1]`.
    """
    free = latents.new_ones(len(latents), 1)
    free[1 + layers :] = 0
    if player.latents == "w":
        free[1:] = 0
    if player.latents == "w+":
        free[0] = 0
    return free
