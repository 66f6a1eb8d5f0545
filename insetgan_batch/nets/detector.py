"""Image → box of the part: MTCNN, or a fixed box.

A detector takes bytes `[n H W 3]` (0..255, already clamped: overshoot beyond the range moves
MTCNN's boxes) and gives one box per image in its pixels, None where nothing is found.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from facenet_pytorch import MTCNN
from torch import Tensor

from insetgan_batch.boxes import Box

# MTCNN finds no face under 20 px and none reliably under 40 px: images are resized so that the
# smallest face that is worth finding has this height.
_SMALLEST_FACE_PX = 48
_MIN_FACE_SIZE_PX = 36

# The least height of a face worth finding, as a share of the image: a head is an eighth of a
# standing person, and fills much of an inset that paints faces.
SMALLEST_FACE_OF_CANVAS = 0.07
SMALLEST_FACE_OF_INSET = 0.35
# Photographs are resized to so many pixels along the longer side.
_WORKING_SIDE_PX = 720
_SMALLEST_OF_PHOTOGRAPH = 30


class Detector(Protocol):
    """Finds the part in images."""

    def find(self, images: Tensor) -> list[Box | None]:
        """One box, or None, per image of bytes `[n H W 3]`."""
        ...


class Segmenter(Protocol):
    """Says which pixels show the part."""

    def mask(self, images: Tensor) -> Tensor:
        """The part's share of each pixel of bytes `[n H W 3]`: `[n 1 H W]` in 0..1."""
        ...


class FixedBox:
    """Answers the same box for every image, without a network, for any kind of inset."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def find(self, images: Tensor) -> list[Box | None]:
        """The same box for every image."""
        return [self._box] * len(images)


class FaceDetector:
    """The likeliest face of an image: MTCNN (Zhang et al. 2016), weights of facenet-pytorch."""

    def __init__(self, device: torch.device, *, smallest_face: float) -> None:
        """smallest_face: the least height of a face worth finding, as a share of the image's
        height.
        """
        self._smallest_face = smallest_face
        self._device = device
        self._mtcnn = MTCNN(
            keep_all=False, select_largest=False, min_face_size=_MIN_FACE_SIZE_PX, device=device
        )

    def find(self, images: Tensor) -> list[Box | None]:
        """One box, or None, per image of bytes `[n H W 3]`; images are resized first, boxes are
        not.
        """
        height, width = images.shape[1:3]
        scale = _SMALLEST_FACE_PX / (self._smallest_face * height)
        size = (round(height * scale), round(width * scale))
        enlarged = F.interpolate(
            images.permute(0, 3, 1, 2).float().to(self._device),
            size,
            mode="bilinear",
            antialias=scale < 1,
        )
        pixels = enlarged.permute(0, 2, 3, 1).clamp(0, 255)
        found = self._mtcnn.detect(pixels, landmarks=True)
        scale_x, scale_y = width / size[1], height / size[0]
        return [
            _likeliest(boxes, p, landmarks, scale_x, scale_y)
            for boxes, p, landmarks in zip(*found, strict=True)
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Face:
    """A face of a photograph. landmarks `[5 2]`: left and right eye, nose, left and right corner of
    the mouth in its pixels, left and right as the viewer sees them; probability: 0 to 1.
    """

    box: Box
    landmarks: np.ndarray
    probability: float


class PhotographFaces:
    """All faces of a photograph of any size: MTCNN as in `FaceDetector`.

    Why resized to one working size: MTCNN's time and its smallest face follow from the number of
    pixels. Faces of less than a thirtieth of the longer side are not found.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._mtcnn = MTCNN(
            keep_all=True, min_face_size=_WORKING_SIDE_PX // _SMALLEST_OF_PHOTOGRAPH, device=device
        )

    def find(self, pixels: np.ndarray) -> list[Face]:
        """The faces of bytes `[H W 3]`, the largest first."""
        height, width = pixels.shape[:2]
        scale = _WORKING_SIDE_PX / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        image = torch.from_numpy(pixels).to(self._device).permute(2, 0, 1)[None].float()
        resized = F.interpolate(image, size, mode="bilinear", antialias=scale < 1)
        boxes, probabilities, landmarks = self._mtcnn.detect(
            resized.permute(0, 2, 3, 1).clamp(0, 255), landmarks=True
        )
        if boxes[0] is None:
            return []
        stretch = np.array([width / size[1], height / size[0]])
        faces = [
            Face(
                Box(*(np.tile(stretch, 2) * box.astype(float)).tolist()),
                points.astype(float) * stretch,
                float(probability),
            )
            for box, probability, points in zip(
                boxes[0], probabilities[0], landmarks[0], strict=True
            )
        ]
        return sorted(faces, key=lambda face: -face.box.width * face.box.height)


def _likeliest(
    boxes: np.ndarray | None,
    probabilities: np.ndarray,
    landmarks: np.ndarray,
    scale_x: float,
    scale_y: float,
) -> Box | None:
    """The likeliest of MTCNN's boxes `[n 4]` in the pixels of the image, with its landmarks (eyes,
    nose, corners of the mouth) of `[n 5 2]`; None for none.
    """
    if boxes is None:
        return None
    best = int(np.argmax(probabilities.astype(float)))
    x0, y0, x1, y1 = (float(v) for v in boxes[best])
    points = tuple((float(x) * scale_x, float(y) * scale_y) for x, y in landmarks[best])
    return Box(x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y, landmarks=points)
