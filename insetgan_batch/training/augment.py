"""Adaptive discriminator augmentation: what pictures, real and painted, are put through before a
discriminator sees them (Karras et al., "Training Generative Adversarial Networks with Limited
Data", 2020, appendix B).

Every transform has a coin of its own for each image, and leaves it as it is where the coin falls on
the other side. All are differentiable in the picture, twice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from insetgan_batch.training.draws import Draws

BLIT = ("xflip", "rotate90", "xint")
GEOMETRY = ("scale", "rotate", "aniso", "xfrac")
COLOUR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
ROTATIONS = ("rotate90", "rotate")
TRANSFORMS = (*BLIT, *GEOMETRY, *COLOUR, "filter", "noise", "cutout")
PIPES = {
    "blit": BLIT,
    "geom": GEOMETRY,
    "color": COLOUR,
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bg": (*BLIT, *GEOMETRY),
    "bgc": (*BLIT, *GEOMETRY, *COLOUR),
    "bgcf": (*BLIT, *GEOMETRY, *COLOUR, "filter"),
    "bgcfn": (*BLIT, *GEOMETRY, *COLOUR, "filter", "noise"),
    "bgcfnc": TRANSFORMS,
    # People stand upright.
    "body": tuple(n for n in (*BLIT, *GEOMETRY, *COLOUR) if n not in ROTATIONS),
}
"""Names for sets of transforms: those of the paper's program, and StyleGAN-Human's `body`."""

# The low-pass filter of the wavelet sym6, whose sum is 1: what is doubled and halved by it is what
# it was (PyWavelets, dec_lo over the root of 2).
_SYM6 = (
    0.015404109327027373 / math.sqrt(2),
    0.0034907120842174702 / math.sqrt(2),
    -0.11799011114819057 / math.sqrt(2),
    -0.048311742585633 / math.sqrt(2),
    0.4910559419267466 / math.sqrt(2),
    0.787641141030194 / math.sqrt(2),
    0.3379294217276218 / math.sqrt(2),
    -0.07263752278646252 / math.sqrt(2),
    -0.021060292512300564 / math.sqrt(2),
    0.04472490177066578 / math.sqrt(2),
    0.0017677118642428036 / math.sqrt(2),
    -0.007800708325034148 / math.sqrt(2),
)
_MARGIN = len(_SYM6) // 2  # pixels beyond a corner that the filter reaches, both ways
_SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
_BANDS = 4
_BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of natural pictures: 1/f
_SMALLEST_FOR_FILTER_PX = 22


def check(transforms: Collection[str], height: int, width: int) -> None:
    """Raises `ValueError` for what cannot be done to pictures of that size."""
    if unknown := sorted(set(transforms) - set(TRANSFORMS)):
        raise ValueError(f"found {unknown}, expected some of {', '.join(TRANSFORMS)}")
    if height != width and "rotate90" in transforms:
        raise ValueError(
            f"rotate90 does not fit pictures of {height}x{width} pixels; take the pipe `body`"
        )
    if "filter" in transforms and min(height, width) < _SMALLEST_FOR_FILTER_PX:
        raise ValueError(
            f"filter needs pictures of {_SMALLEST_FOR_FILTER_PX} pixels, found {height}x{width}"
        )


def augment(images: Tensor, transforms: Collection[str], p: float, draws: Draws) -> Tensor:
    """Images `[n 3 h w]`, each transform with probability `p`."""
    if p == 0 or not transforms:
        return images
    _, _, height, width = images.shape
    matrix = geometry(transforms, p, draws, height, width)
    if not torch.equal(matrix, torch.eye(3, device=matrix.device).expand_as(matrix)):
        images = warp(images, matrix.to(images.dtype))
    colours = colour(transforms, p, draws)
    if not torch.equal(colours, torch.eye(4, device=colours.device).expand_as(colours)):
        images = recolour(images, colours.to(images.dtype))
    if "filter" in transforms:
        images = filtered(images, band_gains(p, draws).to(images.dtype))
    if "noise" in transforms:
        size = 0.1 * draws.normal(1).abs() * _coin(draws, p)
        noise = draws.normal(*images.shape[1:])
        images = images + (noise * size[:, :, None, None]).to(images.dtype)
    if "cutout" in transforms:
        images = images * kept_by_cutout(p, draws, height, width).to(images.dtype)
    return images


# ---- geometry: matrices [n 3 3] of pixels about the centre, x to the right, y down --------------


def geometry(
    transforms: Collection[str], p: float, draws: Draws, height: int, width: int
) -> Tensor:
    """Where each pixel of the result comes from: `[n 3 3]`, the inverses of all transforms."""
    inverse = torch.eye(3).expand(len(draws), 3, 3)

    def then(name: str, one: Tensor, chance: float = p) -> None:
        """Multiply by the inverse of a transform where its coin says so."""
        nonlocal inverse
        if name in transforms:
            heads = _coin(draws, chance)[:, 0].cpu() > 0
            inverse = inverse @ torch.where(heads[:, None, None], one, torch.eye(3))

    size = torch.tensor([float(width), float(height)])
    flip = (draws.uniform(1).cpu()[:, 0] * 2).floor()
    then("xflip", scaling(1 - 2 * flip, torch.ones(len(draws))))
    turns = (draws.uniform(1).cpu()[:, 0] * 4).floor()
    then("rotate90", rotation(turns * (math.pi / 2)))
    whole = ((draws.uniform(2).cpu() * 2 - 1) / 8 * size).round()
    then("xint", shift(-whole))
    scale = torch.exp2(0.2 * draws.normal(1).cpu()[:, 0])
    then("scale", scaling(1 / scale, 1 / scale))
    twice = 1 - math.sqrt(1 - min(p, 1.0))  # turned before or after: together with probability p
    angle = (draws.uniform(2).cpu() * 2 - 1) * math.pi
    then("rotate", rotation(angle[:, 0]), twice)
    stretch = torch.exp2(0.2 * draws.normal(1).cpu()[:, 0])
    then("aniso", scaling(1 / stretch, stretch))
    then("rotate", rotation(angle[:, 1]), twice)
    then("xfrac", shift(-draws.normal(2).cpu() / 8 * size))
    return inverse


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """`diag(x, y)` for each."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def rotation(angle: Tensor) -> Tensor:
    """By angles in radians, from x towards y."""
    matrix = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


def shift(by: Tensor) -> Tensor:
    """By `[n 2]`: x, y."""
    matrix = torch.eye(3, dtype=by.dtype).repeat(len(by), 1, 1)
    matrix[:, :2, 2] = by
    return matrix


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Take each pixel of the result from where `inverse` `[n 3 3]` says; what lies outside is
    mirrored. Sampled at twice the size, between two filters.
    """
    n, _, height, width = images.shape
    inverse = inverse.cpu().to(images.dtype)
    margins = _margins(inverse, height, width)
    left, top, right, bottom = margins
    images = F.pad(images, (left, right, top, bottom), mode="reflect")
    moved = torch.tensor([[(left - right) / 2, (top - bottom) / 2]], dtype=inverse.dtype)
    inverse = shift(moved) @ inverse
    images = _doubled(images)
    # In pixels of half the size, whose centres lie half a pixel off.
    two, half = torch.tensor([2.0], dtype=inverse.dtype), torch.full((1, 2), 0.5).to(inverse.dtype)
    inverse = scaling(two, two) @ inverse @ scaling(1 / two, 1 / two)
    inverse = shift(-half) @ inverse @ shift(half)
    size = 2 * (height + _MARGIN), 2 * (width + _MARGIN)
    there = torch.tensor([2.0 / images.shape[3], 2.0 / images.shape[2]], dtype=inverse.dtype)
    here = torch.tensor([2.0 / size[1], 2.0 / size[0]], dtype=inverse.dtype)
    theta = scaling(there[:1], there[1:]) @ inverse @ scaling(1 / here[:1], 1 / here[1:])
    grid = F.affine_grid(
        theta[:, :2].to(images.device), [n, images.shape[1], *size], align_corners=False
    )
    sampled = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return _halved(sampled)


def _margins(inverse: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """How far beyond left, top, right and bottom of the picture pixels are taken from, by any."""
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=inverse.dtype)
    signs = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=inverse.dtype)
    corners = (signs * centre) @ inverse[:, :2, :2].mT + inverse[:, None, :2, 2]
    reach = torch.cat([(-corners).amax(dim=(0, 1)), corners.amax(dim=(0, 1))])
    most = torch.tensor([width - 1, height - 1], dtype=inverse.dtype).repeat(2)
    found = (reach + _MARGIN - centre.repeat(2)).clamp_min(0).minimum(most).ceil()
    left, top, right, bottom = (int(margin) for margin in found)
    return left, top, right, bottom


def _doubled(images: Tensor) -> Tensor:
    """`[n c h w]` to `[n c 2h 2w]` with the filter."""
    channels = images.shape[1]
    taps = 2 * torch.tensor(_SYM6, dtype=images.dtype, device=images.device)
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = len(taps)
        kernel = taps.reshape(shape).expand(channels, 1, *shape[2:])
        stride = [2 if axis == a else 1 for a in (2, 3)]
        padding = [5 if axis == a else 0 for a in (2, 3)]
        images = F.conv_transpose2d(images, kernel, stride=stride, padding=padding, groups=channels)
    return images


def _halved(images: Tensor) -> Tensor:
    """`[n c 2(h+6) 2(w+6)]` to `[n c h w]` with the filter the other way round."""
    channels = images.shape[1]
    taps = torch.tensor(_SYM6, dtype=images.dtype, device=images.device)
    images = images[:, :, 1:-1, 1:-1]
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = len(taps)
        kernel = taps.reshape(shape).expand(channels, 1, *shape[2:])
        stride = [2 if axis == a else 1 for a in (2, 3)]
        images = F.conv2d(images, kernel, stride=stride, groups=channels)
    return images


# ---- colours: matrices [n 4 4] of red, green, blue and 1 ----------------------------------------


def colour(transforms: Collection[str], p: float, draws: Draws) -> Tensor:
    """All transforms of colours as one: `[n 4 4]`."""
    n = len(draws)
    whole = torch.eye(4).expand(n, 4, 4)
    luma = torch.full((3,), 1 / math.sqrt(3))
    along = torch.outer(luma, luma)

    def then(name: str, linear: Tensor, offset: Tensor | None = None) -> None:
        nonlocal whole
        if name in transforms:
            one = torch.eye(4).repeat(n, 1, 1)
            one[:, :3, :3] = linear
            if offset is not None:
                one[:, :3, 3] = offset
            heads = _coin(draws, p)[:, 0].cpu() > 0
            whole = torch.where(heads[:, None, None], one, torch.eye(4)) @ whole

    numbers, shares = draws.normal(3).cpu(), draws.uniform(2).cpu()
    then("brightness", torch.eye(3), 0.2 * numbers[:, :1])
    then("contrast", torch.exp2(0.5 * numbers[:, 1])[:, None, None] * torch.eye(3))
    flip = (shares[:, 0] * 2).floor()[:, None, None]
    then("lumaflip", torch.eye(3) - 2 * flip * along)
    angle = (shares[:, 1] * 2 - 1) * math.pi
    then("hue", _turn_about(luma, angle))
    then("saturation", along + (torch.eye(3) - along) * torch.exp2(numbers[:, 2])[:, None, None])
    return whole.to(draws.uniform(1).device)


def _turn_about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations `[n 3 3]` about a unit vector (Rodrigues)."""
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cos * torch.eye(3) + sin * cross + (1 - cos) * torch.outer(axis, axis)


def recolour(images: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel `[3]` of images `[n 3 h w]` by its image's matrix `[n 4 4]`; not clamped."""
    mixed = torch.einsum("nij,njhw->nihw", matrix[:, :3, :3], images)
    return mixed + matrix[:, :3, 3, None, None]


# ---- frequencies, and what is cut out -----------------------------------------------------------


def band_gains(p: float, draws: Draws) -> Tensor:
    """What each image's bands are multiplied by: `[n 4]`, from the lowest; its power stays near
    what it was.
    """
    power = torch.tensor(_BAND_POWER)
    gains = torch.ones(len(draws), _BANDS)
    amounts = torch.exp2(draws.normal(_BANDS).cpu())
    for band in range(_BANDS):
        heads = _coin(draws, p)[:, 0].cpu() > 0
        own = torch.ones(len(draws), _BANDS)
        own[:, band] = torch.where(heads, amounts[:, band], 1.0)
        gains = gains * own / (power * own.square()).sum(dim=1, keepdim=True).sqrt()
    return gains


@functools.cache
def bands() -> Tensor:
    """Filters `[4 43]` of octaves, from the lowest; their sum is a delta."""
    low = torch.tensor(_SYM2, dtype=torch.float64)
    high = low * torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    low, high = (_convolved(taps, taps.flip(0)) / 2 for taps in (low, high))
    rows = torch.zeros(_BANDS, 1, dtype=torch.float64)
    rows[0] = 1
    for band in range(1, _BANDS):
        spread = torch.zeros(_BANDS, 2 * rows.shape[1] - 1, dtype=torch.float64)
        spread[:, ::2] = rows
        rows = torch.stack([_convolved(row, low) for row in spread])
        first = (rows.shape[1] - len(high)) // 2
        rows[band, first : first + len(high)] += high
    return rows


def _convolved(a: Tensor, b: Tensor) -> Tensor:
    padded = F.pad(a, (len(b) - 1, len(b) - 1))
    return F.conv1d(padded[None, None], b.flip(0)[None, None])[0, 0]


def filtered(images: Tensor, gains: Tensor) -> Tensor:
    """Images `[n c h w]` with bands times gains `[n 4]`, along both axes; mirrored outside."""
    n, channels, height, width = images.shape
    kernels = gains @ bands().to(gains)
    kernels = kernels.repeat_interleave(channels, dim=0).to(images.device)
    reach = kernels.shape[1] // 2
    flat = F.pad(images, (reach,) * 4, mode="reflect").reshape(
        1, n * channels, -1, width + 2 * reach
    )
    flat = F.conv2d(flat, kernels[:, None, None, :], groups=n * channels)
    flat = F.conv2d(flat, kernels[:, None, :, None], groups=n * channels)
    return flat.reshape(n, channels, height, width)


def kept_by_cutout(p: float, draws: Draws, height: int, width: int) -> Tensor:
    """1, and 0 in a rectangle of half the height and width at a random place: `[n 1 h w]`."""
    side = 0.5 * _coin(draws, p)
    centre = draws.uniform(2)
    x = (torch.arange(width, device=side.device) + 0.5) / width
    y = (torch.arange(height, device=side.device) + 0.5) / height
    outside_x = (x - centre[:, :1]).abs() >= side / 2
    outside_y = (y - centre[:, 1:]).abs() >= side / 2
    return (outside_x[:, None, None, :] | outside_y[:, None, :, None]).float()


def _coin(draws: Draws, p: float) -> Tensor:
    """1 with probability p, else 0: `[n 1]`."""
    return (draws.uniform(1) < p).float()
