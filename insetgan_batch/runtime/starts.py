"""A leased row → an item of the batch: where each generator starts, and what it is held to."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.data import manifest
from insetgan_batch.data.storage import read_uri
from insetgan_batch.errors import BadInputError, NotFoundError, RefusedError
from insetgan_batch.inset import images
from insetgan_batch.inset.states import Start
from insetgan_batch.nets.detector import Detector
from insetgan_batch.nets.generator import Generator
from insetgan_batch.recipe import CANVAS, AdaptivePsi, Player, Recipe, for_item
from insetgan_batch.records import Lease, Source

_TRIED = 8  # truncations, between the highest and the lowest


class Starts:
    """Makes items of rows. By name: generators, and what finds their part in an image, if anything
    does: a list for the canvas, one detector per kind of inset.
    """

    def __init__(
        self,
        recipe: Recipe,
        generators: Mapping[str, Generator],
        detectors: Mapping[str, list[Detector]],
        classes: Mapping[str, int],
    ) -> None:
        self._recipe, self._generators = recipe, generators
        self._detectors, self._classes = detectors, classes

    def start(self, lease: Lease) -> Start:
        """The item of a row; raises `BadInputError` where the row cannot be one, and
        `StorageError`.
        """
        item = lease.item
        recipe = for_item(self._recipe, item.overrides)
        sources = {CANVAS: item.canvas, **item.insets}
        latents, references, psi = {}, {}, {}
        for name, source in sources.items():
            player = recipe.players[name]
            try:
                given, references[name], psi[name] = self._given(name, source, player, recipe)
            except BadInputError as err:
                raise BadInputError(f"column {name}_{source.kind}: {err}") from err
            latents[name] = given
            if player.start == "average":
                latents[name] = self._average(name)
            if player.start == "seed" and source.kind != "seed":
                own = Source("seed", item.seed, source.psi)
                latents[name], psi[name] = self._of_seed(name, own, player, recipe)
                if source.kind == "average":  # nothing is given: it is held to what it starts from
                    references[name] = self._painted(name, latents[name])
        boxes = {name: Box(*source.box) for name, source in sources.items() if source.box}
        return Start(lease.attempt, recipe, latents, references, boxes, psi)

    def _given(
        self, name: str, source: Source, player: Player, recipe: Recipe
    ) -> tuple[Tensor, Tensor, Any]:
        """What a row gives: latents `[1+l c]`, the image that they paint `[3 H W]`, and psi.

        An image is only held to: its latents start at the average, since nothing inverts images
        yet.
        """
        generator = self._generators[name]
        if source.kind == "image":
            return self._average(name), _read_reference(str(source.value), generator), None
        latents, psi = self._average(name), None
        if source.kind == "seed":
            latents, psi = self._of_seed(name, source, player, recipe)
        if source.kind == "latent":
            latents = _read_latents(str(source.value), latents)
        return latents, self._painted(name, latents), psi

    def _painted(self, name: str, latents: Tensor) -> Tensor:
        """The image `[3 H W]` of latents `[1+l c]`."""
        with torch.no_grad():
            return self._generators[name].synthesise((latents[:1] + latents[1:])[None])[0]

    def _average(self, name: str) -> Tensor:
        generator = self._generators[name]
        offsets = generator.w_avg.new_zeros(generator.num_ws, len(generator.w_avg))
        return torch.cat([generator.w_avg[None], offsets])

    def _of_seed(
        self, name: str, source: Source, player: Player, recipe: Recipe
    ) -> tuple[Tensor, float | tuple[float, ...]]:
        """Latents `[1+l c]` of a seed, truncated, and the truncation."""
        generator = self._generators[name]
        seed = int(source.value or 0)
        w = generator.seeds_to_w([seed], 1.0, self._classes.get(name))[0]
        psi: float | tuple[float, ...] = recipe.psi
        if source.psi is not None:
            psi = source.psi
        elif player.psi is not None:
            psi = player.psi
        elif recipe.adaptive_psi is not None:
            psi = self._largest_psi(name, w, recipe.adaptive_psi)
        return _truncated(w, generator.w_avg, psi, generator.num_ws), psi

    def _largest_psi(self, name: str, w: Tensor, adaptive: AdaptivePsi) -> float:
        """The largest of the truncations that passes the test; the lowest where none does."""
        generator = self._generators[name]
        tried: list[float] = torch.linspace(adaptive.highest, adaptive.lowest, _TRIED).tolist()
        offset = w - generator.w_avg
        if adaptive.test == "distance":
            distance = float(offset.square().mean())
            passed = [psi * psi * distance <= adaptive.threshold for psi in tried]
        else:
            factors = torch.tensor(tried, device=w.device)[:, None, None]
            ws = (generator.w_avg + factors * offset).expand(-1, generator.num_ws, -1)
            with torch.no_grad():
                pixels = images.to_pixels(generator.synthesise(ws))
            found = [detector.find(pixels) for detector in self._detectors.get(name, [])]
            passed = [all(boxes[i] is not None for boxes in found) for i in range(_TRIED)]
        return next((psi for psi, is_good in zip(tried, passed, strict=True) if is_good), tried[-1])


def _truncated(w: Tensor, w_avg: Tensor, psi: float | tuple[float, ...], num_ws: int) -> Tensor:
    """Latents `[1+l c]`: w at the mean truncation, and what each layer has more or less of it.

    Raises `BadInputError` where there is not one psi per layer.
    """
    if isinstance(psi, float | int):
        moved = w_avg + psi * (w - w_avg)
        return torch.cat([moved[None], w.new_zeros(num_ws, len(w))])
    if len(psi) != num_ws:
        raise BadInputError(f"found {len(psi)} values of psi, expected 1 or {num_ws}")
    layers = w.new_tensor(psi)
    mean = layers.mean()
    return torch.cat([(w_avg + mean * (w - w_avg))[None], (layers - mean)[:, None] * (w - w_avg)])


def _read_reference(uri: str, generator: Generator) -> Tensor:
    """An image of any size as the generator's own size, `[3 H W]` in -1..1."""
    try:
        with Image.open(io.BytesIO(_read_input(uri))) as picture:
            resized = picture.convert("RGB").resize(
                (generator.width, generator.height), Image.Resampling.LANCZOS
            )
    except manifest.BROKEN_IMAGE as err:
        raise BadInputError(f"{uri}: not an image that can be read ({err})") from err
    return images.from_pixels(torch.from_numpy(np.array(resized))[None])[0].to(generator.device)


def _read_latents(uri: str, like: Tensor) -> Tensor:
    """Latents `[1+l c]` from a safetensors file with `w [c]` and, optionally, `delta [l c]`."""
    try:
        tensors = safetensors.torch.load(_read_input(uri))
    except (safetensors.SafetensorError, LookupError, RuntimeError, OverflowError) as err:
        raise BadInputError(f"{uri}: not a safetensors file ({err})") from err
    latents = torch.zeros_like(like)
    for name, rows in (("w", latents[0]), ("delta", latents[1:])):
        if name in tensors:
            if tensors[name].shape != rows.shape:
                raise BadInputError(
                    f"{uri}: `{name}` has shape {list(tensors[name].shape)},"
                    f" expected {list(rows.shape)}"
                )
            rows.copy_(tensors[name])
        elif name == "w":
            raise BadInputError(
                f"{uri}: found {sorted(tensors)}, expected `w` and optionally `delta`"
            )
    return latents


def _read_input(uri: str) -> bytes:
    try:
        return read_uri(uri)
    except (NotFoundError, RefusedError) as err:
        raise BadInputError(str(err)) from err
