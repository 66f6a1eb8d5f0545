"""What is painted of a moving generator's picture in a step: as much as its losses look at.

Whole pictures (`body`, `face`) are compared at a lower resolution; a canvas is painted in full
resolution only in windows around its regions. Small generators are painted whole.

What the resolutions above add to the lower one is held as it was when the phase began, when the
whole picture was painted: so a term begins at its true value, whatever the reference is a picture
of. Latents of the layers above must not move then: they would buy a seam in the windows with all
that nobody looks at (a montage of the demo's generators with them free changed the body 100 times
as much). What has changed all the same is seen by the steps that look at everything: at the end of
the schedule, since mending it takes fewer of them there than at the end of every phase.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from insetgan_batch.inset import images
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.windows import Window


class Sight:
    """The pictures of one generator in one part of a phase.

    height: at which whole ones are painted. seen: layers that these are painted with; others must
    not move.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        side: int,
        latents: Tensor,
        pictures: Tensor,
        regions: Mapping[str, Tensor],
        resolution: int,
    ) -> None:
        """side: the least that the smaller side of a picture has, in pixels; pictures `[n 3 H W]`
        of latents `[n 1+l c]`, as they are; regions `[n 4|5]` of a canvas, by inset, cut
        out at `resolution`.
        """
        self._generator, self._resolution = generator, resolution
        self.height = generator.lowest_height(side)
        self.seen = generator.num_ws if self.is_whole else generator.layers(self.height)
        self._windows: list[Window] = []
        self._regions: dict[str, Tensor] = {}
        if self.is_whole:
            return
        size, step = (generator.height, generator.width), generator.height // self.height
        for name, boxes in regions.items():
            window = Window.around(images.bounds(boxes).tolist(), size, step)
            corners = boxes.new_tensor([[left, top] * 2 for top, left in window.corners])
            self._windows.append(window)
            self._regions[name] = torch.cat([boxes[:, :4] - corners, boxes[:, 4:]], dim=1)
        with torch.no_grad():
            low = generator.synthesise(_ws(latents), upto=self.height)
        self._above = images.downsample(pictures, self.height) - low

    @property
    def is_whole(self) -> bool:
        """Whether pictures are painted whole, in full resolution."""
        return self.height == self._generator.height

    def __call__(self, latents: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures `[n 3 h w]` of latents `[n 1+l c]`, and the regions `[n 3 r r]` that were
        painted in windows, by inset.
        """
        ws = _ws(latents)
        if self.is_whole:
            return self._generator.synthesise(ws), {}
        low, cuttings = self._generator.look(ws, self._windows, upto=self.height)
        size = (self._resolution, self._resolution)
        crops = {
            name: images.resample(cutting, boxes, size)
            for (name, boxes), cutting in zip(self._regions.items(), cuttings, strict=True)
        }
        return low + self._above, crops


def _ws(latents: Tensor) -> Tensor:
    """ws = w + delta."""
    return latents[:, :1] + latents[:, 1:]
