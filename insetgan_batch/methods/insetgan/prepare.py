"""A row → an item of the batch: where each generator starts, and what it is held to.

Files are read, decoded and checked first, in any thread (`Preparer.prepare`); latents and
references are made of them on the device when the item enters (`Preparer.start`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.data import pictures
from insetgan_batch.errors import BadInputError
from insetgan_batch.methods.insetgan import images
from insetgan_batch.methods.insetgan.nearest import Nearest
from insetgan_batch.methods.insetgan.recipe import AdaptivePsi, GeneratorSettings, Recipe
from insetgan_batch.methods.insetgan.recipe_variants import for_item
from insetgan_batch.methods.insetgan.sources import Source, of
from insetgan_batch.methods.insetgan.states import Start
from insetgan_batch.nets.detector import Detector
from insetgan_batch.nets.encoder import Encoder
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.records import Item
from insetgan_batch.text import one_line

_NO_ENCODERS: Mapping[str, Encoder] = {}
_TRIED = 8  # truncations, between the highest and the lowest
_LARGEST_BOX = 4  # times the picture's side
_SMALLEST_BOX_PX = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A row whose files are read. recipe: the item's own; sources: by generator; pictures: pixels
    `[H W 3]` in the generator's size, with (width, height) before that; latents: `[1+l c]`.
    """

    item: Item
    recipe: Recipe
    sources: dict[str, Source]
    pictures: dict[str, tuple[Tensor, tuple[int, int]]]
    latents: dict[str, Tensor]


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
        *,
        encoders: Mapping[str, Encoder] = _NO_ENCODERS,
        perceptual: Perceptual | None = None,
    ) -> None:
        """classes: by generator. perceptual: tells which seed's picture is nearest; None: by L1
        alone.
        """
        self._recipe, self._generators = recipe, generators
        self._detectors, self._classes = detectors, classes
        self._encoders, self._perceptual = encoders, perceptual
        self._nearest: dict[str, Nearest] = {}

    def prepare(self, item: Item, read: Callable[[str], bytes]) -> Prepared:
        """Read what the row names. read: URI → bytes.

        Raises `BadInputError` where the row cannot be an item, and `StorageError`.
        """
        recipe = self._recipe_of(item)
        sources = of(item.inputs, self._recipe.insets)
        pictures, latents = {}, {}
        for name, source in sources.items():
            generator, uri = self._generators[name], str(source.value)
            with _of_column(f"{name}_{source.kind}"):
                if source.kind == "image":
                    pictures[name] = _decoded(read(uri), uri, generator)
                if source.kind == "latent":
                    latents[name] = _checked_latents(read(uri), uri, generator)
        return Prepared(item, recipe, sources, pictures, latents)

    def start(self, key: str, prepared: Prepared) -> Start:
        """The item as it enters; raises `BadInputError` where the row cannot be one."""
        item, recipe, sources = prepared.item, prepared.recipe, prepared.sources
        latents, references, psi, boxes = {}, {}, {}, {}
        for name, source in sources.items():
            settings = recipe.generators[name]
            with _of_column(f"{name}_{source.kind}"):
                given = self._given(name, prepared, settings)
            latents[name], references[name], psi[name] = given.latents, given.reference, given.psi
            if settings.start == "average":
                latents[name] = self._average(name)
            if settings.start == "seed" and source.kind != "seed":
                own = Source("seed", item.seed, source.psi)
                latents[name], psi[name] = self._of_seed(name, own, settings, recipe)
                if source.kind == "average":  # nothing is given: it is held to what it starts from
                    references[name] = self._painted(name, latents[name])
            if source.box:
                with _of_column(f"{name}_box"):
                    boxes[name] = _checked_box(source.box, given.size, self._generators[name])
        pictures = tuple(
            name for name in prepared.pictures if recipe.generators[name].start == "given"
        )
        return Start(key, recipe, latents, references, boxes, psi, pictures, item.seed)

    def _recipe_of(self, item: Item) -> Recipe:
        try:
            return for_item(self._recipe, item.overrides)
        except BadInputError as err:  # it repeats the row's keys, which may hold anything
            raise BadInputError(one_line(err)) from err

    def _given(self, name: str, prepared: Prepared, settings: GeneratorSettings) -> _Given:
        """What a row gives."""
        generator, source = self._generators[name], prepared.sources[name]
        latents, psi = self._average(name), None
        if name in prepared.pictures:
            pixels, size = prepared.pictures[name]
            reference = images.from_pixels(pixels[None])[0].to(generator.device)
            if settings.start == "given":
                latents = self._encoded(name, reference, prepared.recipe)
            return _Given(latents, reference, size)
        if source.kind == "seed":
            latents, psi = self._of_seed(name, source, settings, prepared.recipe)
        if name in prepared.latents:
            latents = prepared.latents[name].to(latents)
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
        return self._generators[name].latents_of(self._nearest[name].w_of(reference))

    def _painted(self, name: str, latents: Tensor) -> Tensor:
        """The image `[3 H W]` of latents `[1+l c]`."""
        with torch.no_grad():
            generator = self._generators[name]
            return generator.synthesise(generator.ws_of(latents)[None])[0]

    def _average(self, name: str) -> Tensor:
        generator = self._generators[name]
        return generator.latents_of(generator.w_avg)

    def _of_seed(
        self, name: str, source: Source, settings: GeneratorSettings, recipe: Recipe
    ) -> tuple[Tensor, float | tuple[float, ...]]:
        """Latents `[1+l c]` of a seed, truncated, and the truncation."""
        generator = self._generators[name]
        seed = int(source.value or 0)
        w = generator.seeds_to_w([seed], 1.0, self._classes.get(name))[0]
        psi: float | tuple[float, ...] = recipe.psi
        if source.psi is not None:
            psi = source.psi
        elif settings.psi is not None:
            psi = settings.psi
        elif recipe.adaptive_psi is not None:
            psi = self._largest_psi(name, w, recipe.adaptive_psi)
        return _truncated(generator, w, psi), psi

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


def _truncated(generator: Generator, w: Tensor, psi: float | tuple[float, ...]) -> Tensor:
    """Latents `[1+l c]`: w at the mean truncation, and what each layer has more or less of it.

    Raises `BadInputError` where there is not one psi per layer.
    """
    w_avg = generator.w_avg
    if isinstance(psi, float | int):
        return generator.latents_of(w_avg + psi * (w - w_avg))
    if len(psi) != generator.num_ws:
        raise BadInputError(f"found {len(psi)} values of psi, expected 1 or {generator.num_ws}")
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


@contextlib.contextmanager
def _of_column(column: str) -> Iterator[None]:
    """What is wrong with a value names its column."""
    try:
        yield
    except BadInputError as err:
        raise BadInputError(f"column {column}: {err}") from err


def _decoded(data: bytes, uri: str, generator: Generator) -> tuple[Tensor, tuple[int, int]]:
    """An image of any size as pixels `[H W 3]` of the generator's own size; and its (width, height)
    before that.
    """
    picture = pictures.read(data, uri)
    resized = picture.resize((generator.width, generator.height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized)), picture.size


def _checked_latents(data: bytes, uri: str, generator: Generator) -> Tensor:
    """Latents `[1+l c]` from a safetensors file with `w [c]` and, optionally, `delta [l c]`."""
    tensors = _tensors(data, uri)
    if "w" not in tensors:
        raise BadInputError(
            f"{uri}: found {one_line(sorted(tensors))}, expected `w` and optionally `delta`"
        )
    latents = torch.zeros(1 + generator.num_ws, len(generator.w_avg))
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


def _tensors(data: bytes, uri: str) -> dict[str, Tensor]:
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
