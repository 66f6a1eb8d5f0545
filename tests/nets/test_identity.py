"""FaceNet says whether two faces are one; here with weights that were drawn, not trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from facenet_pytorch import InceptionResnetV1
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.identity import Identity

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dict(InceptionResnetV1(pretrained=None, num_classes=10).state_dict())


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As facenet-pytorch publishes it: with the layer of the people it was trained on."""
    path = tmp_path_factory.mktemp("facenet") / "vggface2.pt"
    torch.save(weights | {"logits.weight": torch.zeros(10, 512)}, path)
    return path


def faces() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 160, 160, generator=random) * 2 - 1


def test_a_face_is_a_vector_of_length_one(file: Path) -> None:
    identity = Identity(file, CPU)
    assert identity.name == "facenet-vggface2"
    vectors = identity.embed(faces())
    assert vectors.shape == (2, 512)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)


def test_it_is_what_facenet_says_of_the_face_as_its_authors_prepare_it(
    file: Path, weights: dict[str, Tensor]
) -> None:
    network = InceptionResnetV1(pretrained=None).eval()
    network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("logits")})
    as_bytes = (faces() + 1) * 127.5
    with torch.no_grad():
        expected = network((as_bytes - 127.5) / 128)
    assert torch.allclose(Identity(file, CPU).embed(faces()), expected, atol=1e-5)


def test_the_way_back_to_the_picture_is_open(file: Path) -> None:
    picture = faces().requires_grad_(True)
    first, second = Identity(file, CPU).embed(picture)
    (gradient,) = torch.autograd.grad(first @ second, picture)
    assert float(gradient.abs().sum()) > 0


def test_safetensors_are_read_too(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "casia.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in weights.items()}, path)
    assert Identity(path, CPU).embed(faces()).shape == (2, 512)


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"other\.pt: not the state dict of facenet-pytorch"):
        Identity(path, CPU)


def test_a_file_that_would_execute_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    torch.save({"a": Evil()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pt: .*print"):
        Identity(path, CPU)
