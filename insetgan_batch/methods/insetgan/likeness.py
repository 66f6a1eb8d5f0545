"""How alike FaceNet finds two faces, and the crops that it wants of them."""

from __future__ import annotations

import torch
from torch import Tensor

from insetgan_batch.boxes import Box
from insetgan_batch.methods.insetgan import images
from insetgan_batch.nets import identity
from insetgan_batch.nets.identity import Identity


def likeness(faces: Identity, image: Tensor, reference: Tensor, box: Box) -> float:
    """The cosine of FaceNet's vectors of the faces in two images `[3 h w]`; box: in both."""
    place = images.boxes_as_tensor([box], image)
    with torch.no_grad():
        first, second = faces.embed(
            torch.cat([face_resampler(place)(x[None]) for x in (image, reference)])
        )
    return float(first @ second)


def face_resampler(box: Tensor) -> images.Resampler:
    """Crops faces out of images `[n 3 h w]` in FaceNet's size and with its margin; box `[n 5]` in
    their pixels.
    """
    margins = identity.MARGIN * torch.stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]], dim=1)
    larger = torch.cat([box[:, :2] - margins, box[:, 2:4] + margins, box[:, 4:]], dim=1)
    return images.Resampler(larger, (identity.SIZE, identity.SIZE))
