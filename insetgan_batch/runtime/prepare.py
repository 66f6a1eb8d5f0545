"""A leased row → an item of the batch: where each generator starts, and what it is held to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.data import inputs, pictures
from insetgan_batch.data.storage import within
from insetgan_batch.errors import BadInputError, RefusedError
from insetgan_batch.inset import images
from insetgan_batch.inset.nearest import Nearest
from insetgan_batch.inset.states import Start
from insetgan_batch.nets.detector import Detector
from insetgan_batch.nets.encoder import Encoder
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.recipe import CANVAS, AdaptivePsi, Player, Recipe, for_item
from insetgan_batch.records import Item, Lease, Source
from insetgan_batch.text import one_line

_NO_ENCODERS: Mapping[str, Encoder] = {}
_TRIED = 8  # truncations, between the highest and the lowest
_LARGEST_BOX = 4  # times the picture's side
_SMALLEST_BOX_PX = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Given:
    """What a row gives one generator: latents `[1+l c]`, the image `[3 H W]` that it is held to,
    and the truncation. size: width and height in pixels of the picture that a box is in.
    """

    latents: Tensor
    reference: Tensor
    size: tuple[int, int]
    psi: Any = None


class Preparer:
    """Makes items of rows. By name: generators, what finds their part in an image, if anything does
    (a list for the canvas, one detector per kind of inset), and what finds latents for pictures.
    """

    def __init__(
        self,
        recipe: Recipe,
        generators: Mapping[str, Generator],
        detectors: Mapping[str, list[Detector]],
        classes: Mapping[str, int],
        roots: Sequence[str] = (),
        *,
        encoders: Mapping[str, Encoder] = _NO_ENCODERS,
        perceptual: Perceptual | None = None,
    ) -> None:
        """classes: by generator. roots: what rows may read from (`storage.within`); empty for
        anything. perceptual: tells which seed's picture is nearest; None: by L1 alone.
        """
        self._recipe, self._generators = recipe, generators
        self._detectors, self._classes, self._roots = detectors, classes, roots
        self._encoders, self._perceptual = encoders, perceptual
        self._nearest: dict[str, Nearest] = {}

    def start(self, lease: Lease) -> Start:
        """The item of a row; raises `BadInputError` where the row cannot be one, and
        `StorageError`.
        """
        item = lease.item
        recipe = self._recipe_of(item)
        sources = {CANVAS: item.canvas, **item.insets}
        latents, references, psi, boxes = {}, {}, {}, {}
        for name, source in sources.items():
            player = recipe.players[name]
            try:
                given = self._given(name, self._confined(source), player, recipe)
            except BadInputError as err:
                raise BadInputError(f"column {name}_{source.kind}: {err}") from err
            latents[name], references[name], psi[name] = given.latents, given.reference, given.psi
            if player.start == "average":
                latents[name] = self._average(name)
            if player.start == "seed" and source.kind != "seed":
                own = Source("seed", item.seed, source.psi)
                latents[name], psi[name] = self._of_seed(name, own, player, recipe)
                if source.kind == "average":  # nothing is given: it is held to what it starts from
                    references[name] = self._painted(name, latents[name])
            if source.box:
                try:
                    boxes[name] = _checked_box(source.box, given.size, self._generators[name])
                except BadInputError as err:
                    raise BadInputError(f"column {name}_box: {err}") from err
        pictures = tuple(
            name
            for name, source in sources.items()
            if source.kind == "image" and recipe.players[name].start == "given"
        )
        return Start(lease.attempt, recipe, latents, references, boxes, psi, pictures, item.seed)

    def _confined(self, source: Source) -> Source:
        """The same with the file that its URI leads to; `BadInputError` outside the roots."""
        if not self._roots or source.kind not in ("image", "latent"):
            return source
        try:
            return dataclasses.replace(source, value=within(str(source.value), self._roots))
        except RefusedError as err:
            raise BadInputError(one_line(err)) from err

    def _recipe_of(self, item: Item) -> Recipe:
        try:
            return for_item(self._recipe, item.overrides)
        except BadInputError as err:  # it repeats the row's keys, which may hold anything
            raise BadInputError(one_line(err)) from err

    def _given(self, name: str, source: Source, player: Player, recipe: Recipe) -> _Given:
        """What a row gives."""
        generator = self._generators[name]
        if source.kind == "image":
            reference, size = _read_reference(str(source.value), generator)
            is_inverted = player.start == "given"
            latents = self._encoded(name, reference, recipe) if is_inverted else self._average(name)
            return _Given(latents, reference, size)
        latents, psi = self._average(name), None
        if source.kind == "seed":
            latents, psi = self._of_seed(name, source, player, recipe)
        if source.kind == "latent":
            latents = _read_latents(str(source.value), latents)
        size = (generator.width, generator.height)
        return _Given(latents, self._painted(name, latents), size, psi)

    def _encoded(self, name: str, reference: Tensor, recipe: Recipe) -> Tensor:
        """Latents `[1+l c]` to begin the inversion of a picture `[3 H W]` with."""
        how = recipe.inversion
        if how.start == "encoder" and name in self._encoders:
            return self._encoders[name].encode(reference[None])[0]
        if how.start == "average":
            return self._average(name)
        if name not in self._nearest:
            self._nearest[name] = Nearest(
                self._generators[name], self._perceptual, how.tries, self._classes.get(name)
            )
        w = self._nearest[name].w_of(reference)
        return torch.cat([w[None], w.new_zeros(self._generators[name].num_ws, len(w))])

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


def _checked_box(
    box: tuple[float, float, float, float], size: tuple[int, int], generator: Generator
) -> Box:
    """The row's box, which is in pixels of a picture of that size, in pixels of the generator.

    Raises `BadInputError` for one that no part can be in.
    """
    width, height = size
    x0, y0, x1, y1 = box
    picture = f"{list(box)} in a picture of {width} x {height} pixels"
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise BadInputError(f"{picture} lies outside; expected [x0, y0, x1, y1] in its pixels")
    if x1 - x0 > _LARGEST_BOX * width or y1 - y0 > _LARGEST_BOX * height:
        raise BadInputError(
            f"{picture} is too large; expected sides of at most {_LARGEST_BOX} times the picture's"
        )
    across, down = generator.width / width, generator.height / height
    scaled = Box(x0 * across, y0 * down, x1 * across, y1 * down)
    if min(scaled.width, scaled.height) < _SMALLEST_BOX_PX:
        raise BadInputError(
            f"{picture} is too small: less than a pixel of the generator's"
            f" {generator.width} x {generator.height}"
        )
    return scaled


def _read_reference(uri: str, generator: Generator) -> tuple[Tensor, tuple[int, int]]:
    """An image of any size as the generator's own size, `[3 H W]` in -1..1; and its (width, height)
    before that.
    """
    picture = pictures.read(inputs.read(uri), uri)
    resized = picture.resize((generator.width, generator.height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(resized))[None]
    return images.from_pixels(pixels)[0].to(generator.device), picture.size


def _read_latents(uri: str, like: Tensor) -> Tensor:
    """Latents `[1+l c]` from a safetensors file with `w [c]` and, optionally, `delta [l c]`."""
    tensors = _read_tensors(uri)
    if "w" not in tensors:
        raise BadInputError(
            f"{uri}: found {one_line(sorted(tensors))}, expected `w` and optionally `delta`"
        )
    latents = torch.zeros_like(like)
    for name, rows in (("w", latents[0]), ("delta", latents[1:])):
        if name not in tensors:
            continue
        tensor = tensors[name]
        if tensor.shape != rows.shape:
            found = one_line(list(tensor.shape))
            raise BadInputError(f"{uri}: `{name}` has shape {found}, expected {list(rows.shape)}")
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise BadInputError(f"{uri}: `{name}` is {kind}, expected float32, or 16 or 64 bits")
        rows.copy_(tensor)
        if not rows.isfinite().all():
            raise BadInputError(f"{uri}: `{name}` holds NaN or infinity, expected finite numbers")
    return latents


def _read_tensors(uri: str) -> dict[str, Tensor]:
    data = inputs.read(uri)
    try:
        return safetensors.torch.load(data)
    except (
        safetensors.SafetensorError,
        LookupError,
        RuntimeError,
        OverflowError,
        ValueError,
        TypeError,
        AttributeError,
    ) as err:
        raise BadInputError(f"{uri}: not a safetensors file ({one_line(err)})") from err
