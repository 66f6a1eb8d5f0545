"""Who a face is, as a vector: FaceNet (Schroff et al. 2015), facenet-pytorch's InceptionResnetV1.

Its weights (trained on VGGFace2 or CASIA-WebFace) cannot be bundled: they are a file that the user
names, the state dict that facenet-pytorch publishes. It was trained on faces that were cut out by
MTCNN's boxes, a little larger.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from facenet_pytorch import InceptionResnetV1
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.foreign import reader

SIZE = 160
# Added on each side of a box, as a share of its length: the authors' 32 of 160 px, by two sides.
MARGIN = 0.1
_TO_FACENET = 127.5 / 128  # its input is (byte - 127.5) / 128


class Identity:
    """FaceNet: vectors whose cosine says whether two faces are one person's.

    name: which weights these are; kept with every score.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        """path: a torch file or safetensors; raises `CheckpointError`."""
        tensors = reader.read_tensors(path)
        # The last layer classifies the people of the training set; the vector is the layer before.
        weights = {name: t for name, t in tensors.items() if not name.startswith("logits.")}
        network = InceptionResnetV1(pretrained=None)
        try:
            network.load_state_dict(weights)
        except RuntimeError as err:
            raise CheckpointError(
                f"{path}: not the state dict of facenet-pytorch's InceptionResnetV1"
                f" ({checkpoint.printable(str(err))}); expected 20180402-114759-vggface2.pt or one"
                " like it"
            ) from err
        self.name = f"facenet-{path.stem}"
        self._network = network.requires_grad_(False).eval().to(device)

    def embed(self, faces: Tensor) -> Tensor:
        """Vectors of length 1 `[n 512]` of faces `[n 3 SIZE SIZE]` in -1..1; differentiable."""
        return F.normalize(self._network(faces.clamp(-1, 1) * _TO_FACENET), dim=1)
