"""The TensorFlow layout: variables by name, options, and the networks that hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets.foreign import literal_tf
from tests.nets.foreign.draw import Draw, mapping_sizes
from tests.nets.foreign.pretend import EasyDict, Network

Arrays = dict[str, literal_tf.Array]


def tf_options(a: Architecture) -> dict[str, Any]:
    """What such a network was asked for; what nobody asked for is not there."""
    options: dict[str, Any] = {
        **{"num_channels": a.image_channels, "resolution": a.image_size[0], "label_size": a.c_dim},
        **{"latent_size": a.z_dim, "dlatent_size": a.w_dim, "mapping_layers": a.mapping_layers},
        **{"mapping_fmaps": a.layer_features or a.w_dim, "randomize_noise": False},
        **{"fmap_base": 16384, "fmap_max": 512, "resample_kernel": [1, 3, 3, 1]},
    }
    asked = {
        "architecture": (a.synthesis, "skip"),
        "conv_clamp": (a.conv_clamp, None),
        "num_fp16_res": (a.num_fp16_res, 0),
        "mapping_lrmul": (a.mapping_lr_multiplier, 0.01),
        "label_fmaps": (a.embed_features, None),
    }
    return options | {name: value for name, (value, usual) in asked.items() if value != usual}


def tf_network(
    name: str,
    version: int,
    options: Mapping[str, Any],
    own: Arrays,
    mapping: Arrays,
    synthesis: Arrays,
) -> Network:
    """A generator with its two components."""
    components = {
        "synthesis": Network(tf_state("G_synthesis", version, options, synthesis)),
        "mapping": Network(tf_state("G_mapping", version, options, mapping)),
    }
    return Network(tf_state(name, version, options, own) | {"components": EasyDict(components)})


def tf_state(
    name: str, version: int, options: Mapping[str, Any], variables: Arrays
) -> dict[str, Any]:
    return {
        "version": version,
        "name": name,
        "static_kwargs": EasyDict(options) if version > 4 else dict(options),
        "components": EasyDict(),
        "build_module_src": "raise SystemExit('the source in a checkpoint was run')\n",
        "build_func_name": f"{name}_main",
        "variables": list(variables.items()),
    }


def tf_variables(
    a: Architecture, seed: int = 0, *, colours_by_lod: bool = False, scalars: bool = True
) -> tuple[Arrays, Arrays, Arrays]:
    """Of the generator itself, of its mapping and of its synthesis.

    scalars: those without axes are scalars of numpy, as a session of TensorFlow gives them; else
    arrays without axes.
    """
    draw, rate = Draw(seed), a.mapping_lr_multiplier

    def normal(*shape: int, std: float = 1.0) -> literal_tf.Array:
        array = draw.normal(*shape, std=std).numpy()
        value: literal_tf.Array = array[()] if scalars else array
        return value

    own = {"lod": normal(), "dlatent_avg": normal(a.w_dim, std=0.3)}
    mapping: Arrays = {}
    for i, (fan_in, fan_out) in enumerate(mapping_sizes(a)):
        mapping[f"Dense{i}/weight"] = normal(fan_in, fan_out, std=1 / rate)
        mapping[f"Dense{i}/bias"] = normal(fan_out, std=0.3 / rate)
    if a.c_dim and a.label_norm == "joint":
        mapping["LabelConcat/weight"] = normal(a.c_dim, a.embed_features or a.w_dim)
    elif a.c_dim:
        mapping["LabelEmbed/weight"] = normal(a.c_dim, a.embed_features or a.w_dim)
        mapping["LabelEmbed/bias"] = normal(a.embed_features or a.w_dim, std=0.3)
    return own, mapping, _tf_synthesis(a, normal, colours_by_lod)


def _tf_synthesis(
    a: Architecture, normal: Callable[..., literal_tf.Array], colours_by_lod: bool
) -> Arrays:
    v: Arrays = {"lod": normal()} if colours_by_lod else {}

    def conv(name: str, inputs: int, outputs: int, size: int = 3) -> None:
        v[f"{name}/weight"] = normal(size, size, inputs, outputs)
        v[f"{name}/bias"] = normal(outputs, std=0.3)
        v[f"{name}/mod_weight"] = normal(a.w_dim, inputs)
        v[f"{name}/mod_bias"] = normal(inputs, std=0.3)
        if size == 3:
            v[f"{name}/noise_strength"] = normal(std=0.5)

    count = len(a.channels)
    for i, ((height, width), channels) in enumerate(zip(a.resolutions, a.channels, strict=True)):
        scope, before = f"{4 << i}x{4 << i}", a.channels[i - 1]
        if i == 0:
            v[f"{scope}/Const/const"] = normal(1, channels, height, width)
            conv(f"{scope}/Conv", channels, channels)
        else:
            conv(f"{scope}/Conv0_up", before, channels)
            conv(f"{scope}/Conv1", channels, channels)
        if a.synthesis == "resnet" and i > 0:
            v[f"{scope}/Skip/weight"] = normal(1, 1, before, channels)
        if colours_by_lod:
            conv(f"ToRGB_lod{count - 1 - i}", channels, a.image_channels, 1)
        elif a.synthesis == "skip" or i == count - 1:
            conv(f"{scope}/ToRGB", channels, a.image_channels, 1)
    for layer in range(2 * count - 1):
        height, width = a.resolutions[(layer + 1) // 2]
        v[f"noise{layer}"] = normal(1, 1, height, width)
    return v
