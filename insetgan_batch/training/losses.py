"""The losses of StyleGAN2 (Karras et al. 2020): non-saturating logistic (Goodfellow et al. 2014),
R1 (Mescheder et al. 2018), and path length regularisation (section 3.2).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PATH_DECAY = 0.01
"""By how much the running mean of path lengths moves towards that of a batch."""


def of_generator(scores_of_fakes: Tensor) -> Tensor:
    """The mean of `softplus(-D(G(z)))` over scores `[n]`."""
    return F.softplus(-scores_of_fakes).mean()


def of_discriminator(scores_of_reals: Tensor | None, scores_of_fakes: Tensor | None) -> Tensor:
    """The mean of `softplus(-D(x))` plus that of `softplus(D(G(z)))`; one of them may be None."""
    parts = []
    if scores_of_reals is not None:
        parts.append(F.softplus(-scores_of_reals).mean())
    if scores_of_fakes is not None:
        parts.append(F.softplus(scores_of_fakes).mean())
    return torch.stack(parts).sum()


def r1(images: Tensor, scores: Tensor) -> Tensor:
    """The square of the gradient of scores with respect to images `[n c h w]`, `[n]`.

    The images must require gradients, and be those that the scores are of, before any augmentation.
    """
    (gradients,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradients.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """How far images `[n c h w]` move for a step of their latents ws `[n l c]`, in the direction of
    `noise`, normal numbers of the images' shape: `[n]`, the root mean square over the layers.
    """
    direction = noise / math.sqrt(images.shape[2] * images.shape[3])
    (jacobian,) = torch.autograd.grad((images * direction).sum(), ws, create_graph=True)
    return jacobian.square().sum(dim=2).mean(dim=1).sqrt()


def path_penalty(lengths: Tensor, average: Tensor) -> tuple[Tensor, Tensor]:
    """(the mean square of lengths `[n]` less their running mean, that mean after them).

    The penalty is of the mean after them, and its gradient goes through it; what is kept has none.
    """
    after = average + PATH_DECAY * (lengths.mean() - average)
    return (lengths - after).square().mean(), after.detach()
