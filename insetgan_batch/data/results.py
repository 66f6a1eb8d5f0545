"""What one item leaves behind: images, latents, the course of its losses, and where it comes from.

`save` uploads the files of an attempt and returns the record that a commit makes final; until then
nobody reads them. The record names every file with its sha256, and the readers here check it: a
result that was damaged on the way is an error, never a picture.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from PIL import Image

from insetgan_batch.data import provenance as origin
from insetgan_batch.data.commits import RunStore
from insetgan_batch.errors import DamagedError, NotFoundError
from insetgan_batch.records import Item
from insetgan_batch.text import one_line

_LATENTS, _LOSSES, _FILM = "latents", "losses", "film"
_FRAME_MS, _LAST_FRAME_MS = 83, 1000  # a dozen frames a second; the result stays a while
_FILM_QUALITY = 90  # lossless, a film of a hundred frames would weigh ten times as much
_SCHEMA = pa.schema(
    [
        ("round", pa.int32()),
        ("phase", pa.string()),
        ("step", pa.int32()),
        ("term", pa.string()),
        ("raw", pa.float32()),
        ("weight", pa.float32()),
        ("weighted", pa.float32()),
    ]
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LossTable:
    """Every loss of every step of one item: columns of equal length, one row per step and term.

    round: from 1. step: the item's own count of steps of the generator that moved (phase), from 0.
    term: like `canvas.coarse.l1`. raw: before the weight; weight: the one in force, ramp included.
    """

    round: np.ndarray[Any, np.dtype[np.int32]]
    phase: list[str]
    step: np.ndarray[Any, np.dtype[np.int32]]
    term: list[str]
    raw: np.ndarray[Any, np.dtype[np.float32]]
    weight: np.ndarray[Any, np.dtype[np.float32]]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in self.__slots__}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of a loss table differ in length: {lengths}")

    @property
    def weighted(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """raw x weight: what the optimiser saw; NaN where an infinite loss weighs nothing."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(self.raw, np.float32) * np.asarray(self.weight, np.float32)

    def to_parquet(self) -> bytes:
        """The table as a Parquet file; `weighted` is a column of its own."""
        arrays = [pa.array(getattr(self, field.name), field.type) for field in _SCHEMA]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(arrays, schema=_SCHEMA), sink, compression="zstd")
        return bytes(sink.getvalue().to_pybytes())

    @classmethod
    def from_parquet(cls, data: bytes) -> LossTable:
        """The table that `to_parquet` wrote; raises `DamagedError` for anything else."""
        try:
            table = pq.read_table(pa.BufferReader(data)).select(_SCHEMA.names).cast(_SCHEMA)
            columns = {name: table[name] for name in cls.__slots__}
        except (pa.ArrowException, OSError, ValueError, KeyError) as err:
            raise DamagedError(f"not a loss table: {one_line(err)}") from err
        return cls(
            **{
                name: column.to_pylist() if name in ("phase", "term") else column.to_numpy()
                for name, column in columns.items()
            }
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All of one attempt at one item.

    images: uint8 [H W 3] by name; `image` must be there, and is what packs and pages show. steps:
    of the optimiser, 1 for a network that is run once. measures: numbers as the method declares
    them; facts: texts, numbers and lists of numbers by name. latents: arrays by name; losses: of
    every step; both are left out where there are none. film: earlier states of `image`, none for no
    film. given: the images that are pictures of the row's own, which are not marked as synthetic.
    """

    item: Item
    attempt: str
    images: dict[str, np.ndarray[Any, np.dtype[np.uint8]]]
    provenance: dict[str, Any]
    seconds: float
    steps: int = 1
    measures: dict[str, float | None] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    latents: dict[str, np.ndarray[Any, Any]] = dataclasses.field(default_factory=dict)
    losses: LossTable | None = None
    film: Sequence[np.ndarray[Any, np.dtype[np.uint8]]] = ()
    given: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if "image" not in self.images or self.images.keys() & {_LATENTS, _LOSSES, _FILM}:
            raise ValueError(f"images {sorted(self.images)}: one must be `image`, none a table")
        for name, image in self.images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"image {name} is {image.dtype} {image.shape}; expected [H W 3]")


def save(store: RunStore, result: Result) -> dict[str, Any]:
    """Upload the attempt's files; returns the record to commit, and commits nothing.

    Its `files` are named as the images are, plus `latents`, `losses` and `film` where there are
    such; each entry holds `key`, `sha256` and `bytes`. Every image carries its provenance.
    """
    provenance = {**result.provenance, "synthetic": True}
    prefix = store.item_prefix(result.item.item_id, result.attempt)
    contents = {
        name: (
            f"{name}.png",
            origin.to_png(image, result.item, provenance | {"synthetic": name not in result.given}),
        )
        for name, image in result.images.items()
    }
    # safetensors writes memory as it lies: a transposed view would come back scrambled.
    latents = {name: np.asarray(latent, order="C") for name, latent in result.latents.items()}
    if latents:
        contents[_LATENTS] = ("latents.safetensors", safetensors.numpy.save(latents))
    if result.losses is not None:
        contents[_LOSSES] = ("losses.parquet", result.losses.to_parquet())
    if result.film:
        contents[_FILM] = ("film.webp", _to_webp([*result.film, result.images["image"]]))
    files = {}
    for name, (file_name, data) in contents.items():
        key = f"{prefix}/{file_name}"
        store.storage.put(key, data)
        files[name] = {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return {
        "item_id": result.item.item_id,
        "attempt": result.attempt,
        "files": files,
        "item": dataclasses.asdict(result.item),
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "measures": result.measures,
        "facts": result.facts,
        "machine": platform.node(),
        "provenance": provenance,
    }


def read_file(store: RunStore, record: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a file that a commit record names, checked.

    Raises `NotFoundError` if the record names none such, `DamagedError` if it is gone or its sha256
    is another one.
    """
    if name not in record["files"]:
        raise NotFoundError(
            f"item {record['item_id']} has no file {name!r}; there are {', '.join(record['files'])}"
        )
    key, expected = record["files"][name]["key"], record["files"][name]["sha256"]
    try:
        data = store.storage.get(key)
    except NotFoundError as err:
        raise DamagedError(f"{store.storage.uri}/{key}: missing; a commit names it") from err
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DamagedError(
            f"{store.storage.uri}/{key}: damaged: sha256 is {found}, the commit says {expected}"
        )
    return data


def read_image(
    store: RunStore, record: Mapping[str, Any], name: str = "image"
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image of a committed item, uint8 [H W 3]. Raises as `read_file` does."""
    with Image.open(io.BytesIO(read_file(store, record, name))) as image:
        return np.asarray(image.convert("RGB"))


def read_losses(store: RunStore, record: Mapping[str, Any]) -> LossTable | None:
    """The losses of a committed item, None where it has none. Raises as `read_file` does."""
    if _LOSSES not in record["files"]:
        return None
    return LossTable.from_parquet(read_file(store, record, _LOSSES))


def read_latents(store: RunStore, record: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The latents of a committed item, by name. Raises as `read_file` does."""
    return dict(safetensors.numpy.load(read_file(store, record, _LATENTS)))


def _to_webp(frames: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> bytes:
    """An animated WebP that stays at its last frame for a while, and begins again."""
    first, *others = (Image.fromarray(frame) for frame in frames)
    durations = [_FRAME_MS] * len(others) + [_LAST_FRAME_MS]
    sink = io.BytesIO()
    first.save(
        sink,
        format="WEBP",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        quality=_FILM_QUALITY,
    )
    return sink.getvalue()
