"""The losses of one image against a target that stands still, and of latents.

Each object computes the target's side once, when a phase begins; a call then costs the moving image
only. It returns raw losses, one value per item, of the terms that are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from insetgan_batch.methods.insetgan import images, losses
from insetgan_batch.methods.insetgan.terms import Term
from insetgan_batch.nets.perceptual import Features, Perceptual

Losses = dict[Term, Tensor]
_LPIPS_SIDE_PX = 32  # AlexNet's features need so many


class ImageTerms:
    """L1, L2 and LPIPS of an image to a target that stands still, under one mask or several.

    One pass computes the features under all masks: the network is small, and launching its kernels
    takes longer than a second image.
    """

    def __init__(
        self,
        masks: Mapping[Term, Tensor],
        wanted: Set[Term],
        perceptual: Perceptual,
        target: Tensor,
    ) -> None:
        """masks `[n|1 1 h w]`: by term, without a distance; wanted: the terms with a weight.

        target: `[n 3 h w]`.
        """
        self._masks, self._wanted = masks, wanted
        self._perceptual = perceptual
        self._target = target
        self._with_lpips = [term for term in masks if term.of("lpips") in wanted]
        # LPIPS is a mean over the picture; divided by the mask's share of it, over the mask's area.
        shares = [masks[term].mean(dim=(1, 2, 3)) for term in self._with_lpips]
        self._shares = [torch.where(share > 0, share, 1.0) for share in shares]
        self._features: Features = []
        if self._with_lpips:
            with torch.no_grad():
                self._features = perceptual.features(self._masked(target))

    def __call__(self, image: Tensor) -> Losses:
        """The wanted distances of images `[n 3 h w]`, `[n]` each."""
        found = {}
        for term, mask in self._masks.items():
            if term.of("l1") in self._wanted:
                found[term.of("l1")] = losses.masked_l1(image, self._target, mask)
            if term.of("l2") in self._wanted:
                found[term.of("l2")] = losses.masked_l2(image, self._target, mask)
        if self._with_lpips:
            distances = self._perceptual.distance_to(self._masked(image), self._features)
            rows = distances.view(len(self._with_lpips), len(image))
            for term, row, share in zip(self._with_lpips, rows, self._shares, strict=True):
                found[term.of("lpips")] = row / share
        return found

    def _masked(self, image: Tensor) -> Tensor:
        """The image under every mask whose features are wanted, `[m*n 3 h w]`."""
        return torch.cat([image * self._masks[term] for term in self._with_lpips])


class RegionTerm:
    """Coarse, whole and border: the canvas' crop against the inset, whichever of them moves."""

    def __init__(
        self,
        inset: str,
        wanted: Set[Term],
        perceptual: Perceptual,
        target: Tensor,
        on_canvas: Tensor,
        coarse_size: int,
        part: Tensor | None = None,
    ) -> None:
        """target: the image that stands still, `[n 3 r r]`; on_canvas `[n 1 r r]`: 1 for its pixels
        on the canvas, else 0; part `[n 1 r r]`: 1 for those that will be pasted, None for all.
        """
        self._coarse_size = coarse_size
        if part is None:
            border, compared = images.border_mask(target.shape[2]).to(target.device), on_canvas
        else:
            border = images.ring_of(part)
            compared = torch.maximum(part, border) * on_canvas
        small, small_mask = (images.downsample(x, coarse_size) for x in (target, compared))
        coarse = {Term(inset, "coarse"): small_mask}
        full = {Term(inset, "whole"): compared, Term(inset, "border"): border * on_canvas}
        if small is target:  # nothing to downsample: one pass serves all three
            coarse, full = {}, coarse | full
        self._coarse = ImageTerms(coarse, wanted, perceptual, small)
        self._full = ImageTerms(full, wanted, perceptual, target)

    def __call__(self, moving: Tensor) -> Losses:
        """Losses of the moving image `[n 3 r r]`."""
        return self._coarse(images.downsample(moving, self._coarse_size)) | self._full(moving)


class PictureTerm:
    """A generator's whole image against its reference, at a height of `size` pixels at most."""

    def __init__(
        self, name: str, wanted: Set[Term], perceptual: Perceptual, reference: Tensor, size: int
    ) -> None:
        target = shrunk(reference, size)
        everywhere = {Term(name, "picture"): torch.ones_like(target[:1, :1])}
        self._size = size
        self._terms = ImageTerms(everywhere, wanted, perceptual, target)
        self._is_wanted = any((t.generator, t.family) == (name, "picture") for t in wanted)

    def __call__(self, image: Tensor) -> Losses:
        """Losses of images `[n 3 H W]`."""
        return self._terms(shrunk(image, self._size)) if self._is_wanted else {}


def latent_terms(name: str, latents: Tensor, w_avg: Tensor) -> Losses:
    """The regularisers of latents `[n 1+l c]`: w first, then the offset of each layer."""
    return {
        Term(name, "latent"): losses.distance_to_average(latents[:, 0], w_avg),
        Term(name, "delta"): losses.size_of_deltas(latents[:, 1:]),
    }


def shrunk(image: Tensor, size: int) -> Tensor:
    """Images `[n 3 H W]` at a height of `size` pixels at most, but large enough for LPIPS."""
    height, width = image.shape[2:]
    return images.downsample(image, max(size, -(-_LPIPS_SIDE_PX * height // min(height, width))))
