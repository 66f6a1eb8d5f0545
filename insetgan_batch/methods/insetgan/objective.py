"""The losses of a generator while it moves (InsetGAN, section 3.3), as functions of its image.

An objective is made when a phase begins. All that stands still in the phase (the other generators'
images, the references, and their features) is computed then; `losses` costs the moving image only.
Losses are raw, `[n]` with one value per item; a distance with weight 0 in every item is not
computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Protocol

import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images
from insetgan_batch.methods.insetgan.image_terms import (
    ImageTerms,
    Losses,
    PictureTerm,
    RegionTerm,
    latent_terms,
)
from insetgan_batch.methods.insetgan.likeness import face_resampler
from insetgan_batch.methods.insetgan.recipe import CANVAS
from insetgan_batch.methods.insetgan.seam import SeamTerm
from insetgan_batch.methods.insetgan.terms import Term
from insetgan_batch.nets.identity import Identity
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.nets.windows import Crop, Window

Crops = Mapping[str, Crop]
_NONE: Mapping[str, Tensor] = {}
_NO_CROPS: Crops = {}
# The canvas' `body` loss leaves out so much around a mask, in pixels of the region.
_MARGIN_PX = 2


class Objective(Protocol):
    """A moving generator's losses."""

    def losses(self, image: Tensor, latents: Tensor, crops: Crops = _NO_CROPS) -> Losses:
        """Raw losses `[n]` of images `[n 3 h w]` painted from latents `[n 1+l c]`.

        h: the objective's height. crops: by inset, the full-resolution pixels around its region,
        where h is below the canvas' full height.
        """
        ...


class CanvasObjective:
    """The losses of the canvas: of every inset's region against that inset, of the body outside of
    the regions against the reference, of the latents.
    """

    def __init__(
        self,
        *,
        wanted: Set[Term],
        perceptual: Perceptual,
        reference: Tensor,
        insets: Mapping[str, Tensor],
        regions: Mapping[str, Tensor],
        w_avg: Tensor,
        resolution: int,
        coarse_size: int,
        inversion_size: int,
        masks: Mapping[str, Tensor] = _NONE,
        height: int | None = None,
    ) -> None:
        """By inset: insets, their images `[n 3 h w]`; regions `[n 4|5]` in canvas pixels; masks
        `[n 1 h w]` of those whose part alone will be pasted. reference `[n 3 H W]`; resolution,
        coarse_size: in pixels, as in `Recipe`; inversion_size: of `PictureTerm`; height: in pixels,
        at which the body is compared, None for the reference's own.
        """
        size = (reference.shape[2], reference.shape[3])
        self._regions, self._w_avg, self._resolution = regions, w_avg, resolution
        self._resamplers: dict[tuple[str, Window], images.Resampler] = {}
        outside = torch.ones_like(reference[:, :1])
        self._insets, self._region_terms, self._seams = insets, {}, {}
        for name, image in insets.items():
            if Term(name, "seam") in wanted:
                self._seams[name] = SeamTerm(regions[name], size, masks.get(name))
            left = 1 - images.box_mask(regions[name], size)
            part = None
            if name in masks:
                part = images.downsample(masks[name], resolution)
                beside = 1 - images.dilate(part, _MARGIN_PX)  # resampled it is still 0 in the part
                left = left + images.spread(beside, regions[name], size)
            outside = outside * left
            self._region_terms[name] = RegionTerm(
                name,
                wanted,
                perceptual,
                images.downsample(image, resolution),
                on_canvas(regions[name], size, resolution),
                coarse_size,
                part,
            )
        outside, reference = (images.downsample(x, height or size[0]) for x in (outside, reference))
        self._body = ImageTerms({Term(CANVAS, "body"): outside}, wanted, perceptual, reference)
        self._picture = PictureTerm(CANVAS, wanted, perceptual, reference, inversion_size)

    def losses(self, image: Tensor, latents: Tensor, crops: Crops = _NO_CROPS) -> Losses:
        """Raw losses `[n]` of canvases `[n 3 h w]` painted from latents `[n 1+l c]`."""
        losses = self._body(image) | latent_terms(CANVAS, latents, self._w_avg)
        losses |= self._picture(image)
        whole = Crop.whole(image)
        for name, term in self._region_terms.items():
            crop = crops.get(name, whole)
            losses |= term(self._resampler(name, crop.window)(crop.pixels))
            if name in self._seams:
                losses[Term(name, "seam")] = self._seams[name](crop, self._insets[name])
        return losses

    def _resampler(self, name: str, window: Window) -> images.Resampler:
        """Crops an inset's region out of a window's pixels."""
        if (name, window) not in self._resamplers:
            size = (self._resolution, self._resolution)
            self._resamplers[name, window] = images.Resampler(
                window.boxes(self._regions[name]), size
            )
        return self._resamplers[name, window]


class InsetObjective:
    """The losses of an inset: of its image against its region of the canvas, of the face inside its
    box against the reference, of the latents.
    """

    def __init__(
        self,
        name: str,
        *,
        wanted: Set[Term],
        perceptual: Perceptual,
        reference: Tensor,
        box: Tensor,
        canvas: Tensor,
        region: Tensor,
        w_avg: Tensor,
        resolution: int,
        coarse_size: int,
        inversion_size: int,
        mask: Tensor | None = None,
        faces: Identity | None = None,
        height: int | None = None,
    ) -> None:
        """reference `[n 3 h w]` and box `[n 4|5]` of the inset, in its pixels; canvas `[n 3 H W]`
        and region `[n 4|5]` on it; resolution, coarse_size: in pixels, as in `Recipe`;
        inversion_size: of `PictureTerm`; mask `[n 1 h w]` where the part alone will be pasted;
        faces: for the `identity` loss; height: in pixels, at which the face is compared, None for
        the reference's own.
        """
        self._name, self._w_avg, self._resolution = name, w_avg, resolution
        size = (canvas.shape[2], canvas.shape[3])
        self._region = RegionTerm(
            name,
            wanted,
            perceptual,
            crop_region(canvas, region, resolution),
            on_canvas(region, size, resolution),
            coarse_size,
            None if mask is None else images.downsample(mask, resolution),
        )
        self._canvas = Crop.whole(canvas)
        self._seam = SeamTerm(region, size, mask) if Term(name, "seam") in wanted else None
        inside = images.box_mask(box, (reference.shape[2], reference.shape[3]))
        if mask is not None:
            inside = images.dilate(mask, -images.border_width(mask.shape[2]))
        self._identity = faces if Term(name, "identity") in wanted else None
        if self._identity is not None:
            self._box, self._height = box, reference.shape[2]
            self._faces: dict[int, images.Resampler] = {}  # by the height of pictures
            self._known = self._identity.embed(self._face_of(reference))
        height = height or reference.shape[2]
        inside, reference = (images.downsample(x, height) for x in (inside, reference))
        self._face = ImageTerms({Term(name, "face"): inside}, wanted, perceptual, reference)
        self._picture = PictureTerm(name, wanted, perceptual, reference, inversion_size)

    def losses(self, image: Tensor, latents: Tensor, crops: Crops = _NO_CROPS) -> Losses:
        """Raw losses `[n]` of insets `[n 3 h w]` painted from latents `[n 1+l c]`."""
        losses = (
            self._region(images.downsample(image, self._resolution))
            | self._face(image)
            | self._picture(image)
            | latent_terms(self._name, latents, self._w_avg)
        )
        if self._seam is not None:
            losses[Term(self._name, "seam")] = self._seam(self._canvas, image)
        if self._identity is not None:
            embedded = self._identity.embed(self._face_of(image))
            losses[Term(self._name, "identity")] = 1 - (embedded * self._known).sum(dim=1)
        return losses

    def _face_of(self, image: Tensor) -> Tensor:
        height = image.shape[2]
        if height not in self._faces:
            scale = height / self._height
            box = torch.cat([self._box[:, :4] * scale, self._box[:, 4:]], dim=1)
            self._faces[height] = face_resampler(box)
        return self._faces[height](image)


def crop_region(canvas: Tensor, region: Tensor, resolution: int) -> Tensor:
    """The regions of canvases at the working resolution, `[n 3 r r]`."""
    return images.resample(canvas, region, (resolution, resolution))


def on_canvas(region: Tensor, size: tuple[int, int], resolution: int) -> Tensor:
    """1 where a pixel of the cropped region lies on the canvas, 0 beyond its edge: `[n 1 r r]`."""
    frame = images.frame_in_crop(size, region, (resolution, resolution))
    return images.box_mask(frame, (resolution, resolution))
