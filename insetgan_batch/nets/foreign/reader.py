"""A checkpoint of another program → the generators in it. The layout is told by the content."""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.foreign import nvidia, rosinality, tensorflow, torchfile, unpickle
from insetgan_batch.nets.foreign.names import Record, find_class
from insetgan_batch.nets.foreign.outline import (
    Found,
    Settings,
    Tensors,
    check_finite,
    check_generation,
    find,
)
from insetgan_batch.text import one_line

_LARGEST_BYTES = 16 << 30
# Of nested dictionaries, which may hold each other. A training checkpoint has some 2,000 entries.
_DEEPEST = 6
_MOST_ENTRIES = 100_000
_LONGEST_NAME = 200
_MOST_NETWORKS = 16
_SHOWN = 8
_PICKLE_START = b"\x80"
_CONST = re.compile(r"(.*?)synthesis\.b\d+\.const")
_AVERAGED_NAMES = ("G_ema", "Gs", "g_ema")
_ASSUMED_OF_STATE_DICT = (
    "conv_clamp: a state dict does not say; none",
    "mapping_lr_multiplier: a state dict does not say; 0.01",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """What is in a file.

    networks: the generators by the file's own names. others: what else is in it, in words.
    """

    path: Path
    layout: str
    sha256: str
    networks: dict[str, Found]
    others: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        """The generator with averaged weights, else the last one."""
        averaged = [name for name in _AVERAGED_NAMES if name in self.networks]
        averaged += [name for name in self.networks if "ema" in name.lower()]
        return [*averaged, *reversed(self.networks)][0]

    def choose(self, network: str | None) -> Found:
        """A generator by name, the default one for None; raises `CheckpointError`."""
        found = self.networks.get(network or self.default)
        if found is None:
            raise CheckpointError(
                f"{self.path}: found {', '.join(self.networks)}, expected `{network}` among them"
            )
        return found


def read(path: Path) -> Contents:
    """All generators in a file; raises `CheckpointError` that names it. Nothing is executed."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if not 0 < size <= _LARGEST_BYTES:
                raise CheckpointError(
                    f"found {size:,} bytes, expected a checkpoint of 1 to {_LARGEST_BYTES:,}"
                )
            layout, networks, others = _read(path, file)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror or err}") from err
    except CheckpointError as err:
        message = checkpoint.printable(str(err).removeprefix(f"{path}: "))
        raise CheckpointError(f"{path}: {message}") from err
    return Contents(path, layout, sha256, networks, others)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a torch file or of safetensors, by name; of nested dictionaries with a dot
    between the names. For networks that are no generators.

    Raises `CheckpointError` that names the file. Nothing is executed.
    """
    return read_tensors_and_options(path)[0]


def read_tensors_and_options(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same, and the dictionary `opts` that trainings keep beside their weights, if there is
    one.
    """
    try:
        with path.open("rb") as file:
            if _starts_like_safetensors(file):
                return safetensors.torch.load_file(path), {}
            data = _load_pickled(file)
        if not isinstance(data, dict):
            raise CheckpointError(f"found {type(data).__name__}, expected a state dict")
        options = data.get("opts")
        return dict(_tensors_in(data)), options if isinstance(options, dict) else {}
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror or err}") from err
    except safetensors.SafetensorError as err:
        message = checkpoint.printable(str(err))
        raise CheckpointError(f"{path}: not a safetensors file ({message})") from err
    except CheckpointError as err:
        raise CheckpointError(f"{path}: {checkpoint.printable(str(err))}") from err


def _tensors_in(data: dict[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[Any]:
    """(name, tensor) of what is in nested dictionaries."""
    for key, value in data.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, dict) and depth < _DEEPEST:
            yield from _tensors_in(value, f"{prefix}{key}.", depth + 1)


def _read(path: Path, file: BinaryIO) -> tuple[str, dict[str, Found], tuple[str, ...]]:
    """(layout, generators, what else)."""
    if _starts_like_safetensors(file):
        return _of_safetensors(path)
    return _of_data(_load_pickled(file))


def _starts_like_safetensors(file: BinaryIO) -> bool:
    start = file.read(9)
    file.seek(0)
    return start[8:9] == b"{" and not start.startswith(torchfile.ZIP_START)


def _load_pickled(file: BinaryIO) -> Any:
    """The data of a torch file or a pickle."""
    start = file.read(len(torchfile.LEGACY_START))
    file.seek(0)
    if start.startswith(torchfile.ZIP_START):
        return torchfile.load_zip(file, find_class)
    if not start.startswith(_PICKLE_START):
        raise CheckpointError(
            f"it starts with {start[:8]!r}; expected a pickle (.pkl), a torch file (.pt) or"
            " safetensors"
        )
    load = torchfile.load_rows if start == torchfile.LEGACY_START else unpickle.load
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        return load(stream, find_class)


def _of_data(data: Any) -> tuple[str, dict[str, Found], tuple[str, ...]]:
    """A snapshot, a single module, a row of TensorFlow networks, or a state dict."""
    if isinstance(data, dict) and not any(isinstance(value, Record) for value in data.values()):
        return _of_state_dicts(data)
    if isinstance(data, tuple | list) or _is_tensorflow(data):
        row = data if isinstance(data, tuple | list) else [data]
        names = ("G", "D", "Gs") if len(row) == 3 else tuple(f"network{i}" for i in range(len(row)))
        named = dict(zip(names, row, strict=True))
        layout = "TensorFlow pickle of NVIDIA's StyleGAN2"
    else:
        named = data if isinstance(data, dict) else {"G": data}
        layout = "pickle of NVIDIA's stylegan2-ada-pytorch"
    records = {_shown(name): value for name, value in named.items() if isinstance(value, Record)}
    networks = {}
    for name, record in _few(records).items():
        reader: ModuleType = tensorflow if _is_tensorflow(record) else nvidia
        if reader.is_generator(record):
            networks[name] = reader.read(record)
    others = [f"{name}: {r.class_name}" for name, r in records.items() if name not in networks]
    found = f"found {', '.join(_some(others)) or type(data).__name__}"
    return layout, _some_of(networks, found), _some(others)


def _is_tensorflow(data: Any) -> bool:
    return isinstance(data, Record) and data.class_name.startswith("dnnlib.")


def _of_safetensors(path: Path) -> tuple[str, dict[str, Found], tuple[str, ...]]:
    """Ours, or a plain state dict."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_count(len(file.keys()))
        if checkpoint.HEADER_KEY in metadata:
            network = checkpoint.load(path).network
            found = Found(network.architecture, dict(network.state_dict()), ())
            check_finite(found.tensors)
            return "safetensors of this package", {"generator": found}, ()
        return _of_state_dicts(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, LookupError, RuntimeError, OverflowError) as err:
        raise CheckpointError(
            f"not a whole safetensors file ({one_line(err, 160)}); expected one as safetensors"
            " writes it: fetch it again"
        ) from err


def _of_state_dicts(data: Any) -> tuple[str, dict[str, Found], tuple[str, ...]]:
    """Every generator whose tensors stand somewhere in nested dictionaries."""
    tensors = _tensors(data)
    check_generation(tensors)
    by_rosinality = [name.removesuffix(rosinality.ANCHOR) for name in tensors if _ends(name)]
    by_nvidia = [match[1] for name in tensors if (match := _CONST.fullmatch(name))]
    _few({prefix: prefix for prefix in (*by_rosinality, *by_nvidia)})
    networks = {}
    for prefix in by_rosinality:
        state = _below(tensors, prefix, rosinality.ROOTS)
        average = tensors.get(f"{prefix}latent_avg", tensors.get("latent_avg"))
        networks[_name_of(prefix)] = rosinality.read(state, average)
    for prefix in by_nvidia:
        state = _below(tensors, prefix, ("mapping", "synthesis"))
        networks[_name_of(prefix)] = find(state, Settings(), _ASSUMED_OF_STATE_DICT)
    layout = (
        "state dict in rosinality's layout" if by_rosinality else "state dict in NVIDIA's names"
    )
    known = (*by_rosinality, *by_nvidia)
    others = {name.split(".")[0] for name in tensors if not name.startswith(known)} - {"latent_avg"}
    shown = ", ".join(_shown(name) for name in sorted(tensors)[:3]) or "no tensor at all"
    return layout, _some_of(networks, f"found {shown}"), _some(sorted(others))


def _tensors(data: Any) -> Tensors:
    """The tensors of nested dictionaries, by their keys joined with dots."""
    tensors: Tensors = {}
    for count, (name, value) in enumerate(_flattened(data, "", 0)):
        _check_count(count)
        if isinstance(value, Tensor):
            tensors[name] = value
    return tensors


def _check_count(entries: int) -> None:
    if entries > _MOST_ENTRIES:
        raise CheckpointError(f"found more than {_MOST_ENTRIES:,} entries; no checkpoint has")


def _flattened(data: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    """All entries of nested dictionaries."""
    if depth > _DEEPEST or not isinstance(data, dict):
        return
    for key, value in data.items():
        if not (isinstance(key, str | int) and len(name := f"{prefix}{key}") <= _LONGEST_NAME):
            yield "", None
            continue
        yield name, value
        yield from _flattened(value, f"{name}.", depth + 1)


def _ends(name: str) -> bool:
    return name == rosinality.ANCHOR or name.endswith(f".{rosinality.ANCHOR}")


def _below(tensors: Tensors, prefix: str, roots: tuple[str, ...]) -> Tensors:
    """The tensors of one generator, by their names in it."""
    below = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return {name: tensor for name, tensor in below.items() if name.split(".")[0] in roots}


def _name_of(prefix: str) -> str:
    return _shown(prefix.strip(".") or "generator")


def _shown(name: Any) -> str:
    """A name of a file, for people."""
    return checkpoint.printable(str(name)[:_LONGEST_NAME], 80)


def _some(names: Sequence[str]) -> tuple[str, ...]:
    """The first of many."""
    more = [f"and {len(names) - _SHOWN} more"] * (len(names) > _SHOWN)
    return (*(_shown(name) for name in names[:_SHOWN]), *more)


def _few(networks: dict[str, Any]) -> dict[str, Any]:
    if len(networks) > _MOST_NETWORKS:
        raise CheckpointError(
            f"found {len(networks)} networks, expected {_MOST_NETWORKS} at the most"
        )
    return networks


def _some_of(networks: dict[str, Found], found: str) -> dict[str, Found]:
    if not networks:
        raise CheckpointError(
            f"{found[:200]}; expected a StyleGAN2 generator: NVIDIA's pickles (PyTorch or"
            " TensorFlow), rosinality's .pt, or a state dict with the names of one of them"
        )
    return networks
