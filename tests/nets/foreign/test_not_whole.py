"""Files of the right layout in which one thing is wrong: a line that says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.stylegan2 import StyleGAN2
from tests.nets.foreign import pretend
from tests.nets.foreign.attack import little_work
from tests.nets.foreign.hostile import (
    LAUGH,
    SMALL,
    TENSORS,
    networks,
    read,
    refusal_of,
    saved,
    snapshot,
    variable,
)
from tests.nets.foreign.nvidia_parts import nvidia_generator
from tests.nets.foreign.pretend import Network, Persistent, persistent
from tests.nets.foreign.rosinality_parts import rosinality_tensors

# Whoever hangs does so in C, where the usual timeout does not reach.
pytestmark = pytest.mark.timeout(method="thread")

# Other generators


def test_stylegan3_is_told_apart(tmp_path: Path) -> None:
    generator = persistent("Generator", z_dim=4, w_dim=4)
    generator.add_module("mapping", persistent("MappingNetwork", w_avg=torch.zeros(4)))
    synthesis = persistent("SynthesisNetwork")
    waves = {"freqs": torch.zeros(3, 2), "phases": torch.zeros(3), "transform": torch.eye(3)}
    synthesis.add_module("input", persistent("SynthesisInput", **waves))
    synthesis.add_module("L0_36_3", persistent("SynthesisLayer", up_filter=torch.ones(12)))
    generator.add_module("synthesis", synthesis)
    message = refusal_of(pretend.pickled({"G_ema": generator}), tmp_path)
    assert message.startswith("found a StyleGAN3 generator")
    state = {f"synthesis.input.{name}": value for name, value in waves.items()}
    assert refusal_of(saved(state), tmp_path).startswith("found a StyleGAN3 generator")


def replaced(module: Persistent, name: str, value: object) -> None:
    """Another tensor, or none, in the place of one."""
    for tensors in (module._parameters, module._buffers):
        if name in tensors:
            tensors[name] = value  # type: ignore[assignment]


TENSOR_CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "missing": (lambda g: g.synthesis.b8.conv0._parameters.pop("weight"), "missing `synthesis.b8"),
    "none": (lambda g: replaced(g.synthesis.b8.conv0, "bias", None), "missing `synthesis.b8.conv0"),
    "unknown": (lambda g: g.mapping.register_buffer("hat", torch.ones(2)), "unknown `mapping.hat`"),
    "no constant": (
        lambda g: g.synthesis.b4._parameters.pop("const"),
        "expected one `synthesis.b4",
    ),
    "no mapping": (lambda g: g.mapping._modules.clear(), "in mapping"),
    "shape": (
        lambda g: replaced(g.synthesis.b8.conv0, "weight", torch.ones(2, 3, 3, 2)),
        "`synthesis.b8.conv0.weight` has shape [2, 3, 3, 2], expected [2, 3, 3, 3]",
    ),
    "axes": (
        lambda g: replaced(g.mapping.fc0, "weight", torch.ones(4)),
        "not those of a StyleGAN2",
    ),
    "constant": (
        lambda g: replaced(g.synthesis.b4, "const", torch.ones(())),
        "`synthesis.b4.const`",
    ),
    "empty": (
        lambda g: replaced(g.synthesis.b4, "const", torch.ones(0, 4, 4)),
        "`synthesis.b4.const` has shape [0, 4, 4]",
    ),
    "NaN": (
        lambda g: replaced(g.mapping, "w_avg", torch.full((4,), float("nan"))),
        "`mapping.w_avg` is not all finite",
    ),
    "infinity": (
        lambda g: replaced(g.synthesis.b4.torgb, "bias", torch.tensor([0, 0, -float("inf")])),
        "`synthesis.b4.torgb.bias` is not all finite",
    ),
    "whole numbers": (
        lambda g: replaced(g.mapping, "w_avg", torch.ones(4, dtype=torch.int64)),
        "`mapping.w_avg` is not all finite",
    ),
    "filter": (
        lambda g: replaced(g.synthesis.b8.conv0, "resample_filter", torch.ones(4, 4) / 16),
        "is not the filter [1 3 3 1]",
    ),
    "longer filter": (
        lambda g: replaced(g.synthesis.b8, "resample_filter", torch.ones(12)),
        "is not the filter [1 3 3 1]",
    ),
    "filter of bits": (
        lambda g: replaced(g.synthesis.b8, "resample_filter", torch.ones(4, 4, dtype=torch.bool)),
        "is not the filter [1 3 3 1]",
    ),
    "activation": (
        lambda g: setattr(g.synthesis.b8.conv1, "activation", "swish"),
        "`synthesis.b8.conv1` has activation 'swish', expected 'lrelu'",
    ),
    "activation of nothing": (
        lambda g: setattr(g.mapping.fc1, "activation", None),
        "activation None",
    ),
    "clamp of one layer": (
        lambda g: setattr(g.synthesis.b8.conv1, "conv_clamp", 256),
        "found conv_clamp 256.0, None in",
    ),
    "rate of one layer": (lambda g: setattr(g.mapping.fc1, "bias_gain", 0.1), "found bias_gain"),
    "no rate": (
        lambda g: [vars(layer).pop("bias_gain") for layer in (g.mapping.fc0, g.mapping.fc1)],
        "found bias_gain None, expected a number",
    ),
}


@pytest.mark.parametrize("change", TENSOR_CHANGES)
def test_generators_that_are_not_whole(change: str, tmp_path: Path) -> None:
    changed, found = TENSOR_CHANGES[change]
    assert found in refusal_of(snapshot(changed), tmp_path)


ODD_VALUES: dict[str, Any] = {
    "a tuple that doubles itself": LAUGH,
    "two of them": [LAUGH, LAUGH],
    "a text": "256",
    "a huge number": 10**5000,
    "a number that no float holds": 10**400,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "less than nothing": -1.0,
    "yes": True,
    "a tensor": torch.ones(3),
    "an array": np.ones(3),
    "an empty array": np.ones(0),
    "a list": [256.0],
    "bytes": b"256",
    "a module": persistent("Module"),
    "control characters": "\x1b[2J\nx",
}


@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize("attribute", ["conv_clamp", "activation", "bias_gain"])
def test_odd_attributes_of_modules(attribute: str, value: str, tmp_path: Path) -> None:
    def change(generator: Any) -> None:
        for module in generator.modules():
            if hasattr(module, attribute):
                # Around nn.Module, which would take it for a parameter or a child.
                module.__dict__[attribute] = ODD_VALUES[value]

    with little_work():
        message = refusal_of(snapshot(change), tmp_path)
        assert attribute in message or message.endswith("expected a number above 0")


@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize(
    "option",
    [
        *("conv_clamp", "mapping_lrmul", "num_fp16_res", "nonlinearity", "mapping_nonlinearity"),
        *("normalize_latents", "resample_kernel"),
    ],
)
def test_odd_options_of_tensorflow(option: str, value: str, tmp_path: Path) -> None:
    if (option, value) == ("normalize_latents", "yes"):
        return  # as it should be
    data = networks(lambda state: state["static_kwargs"].update({option: ODD_VALUES[value]}))
    with little_work():
        message = refusal_of(data, tmp_path)
        is_number = message.endswith(("expected a number above 0", "expected 0 to 16384"))
        assert option in message or is_number


TF_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no options": (lambda s: s.pop("static_kwargs"), "without `static_kwargs`"),
    "no variables": (lambda s: s.pop("variables"), "without `variables` and `components`"),
    "variables by name": (lambda s: s.update(variables={"a": 1}), "without `variables`"),
    "no pair": (lambda s: s["variables"].append(("lod",)), "not a pair of name and array"),
    "unknown": (lambda s: s["variables"].append(("hat", np.ones(2))), "a variable `hat` that no"),
    "missing": (
        lambda s: s["components"].update(synthesis=None),
        "expected one `synthesis.b4.const",
    ),
    "too many": (
        lambda s: s["variables"].extend([("lod", 0.0)] * 2000),
        "more than a generator has",
    ),
    "shape": (
        variable("8x8/Conv1/weight", np.ones((3, 3, 2, 3))),
        "`synthesis.b8.conv0.weight` has shape [2, 3, 3, 3]",
    ),
    "axes": (variable("8x8/Conv1/weight", np.ones(3)), "not those of a StyleGAN2 generator"),
    "axes of a mod_weight": (variable("8x8/Conv1/mod_weight", np.ones((1, 2, 3))), "not those of"),
    "number": (variable("8x8/Conv1/weight", 1.0), "not those of a StyleGAN2 generator"),
    "huge number": (variable("8x8/Conv1/noise_strength", 10**400), "not those of a StyleGAN2"),
    "NaN": (variable("8x8/Conv1/bias", np.full(2, np.nan)), "is not all finite numbers"),
    "too large for float32": (variable("8x8/Conv1/bias", np.full(2, 1e300)), "not all finite"),
    "kernel": (lambda s: s["static_kwargs"].update(resample_kernel=[1, 2, 1]), "resample_kernel"),
    "itself": (lambda s: s["components"].update(x=Network(s)), "without"),
}


@pytest.mark.parametrize("change", TF_CHANGES)
def test_tensorflow_networks_that_are_not_whole(change: str, tmp_path: Path) -> None:
    changed, found = TF_CHANGES[change]
    assert found in refusal_of(networks(changed), tmp_path)


def of_tensors(change: dict[str, Tensor | None]) -> bytes:
    tensors: dict[str, Any] = dict(rosinality_tensors(SMALL)) | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return saved({"g_ema": kept, "latent_avg": kept.pop("latent_avg", torch.zeros(4))})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"conv1.conv.weight": None}, "`conv1.conv.weight` is missing"),
        ({"convs.7.hat": torch.ones(1)}, "`convs.7.hat` is not known"),
        ({"conv1.conv.weight": torch.ones(1, 3, 3, 3)}, "conv1.weight` has shape [3, 3, 3]"),
        ({"conv1.conv.weight": torch.ones(2, 3, 3, 3, 3)}, "has shape [2, 3, 3, 3, 3]"),
        ({"to_rgb1.bias": torch.ones(())}, "torgb.bias` has shape []"),
        ({"input.input": torch.ones(1, 3, 4)}, "expected one `synthesis.b4.const` [C H W]"),
        ({"convs.0.conv.blur.kernel": torch.ones(4, 4)}, "is not the filter [1 3 3 1]"),
        ({"convs.0.conv.blur.kernel": torch.ones(4, 4, dtype=torch.bool)}, "is not the filter"),
        ({"to_rgbs.0.upsample.kernel": torch.ones(3, 3)}, "is not the filter [1 3 3 1]"),
        ({"style.1.weight": torch.full((4, 4), float("nan"))}, "is not all finite numbers"),
        ({"latent_avg": torch.ones(())}, "`latent_avg` has shape []"),
        ({"latent_avg": torch.ones(0)}, "`latent_avg` has shape [0]"),
        ({"latent_avg": torch.ones(3)}, "`mapping.w_avg` has shape [3], expected [4]"),
        ({"latent_avg": torch.ones(4, dtype=torch.int32)}, "`latent_avg` is not all finite"),
        ({"latent_avg": torch.full((4,), float("inf"))}, "`latent_avg` is not all finite"),
        ({f"to_rgbs.{i}.bias": torch.ones(1) for i in range(500)}, "found 501 blocks"),
    ],
)
def test_rosinalitys_generators_that_are_not_whole(
    change: dict[str, Tensor | None], found: str, tmp_path: Path
) -> None:
    assert found in refusal_of(of_tensors(change), tmp_path)


def test_our_own_files_hold_finite_numbers_only(tmp_path: Path) -> None:
    network = StyleGAN2(SMALL)
    network.mapping.w_avg.fill_(float("nan"))
    checkpoint.save(tmp_path / "x.safetensors", network, {})
    data = (tmp_path / "x.safetensors").read_bytes()
    assert "`mapping.w_avg` is not all finite numbers" in refusal_of(data, tmp_path)


def test_other_networks_of_a_file_may_be_as_they_like(tmp_path: Path) -> None:
    other = persistent("Discriminator", hats=[1] * 2000)
    for i in range(300):
        other._modules[f"{'x' * 100}{i}"] = persistent("Layer", conv_clamp=LAUGH)
    data = pretend.pickled({"D": other, "G_ema": nvidia_generator(SMALL, TENSORS)})
    assert list(read(data, tmp_path).networks) == ["G_ema"]


def test_small_variables_may_be_equal(tmp_path: Path) -> None:
    """Python keeps each single byte only once: they look like the same memory."""

    def change(state: dict[str, Any]) -> None:
        for layer in ("4x4/Conv", "8x8/Conv0_up", "8x8/Conv1"):
            variable(f"{layer}/noise_strength", np.ones((), dtype="u1"))(state)

    network = read(networks(change), tmp_path).choose(None).build()
    assert float(network.state_dict()["synthesis.b8.conv0.noise_strength"]) == 1.0
