"""Checkpoints as other programs would have written them, and what each of them paints.

Every file is fabricated from an `Architecture` and random weights (all of them: biases, noise and
`w_avg` too), drawn under the names and in the shapes of its own layout. `Original.map_to_w` and
`Original.paint` are the literal float64 results in that layout's own conventions.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from insetgan_batch.nets.stylegan2 import Architecture
from tests.nets import literal
from tests.nets.foreign import literal_rosinality, literal_tf
from tests.nets.foreign.draw import Draw
from tests.nets.foreign.nvidia_parts import nvidia_discriminator, nvidia_generator, nvidia_tensors
from tests.nets.foreign.pretend import EasyDict, Network, persistent, pickled, stored_on
from tests.nets.foreign.rosinality_parts import rosinality_tensors
from tests.nets.foreign.tf_parts import tf_network, tf_options, tf_state, tf_variables


@dataclasses.dataclass(frozen=True)
class Original:
    """A file, and the float64 results of the generator that people mean by it.

    map_to_w: z `[n z]` and labels `[n c_dim]` to w. paint: ws `[n l c]` to images, constant noise.
    w_avg: None where the file has none.
    """

    data: bytes
    map_to_w: Callable[[Tensor, Tensor | None], Tensor]
    paint: Callable[[Tensor], Tensor]
    w_avg: Tensor | None


# NVIDIA, PyTorch


def nvidia(
    a: Architecture,
    *,
    seed: int = 0,
    content: Literal["snapshot", "converted", "G_ema", "bare"] = "snapshot",
    use_noise: bool = True,
    protocol: int = 4,
    old_numpy: bool = True,
    old_torch: bool = True,
) -> Original:
    """A pickle of stylegan2-ada-pytorch.

    content: all that a training leaves, the same without options, `{"G_ema": G}`, or G itself.
    """
    tensors = nvidia_tensors(a, seed, use_noise=use_noise)
    generator = nvidia_generator(a, tensors)
    whole: object = generator
    if content == "G_ema":
        whole = {"G_ema": generator}
    if content in ("snapshot", "converted"):
        options = {"class_name": "training.dataset.ImageFolderDataset", "path": "people.zip"}
        numbers = {"resolution": np.int64(a.image_size[0]), "xflip": np.bool_(True)}
        whole = snapshot = {
            "training_set_kwargs": EasyDict(**options, **numbers, use_labels=a.c_dim > 0),
            "G": nvidia_generator(a, nvidia_tensors(a, seed + 1, use_noise=use_noise)),
            "D": nvidia_discriminator(a),
            "G_ema": generator,
            "augment_pipe": persistent("AugmentPipe", p=torch.tensor(0.25), xflip=1.0),
        }
        if content == "converted":
            snapshot |= {"training_set_kwargs": None, "augment_pipe": None}
    data = pickled(whole, protocol, old_numpy=old_numpy, old_torch=old_torch)
    return _described(data, a, tensors)


def _described(data: bytes, a: Architecture, tensors: dict[str, Tensor]) -> Original:
    """A file with tensors by NVIDIA's names."""
    network = literal.Network(
        tensors, a.mapping_lr_multiplier, a.conv_clamp, a.label_norm, a.synthesis
    )
    return Original(
        data,
        lambda z, c: literal.map_to_w(network, z, c),
        lambda ws: literal.paint(network, ws),
        tensors.get("mapping.w_avg"),
    )


# NVIDIA, TensorFlow


def tensorflow(
    a: Architecture,
    *,
    seed: int = 0,
    version: Literal[4, 5, 6] = 6,
    content: Literal["tuple", "list", "Gs"] = "tuple",
    colours_by_lod: bool = False,
    scalars: bool = True,
    protocol: int = 4,
    old_numpy: bool = True,
) -> Original:
    """A pickle of stylegan2 (version 4) or stylegan2-ada: G, D, and the average Gs that is meant,
    or that alone.

    colours_by_lod: the progressive variant of `orig`, whose RGB layers are named by level of
    detail, and of which only level 0 is used. scalars: see `tf_variables`.
    """
    options, how = tf_options(a), {"colours_by_lod": colours_by_lod, "scalars": scalars}
    own, mapping, synthesis = tf_variables(a, seed, **how)
    running = tf_variables(a, seed + 1, **how)
    others = [
        tf_network("G", version, options, *running),
        Network(tf_state("D", version, options, {"4x4/Conv/weight": np.ones((3, 3), "f4")})),
    ]
    meant = tf_network("Gs", version, options, own, mapping, synthesis)
    whole = {"tuple": (*others, meant), "list": [*others, meant], "Gs": meant}[content]
    data = pickled(whole, protocol, old_numpy=old_numpy)

    def map_to_w(z: Tensor, c: Tensor | None) -> Tensor:
        labels = None if c is None else c.numpy().astype(np.float64)
        return torch.from_numpy(literal_tf.map_to_dlatents(mapping, options, z.numpy(), labels))

    def paint(ws: Tensor) -> Tensor:
        return torch.from_numpy(literal_tf.paint(synthesis, options, ws.numpy()))

    return Original(data, map_to_w, paint, torch.from_numpy(own["dlatent_avg"]))


# Rosinality


def rosinality(
    a: Architecture,
    *,
    seed: int = 0,
    training: bool = False,
    zipped: bool = True,
    location: str = "cpu",
) -> Original:
    """A .pt file: a converted one, or a checkpoint of a training, which has no average latent.

    zipped: the format of torch since 1.6. location: the device that the tensors were saved from.
    """
    assert a.z_dim == a.w_dim
    tensors = rosinality_tensors(a, seed)
    average = Draw(seed + 1).normal(a.w_dim, std=0.3)
    whole: dict[str, Any] = {"g_ema": tensors, "latent_avg": average}
    if training:
        moments = {"step": 7, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}
        optimiser = {"state": {0: moments}, "param_groups": [{"lr": 0.002, "params": [0]}]}
        whole = {
            "g": rosinality_tensors(a, seed + 2),
            "d": OrderedDict({"convs.0.0.weight": torch.ones(3, 3, 1, 1)}),
            "g_ema": tensors,
            "g_optim": optimiser,
            "d_optim": optimiser,
            "args": argparse.Namespace(size=a.image_size[0], latent=a.w_dim, n_mlp=8, ckpt=None),
            "ada_aug_p": 0.0,
        }
    with stored_on(location):
        data = _saved(whole, zipped=zipped)
    return Original(
        data,
        lambda z, _: literal_rosinality.map_to_latents(tensors, z),
        lambda ws: literal_rosinality.paint(tensors, ws),
        None if training else average,
    )


def _saved(whole: object, *, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(whole, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


# Plain state dicts


def state_dict(
    a: Architecture,
    *,
    seed: int = 0,
    names: Literal["nvidia", "rosinality"] = "nvidia",
    container: Literal["zip", "legacy", "safetensors"] = "zip",
    prefix: str = "",
) -> Original:
    """Only tensors. The filters are there, as `state_dict()` of the original would give them."""
    if names == "rosinality":
        found: dict[str, Tensor] = dict(rosinality_tensors(a, seed))
        original = dataclasses.replace(rosinality(a, seed=seed), w_avg=None)
    else:
        tensors = nvidia_tensors(a, seed)
        found = nvidia_generator(a, tensors).state_dict()
        original = _described(b"", a, tensors)
    found = {f"{prefix}{name}": tensor.contiguous() for name, tensor in found.items()}
    if container == "safetensors":
        data = safetensors.torch.save({name: tensor.clone() for name, tensor in found.items()})
    else:
        whole = OrderedDict(found)
        vars(whole)["_metadata"] = OrderedDict({"": {"version": 1}})  # as torch's have
        data = _saved(whole, zipped=container == "zip")
    return dataclasses.replace(original, data=data)
