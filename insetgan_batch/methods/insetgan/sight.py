"""What is painted of a moving generator's picture in a step: as much as its losses look at.

In a step of low resolution whole pictures (`body`, `face`) are compared at a lower resolution, and
a canvas is painted in full resolution only in windows around its regions. Small generators are
painted whole in every step.

What the resolutions above add to the lower one is held as it was when a whole picture was painted
last: so a term begins at its true value, whatever the reference is a picture of. Latents of the
layers above must not move in such a step: they would buy a seam in the windows with all that nobody
looks at. What has changed all the same, since the layers above paint from features that have moved,
is seen by the steps in full resolution in between.

Steps paint drafts (`Generator.draft`). What these lack of the true pictures is held in the same
way, as it was when the phase began.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.windows import Cutting, Window


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """How a step looks at a generator.

    paint: latents `[n 1+l c]` to pictures `[n 3 h w]`, and where these are of a lower resolution,
    what the whole ones show around the regions, by inset. layers: so many are seen; others must not
    move.
    """

    paint: Callable[[Tensor], tuple[Tensor, dict[str, Cutting]]]
    layers: int


class Sight:
    """The pictures of one generator in one phase.

    height: at which a step of low resolution paints whole ones.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        side: int,
        latents: Tensor,
        pictures: Tensor,
        regions: Mapping[str, Tensor],
    ) -> None:
        """side: the least that the smaller side of a picture has, in pixels; pictures `[n 3 H W]`
        of latents `[n 1+l c]`, as the phase begins; regions `[n 4|5]` of a canvas, by inset.
        """
        self._draft = generator.draft
        self.height = generator.lowest_height(side)
        self._windows: dict[str, Window] = {}
        self._lacking: Tensor | None = None
        if self._draft is not generator:
            with torch.no_grad():
                self._lacking = pictures - self._draft.synthesise(_ws(latents))
        if self.is_whole:
            return
        size, step = (generator.height, generator.width), generator.height // self.height
        for name, boxes in regions.items():
            self._windows[name] = Window.around(images.bounds(boxes).tolist(), size, step)
        with torch.no_grad():
            low = self._draft.synthesise(_ws(latents), upto=self.height)
        self._above = images.downsample(pictures, self.height) - low

    @property
    def is_whole(self) -> bool:
        """Whether pictures are painted whole in every step."""
        return self.height == self._draft.height

    def full(self) -> Look:
        """A step in full resolution."""
        return Look(self._paint_full, self._draft.num_ws)

    def low(self) -> Look:
        """A step in low resolution."""
        return Look(self._paint_low, self._draft.layers(self.height))

    def _paint_full(self, latents: Tensor) -> tuple[Tensor, dict[str, Cutting]]:
        draft, ws = self._draft, _ws(latents)
        everything = Window.whole(len(ws), (draft.height, draft.width))
        if self.is_whole:
            return self._made_up(draft.synthesise(ws), everything), {}
        low, (pictures,) = draft.look(ws, [everything], upto=self.height)
        pictures = self._made_up(pictures, everything)
        # In place: a recorded step (`phase.py`) reads and writes the same memory each time.
        self._above.copy_((images.downsample(pictures, self.height) - low).detach())
        return pictures, {}

    def _paint_low(self, latents: Tensor) -> tuple[Tensor, dict[str, Cutting]]:
        windows = list(self._windows.values())
        low, drafts = self._draft.look(_ws(latents), windows, upto=self.height)
        pieces = map(self._made_up, drafts, windows)
        cuttings = map(Cutting, windows, pieces)
        return low + self._above, dict(zip(self._windows, cuttings, strict=True))

    def _made_up(self, pixels: Tensor, window: Window) -> Tensor:
        """What drafts show in a window, with what they lack."""
        return pixels if self._lacking is None else pixels + window.cut(self._lacking)


def _ws(latents: Tensor) -> Tensor:
    """ws = w + delta."""
    return latents[:, :1] + latents[:, 1:]
