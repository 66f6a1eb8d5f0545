"""What a generator is held to while it moves: the terms of InsetGAN, as functions of its image.

An objective is made at the start of a phase. Everything that stands still in the phase (the other
generators' images, the references, all their features) is computed here once; `terms` then costs
the moving image only. Terms are raw, one value per item, named `<generator>.<term>[.<distance>]`; a
distance with weight 0 in every item is not computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.inset import images, losses
from insetgan_batch.inset.seam import SeamTerm
from insetgan_batch.nets import identity
from insetgan_batch.nets.identity import Identity
from insetgan_batch.nets.perceptual import Features, Perceptual
from insetgan_batch.nets.windows import Crop, Window
from insetgan_batch.recipe import CANVAS, GeneratorSettings, ImageWeights

Terms = dict[str, Tensor]
Crops = Mapping[str, Crop]
DISTANCES = ("l1", "l2", "lpips")
_NONE: Mapping[str, Tensor] = {}
_WHOLE: Crops = {}
_LPIPS_SIDE_PX = 32  # its features need so many
_MARGIN_PX = 2  # beyond a mask's edge, in pixels of the region: there the canvas gives way too


class Objective(Protocol):
    """A moving generator's losses."""

    def terms(self, image: Tensor, latents: Tensor, crops: Crops = _WHOLE) -> Terms:
        """Raw losses `[n]` of images `[n 3 h w]` painted from latents `[n 1+l c]`.

        h: the objective's height. crops: by inset, the full-resolution pixels around its region,
        where h is below the canvas' full height.
        """
        ...


class ImageTerms:
    """L1, L2 and LPIPS of an image to a target that stands still, under one mask or several.

    One pass computes the features under all masks: the network is small, and launching its kernels
    takes longer than a second image.
    """

    def __init__(
        self,
        masks: Mapping[str, Tensor],
        wanted: set[str],
        perceptual: Perceptual,
        target: Tensor,
    ) -> None:
        """masks: by name, like `face.border`; wanted: names of the terms with a weight."""
        self._masks, self._wanted = masks, wanted
        self._perceptual = perceptual
        self._target = target
        self._seen = [name for name in masks if f"{name}.lpips" in wanted]
        # LPIPS is a mean over the picture; divided by the mask's share of it, over the mask's area.
        shares = [masks[name].mean(dim=(1, 2, 3)) for name in self._seen]
        self._shares = [torch.where(share > 0, share, 1.0) for share in shares]
        self._features: Features = []
        if self._seen:
            with torch.no_grad():
                self._features = perceptual.features(self._masked(target))

    def __call__(self, image: Tensor) -> Terms:
        """The wanted ones of `<name>.l1`, `<name>.l2` and `<name>.lpips`, `[n]` each."""
        terms = {}
        for name, mask in self._masks.items():
            if f"{name}.l1" in self._wanted:
                terms[f"{name}.l1"] = losses.masked_l1(image, self._target, mask)
            if f"{name}.l2" in self._wanted:
                terms[f"{name}.l2"] = losses.masked_l2(image, self._target, mask)
        if self._seen:
            distances = self._perceptual.distance_to(self._masked(image), self._features)
            rows = distances.view(len(self._seen), len(image))
            for name, row, share in zip(self._seen, rows, self._shares, strict=True):
                terms[f"{name}.lpips"] = row / share
        return terms

    def _masked(self, image: Tensor) -> Tensor:
        """The image under every mask whose features are wanted, `[m*n 3 h w]`."""
        return torch.cat([image * self._masks[name] for name in self._seen])


class RegionTerm:
    """Coarse, whole and border: the canvas' crop against the inset, whichever of them moves."""

    def __init__(
        self,
        inset: str,
        wanted: set[str],
        perceptual: Perceptual,
        target: Tensor,
        on_canvas: Tensor,
        coarse_size: int,
        part: Tensor | None = None,
    ) -> None:
        """target: the one that stands, `[n 3 r r]`; on_canvas: which of its pixels the canvas has,
        `[n 1 r r]`; part: which of them will be pasted, None for all.
        """
        self._coarse_size = coarse_size
        if part is None:
            border, compared = images.border_mask(target.shape[2]).to(target.device), on_canvas
        else:
            border = images.ring_of(part)
            compared = torch.maximum(part, border) * on_canvas
        small, small_mask = (images.downsample(x, coarse_size) for x in (target, compared))
        coarse = {f"{inset}.coarse": small_mask}
        full = {f"{inset}.whole": compared, f"{inset}.border": border * on_canvas}
        if small is target:  # nothing to downsample: one pass serves all three
            coarse, full = {}, coarse | full
        self._coarse = ImageTerms(coarse, wanted, perceptual, small)
        self._full = ImageTerms(full, wanted, perceptual, target)

    def __call__(self, moving: Tensor) -> Terms:
        """Terms of the moving one, `[n 3 r r]`."""
        return self._coarse(images.downsample(moving, self._coarse_size)) | self._full(moving)


class PictureTerm:
    """A generator's whole picture against its reference, at a height of `size` pixels at most."""

    def __init__(
        self, name: str, wanted: set[str], perceptual: Perceptual, reference: Tensor, size: int
    ) -> None:
        target = shrunk(reference, size)
        everywhere = {f"{name}.picture": torch.ones_like(target[:1, :1])}
        self._size = size
        self._terms = ImageTerms(everywhere, wanted, perceptual, target)
        self._is_wanted = any(term.startswith(f"{name}.picture.") for term in wanted)

    def __call__(self, image: Tensor) -> Terms:
        """Terms of pictures `[n 3 H W]`."""
        return self._terms(shrunk(image, self._size)) if self._is_wanted else {}


class CanvasObjective:
    """The canvas moves: coarse and border towards every inset, body outside of the regions."""

    def __init__(
        self,
        *,
        wanted: set[str],
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
        """reference `[n 3 H W]`; insets: their images as they stand; regions `[n 4]` in canvas
        pixels; inversion_size: of `PictureTerm`; masks: `[n 1 h w]` of the insets whose part alone
        will be pasted; height: at which the body is compared, None for the reference's own.
        """
        size = (reference.shape[2], reference.shape[3])
        self._regions, self._w_avg, self._resolution = regions, w_avg, resolution
        self._resamplers: dict[tuple[str, Window], images.Resampler] = {}
        outside = torch.ones_like(reference[:, :1])
        self._insets, self._region_terms, self._seams = insets, {}, {}
        for name, image in insets.items():
            if f"{name}.seam" in wanted:
                self._seams[name] = SeamTerm(regions[name], size, masks.get(name))
            left = 1 - images.box_mask(regions[name], size)
            part = None
            if name in masks:
                part = images.downsample(masks[name], resolution)
                beside = 1 - images.dilate(part, _MARGIN_PX)  # exactly 0 in the part, spread too
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
        self._body = ImageTerms({f"{CANVAS}.body": outside}, wanted, perceptual, reference)
        self._picture = PictureTerm(CANVAS, wanted, perceptual, reference, inversion_size)

    def terms(self, image: Tensor, latents: Tensor, crops: Crops = _WHOLE) -> Terms:
        """Raw losses `[n]` of canvases `[n 3 h w]` painted from latents `[n 1+l c]`."""
        terms = self._body(image) | latent_terms(CANVAS, latents, self._w_avg)
        terms |= self._picture(image)
        whole = Crop.whole(image)
        for name, term in self._region_terms.items():
            seen = crops.get(name, whole)
            terms |= term(self._resampler(name, seen.window)(seen.pixels))
            if name in self._seams:
                terms[f"{name}.seam"] = self._seams[name](seen, self._insets[name])
        return terms

    def _resampler(self, name: str, window: Window) -> images.Resampler:
        """Crops an inset's region out of a window's pixels."""
        if (name, window) not in self._resamplers:
            size = (self._resolution, self._resolution)
            self._resamplers[name, window] = images.Resampler(
                window.boxes(self._regions[name]), size
            )
        return self._resamplers[name, window]


class InsetObjective:
    """One inset moves: coarse and border towards the canvas, face inside its own box."""

    def __init__(
        self,
        name: str,
        *,
        wanted: set[str],
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
        """reference `[n 3 h w]` and box `[n 4]` of the inset; canvas as it stands, region `[n 4]`
        on it; inversion_size: of `PictureTerm`; mask `[n 1 h w]` where the part alone will be
        pasted; faces: what compares them, if anything does; height: at which the face is compared,
        None for the reference's own.
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
        self._seam = SeamTerm(region, size, mask) if f"{name}.seam" in wanted else None
        inside = images.box_mask(box, (reference.shape[2], reference.shape[3]))
        if mask is not None:
            inside = images.dilate(mask, -images.border_width(mask.shape[2]))
        self._identity = faces if f"{name}.identity" in wanted else None
        if self._identity is not None:
            self._box, self._height = box, reference.shape[2]
            self._faces: dict[int, images.Resampler] = {}  # by the height of pictures
            self._known = self._identity.embed(self._face_of(reference))
        height = height or reference.shape[2]
        inside, reference = (images.downsample(x, height) for x in (inside, reference))
        self._face = ImageTerms({f"{name}.face": inside}, wanted, perceptual, reference)
        self._picture = PictureTerm(name, wanted, perceptual, reference, inversion_size)

    def terms(self, image: Tensor, latents: Tensor, crops: Crops = _WHOLE) -> Terms:
        """Raw losses `[n]` of insets `[n 3 h w]` painted from latents `[n 1+l c]`."""
        terms = (
            self._region(images.downsample(image, self._resolution))
            | self._face(image)
            | self._picture(image)
            | latent_terms(self._name, latents, self._w_avg)
        )
        if self._seam is not None:
            terms[f"{self._name}.seam"] = self._seam(self._canvas, image)
        if self._identity is not None:
            embedded = self._identity.embed(self._face_of(image))
            terms[f"{self._name}.identity"] = 1 - (embedded * self._known).sum(dim=1)
        return terms

    def _face_of(self, image: Tensor) -> Tensor:
        height = image.shape[2]
        if height not in self._faces:
            scale = height / self._height
            box = torch.cat([self._box[:, :4] * scale, self._box[:, 4:]], dim=1)
            self._faces[height] = face_resampler(box)
        return self._faces[height](image)


def term_weights(
    name: str, settings: GeneratorSettings, regions: Iterable[str], border_ramp: float
) -> dict[str, float]:
    """The weight of every term that moves a generator, by the term's name.

    regions: the insets that it meets: all for the canvas, itself for an inset.
    """
    own = ("body", settings.body) if name == CANVAS else ("face", settings.face)
    weights = {f"{name}.latent": settings.latent, f"{name}.delta": settings.delta}
    weights |= _image_weights(f"{name}.{own[0]}", own[1], 1.0)
    weights |= _image_weights(f"{name}.picture", settings.picture, 1.0)
    if name != CANVAS:
        weights[f"{name}.identity"] = settings.identity
    for region in regions:
        weights |= _image_weights(f"{region}.coarse", settings.coarse, 1.0)
        weights |= _image_weights(f"{region}.whole", settings.whole, 1.0)
        weights |= _image_weights(f"{region}.border", settings.border, border_ramp)
        weights[f"{region}.seam"] = border_ramp * settings.seam
    return weights


def _image_weights(name: str, weights: ImageWeights, ramp: float) -> dict[str, float]:
    return {f"{name}.{d}": ramp * getattr(weights, d) for d in DISTANCES}


def latent_terms(name: str, latents: Tensor, w_avg: Tensor) -> Terms:
    """The regularisers of latents `[n 1+l c]`: w first, then the offset of each layer."""
    return {
        f"{name}.latent": losses.distance_to_average(latents[:, 0], w_avg),
        f"{name}.delta": losses.size_of_deltas(latents[:, 1:]),
    }


def likeness(faces: Identity, image: Tensor, reference: Tensor, box: Box) -> float:
    """The cosine of FaceNet's vectors of the faces in two images `[3 h w]`; box: in both."""
    place = boxes_as_tensor([box], image)
    with torch.no_grad():
        first, second = faces.embed(
            torch.cat([face_resampler(place)(x[None]) for x in (image, reference)])
        )
    return float(first @ second)


def boxes_as_tensor(items: Sequence[Box], like: Tensor) -> Tensor:
    """Boxes as `[n 5]`, with their angles; on the device and in the type of the images."""
    rows = [(box.x0, box.y0, box.x1, box.y1, box.angle) for box in items]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def shrunk(image: Tensor, size: int) -> Tensor:
    """Pictures `[n 3 H W]` at a height of `size` pixels at most, as far as LPIPS sees anything."""
    height, width = image.shape[2:]
    return images.downsample(image, max(size, -(-_LPIPS_SIDE_PX * height // min(height, width))))


def face_resampler(box: Tensor) -> images.Resampler:
    """Crops faces out of images `[n 3 h w]` in FaceNet's size and with its margin; box `[n 5]` in
    their pixels.
    """
    margins = identity.MARGIN * torch.stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]], dim=1)
    larger = torch.cat([box[:, :2] - margins, box[:, 2:4] + margins, box[:, 4:]], dim=1)
    return images.Resampler(larger, (identity.SIZE, identity.SIZE))


def crop_region(canvas: Tensor, region: Tensor, resolution: int) -> Tensor:
    """The regions of canvases at the working resolution, `[n 3 r r]`."""
    return images.resample(canvas, region, (resolution, resolution))


def on_canvas(region: Tensor, size: tuple[int, int], resolution: int) -> Tensor:
    """1 where a pixel of the cropped region lies on the canvas, 0 beyond its edge: `[n 1 r r]`."""
    frame = images.frame_in_crop(size, region, (resolution, resolution))
    return images.box_mask(frame, (resolution, resolution))
