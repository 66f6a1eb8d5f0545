"""The fabricated files are what they claim to be: names, protocols, and nothing left behind."""

from __future__ import annotations

import io
import pickle
import pickletools
import sys

import pytest
import torch

from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets.foreign import originals

SMALL = Architecture((4, 4), (5, 4, 3), z_dim=6, w_dim=6, mapping_layers=2)
PROTOCOLS = [2, 3, 4, 5]


def names_in(data: bytes) -> set[str]:
    """The classes and functions that a pickle asks for."""
    names, texts = set(), []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            names.add(str(argument).replace(" ", "."))
        elif opcode.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(str(argument))
    return names | set(texts)


def test_pretended_modules_are_gone_afterwards() -> None:
    before = dict(sys.modules)
    originals.nvidia(SMALL)
    originals.tensorflow(SMALL)
    assert dict(sys.modules) == before
    assert not {"torch_utils", "dnnlib", "dnnlib.util"} & set(sys.modules)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_fabricated_pickle_cannot_be_loaded_without_the_program(protocol: int) -> None:
    for original in (
        originals.nvidia(SMALL, protocol=protocol),
        originals.tensorflow(SMALL, protocol=protocol),
    ):
        with pytest.raises(ModuleNotFoundError, match="dnnlib"):
            pickle.loads(original.data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_have_the_asked_protocol(protocol: int) -> None:
    for original in (
        originals.nvidia(SMALL, protocol=protocol),
        originals.tensorflow(SMALL, protocol=protocol),
    ):
        assert original.data[:2] == bytes([0x80, protocol])


def test_names_are_those_of_the_programs() -> None:
    asked = names_in(originals.nvidia(SMALL, protocol=3).data)
    assert {
        "torch_utils.persistence._reconstruct_persistent_obj",
        "dnnlib.util.EasyDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.storage._load_from_bytes",
        "numpy.core.multiarray.scalar",
        "builtins.set",
    } <= asked
    asked = names_in(originals.tensorflow(SMALL, protocol=2).data)
    assert {
        "dnnlib.tflib.network.Network",
        "numpy.core.multiarray._reconstruct",
        "_codecs.encode",
        "8x8/Conv0_up/weight",
    } <= asked


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_has_its_old_or_its_new_names(protocol: int) -> None:
    for old_numpy, marker in ((True, b"numpy.core."), (False, b"numpy._core.")):
        original = originals.tensorflow(SMALL, protocol=protocol, old_numpy=old_numpy)
        assert marker in original.data
        assert ({b"numpy.core.", b"numpy._core."} - {marker}).pop() not in original.data


def test_records_of_old_torch_lack_what_came_later() -> None:
    newer = b"_state_dict_pre_hooks"
    assert newer not in originals.nvidia(SMALL).data.replace(b"_load_state_dict_pre_hooks", b"")
    assert newer in originals.nvidia(SMALL, old_torch=False).data


@pytest.mark.parametrize("zipped", [True, False])
def test_files_saved_on_a_gpu_say_so(zipped: bool) -> None:
    data = originals.rosinality(SMALL, zipped=zipped, location="cuda:0").data
    assert b"cuda:0" in data
    loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    assert loaded["g_ema"]["input.input"].shape == (1, 5, 4, 4)
    assert data.startswith(b"PK") == zipped
