"""How a moving generator's images are rendered in the steps of a phase.

A step renders no more than its losses read. In a pass of low resolution the whole images, which
the `body` and `face` losses compare, are rendered at a lower resolution of the generator, and a
canvas is rendered in full resolution only in windows around its regions. Generators that are small
enough are rendered whole in every step.

A low-resolution pass must equal the downsampled full image when the phase begins, else its losses
would begin at other values. So the difference between the two is measured once and added in every
such pass; a full-resolution pass measures it anew. Latents of the layers above the low resolution
must not move in a low-resolution pass: the losses see them in the windows only, and would improve
the windows at the cost of the rest of the image.

All passes use `Generator.low_precision`. Its error, the difference to the float32 image, is
measured when the phase begins and added to every image of the phase.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.windows import Crop, Window


@dataclasses.dataclass(frozen=True, slots=True)
class RenderPass:
    """How one step renders a generator.

    render: takes latents `[n 1+l c]`; returns images `[n 3 h w]` and, if h is below the full
    height, the full-resolution crops around the regions, by inset. layers: how many layers the
    images depend on; latents of the layers above must not move.
    """

    render: Callable[[Tensor], tuple[Tensor, dict[str, Crop]]]
    layers: int


class PhaseRenderer:
    """Renders one generator for some items during one phase.

    height: of the images of a low-resolution pass, in pixels.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        side: int,
        latents: Tensor,
        rendered: Tensor,
        regions: Mapping[str, Tensor],
    ) -> None:
        """side: the least length in pixels of the smaller side of a low-resolution image; latents
        `[n 1+l c]` when the phase begins, and the images `[n 3 H W]` rendered from them in float32;
        regions `[n 4|5]` of a canvas in its pixels, by inset.
        """
        self._generator = generator.low_precision
        self.height = generator.lowest_height(side)
        self._windows: dict[str, Window] = {}
        # float32 image - low-precision image, `[n 3 H W]`.
        self._precision_error: Tensor | None = None
        if self._generator is not generator:
            with torch.no_grad():
                self._precision_error = rendered - self._generator.synthesise(
                    generator.ws_of(latents)
                )
        if self.is_whole:
            return
        size, step = (generator.height, generator.width), generator.height // self.height
        for name, boxes in regions.items():
            self._windows[name] = Window.around(images.bounds(boxes).tolist(), size, step)
        with torch.no_grad():
            low = self._generator.synthesise(generator.ws_of(latents), upto=self.height)
        # Downsampled full image - low-resolution image, `[n 3 h w]`.
        self._resolution_error = images.downsample(rendered, self.height) - low

    @property
    def is_whole(self) -> bool:
        """Whether every step renders the full image."""
        return self.height == self._generator.height

    def full(self) -> RenderPass:
        """A pass in full resolution."""
        return RenderPass(self._render_full, self._generator.num_ws)

    def low(self) -> RenderPass:
        """A pass in low resolution."""
        return RenderPass(self._render_low, self._generator.layers(self.height))

    def _render_full(self, latents: Tensor) -> tuple[Tensor, dict[str, Crop]]:
        generator, ws = self._generator, self._generator.ws_of(latents)
        everything = Window.whole(len(ws), (generator.height, generator.width))
        if self.is_whole:
            return self._corrected(generator.synthesise(ws), everything), {}
        low, (rendered,) = generator.synthesise_crops(ws, [everything], upto=self.height)
        rendered = self._corrected(rendered, everything)
        # In place: a recorded step (`phase.py`) reads and writes the same memory each time.
        self._resolution_error.copy_((images.downsample(rendered, self.height) - low).detach())
        return rendered, {}

    def _render_low(self, latents: Tensor) -> tuple[Tensor, dict[str, Crop]]:
        windows = list(self._windows.values())
        ws = self._generator.ws_of(latents)
        low, pixels = self._generator.synthesise_crops(ws, windows, upto=self.height)
        crops = map(Crop, windows, map(self._corrected, pixels, windows))
        return low + self._resolution_error, dict(zip(self._windows, crops, strict=True))

    def _corrected(self, pixels: Tensor, window: Window) -> Tensor:
        """Low-precision pixels of a window plus their error when the phase began."""
        error = self._precision_error
        return pixels if error is None else pixels + window.crop(error)
