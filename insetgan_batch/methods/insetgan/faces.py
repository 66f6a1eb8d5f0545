"""Photographs → a manifest of their faces: found, cut out as a generator's own, one row each.

Beside the manifest `faces.parquet` lie `faces/<item>.png` (what its rows name), `faces-preview.jpg`
(the first faces, before and after) and `faces-skipped.csv` (each picture without a face that can be
used, and why). The manifest is written last: where there is one, all that it names is there.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from insetgan_batch.data import inputs, manifest, models, pictures, uris
from insetgan_batch.data.landmarks import Points
from insetgan_batch.data.storage import Storage, local_path, locate, open_storage
from insetgan_batch.errors import BadInputError, ConfigError
from insetgan_batch.methods.insetgan import alignment, found_faces
from insetgan_batch.methods.insetgan.alignment import FFHQ, Frame
from insetgan_batch.methods.insetgan.images import to_pixels
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.nets.detector import Face, PhotographFaces
from insetgan_batch.nets.devices import best_device
from insetgan_batch.nets.generator import Generator
from insetgan_batch.records import CONSENT_NOTE, Item

FFHQ_SIZE_PX = 1024
_LEAST_PROBABILITY = 0.9
_MEASURED_SEEDS = 32
_LEAST_MEASURED = 8  # of them, with a face
_NEARLY = 0.05  # a generator whose frame is so near to FFHQ's learned from FFHQ
_MOST_IN_PREVIEW = 40
_LEAST_FACE = 30  # a face is at least such a part of the longer side: no narrower picture has one
_ENDING, _PREVIEW, _SKIPPED = ".parquet", "-preview.jpg", "-skipped.csv"
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_SECOND_LOOK = Frame(zoom=1.5, down=0.2)
_SECOND_LOOK_PX = 256


@dataclasses.dataclass(frozen=True, slots=True)
class FaceCrop:
    """How faces are cut out: the generator's frame, and the side of its pictures in pixels."""

    frame: Frame = FFHQ
    size: int = FFHQ_SIZE_PX


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FaceSelection:
    """Which faces become rows. bodies: rows of each face, with the seeds 0, 1, ... landmarks: of
    each picture by name, instead of looking for them. consent_note: kept with each row's results.
    """

    which: Literal["all", "largest"] = "all"
    bodies: int = 1
    inset: str = "face"
    landmarks: Mapping[str, list[Points]] = dataclasses.field(default_factory=dict)
    consent_note: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What came of it. skipped: why, by picture."""

    pictures: int
    faces: int
    rows: int
    skipped: dict[str, str]
    manifest: str
    preview: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A face of a picture; probability: the detector's, None for given landmarks."""

    landmarks: Points
    probability: float | None


def cut_for(model: str) -> FaceCrop:
    """How the faces of a generator are cut out, measured in those that it paints.

    Raises `CheckpointError`, `StorageError`, and `ConfigError` where it paints no faces.
    """
    generator = models.loaded(models.fetch(model), lambda path: Generator.load(path, best_device()))
    finder = PhotographFaces(best_device())
    painted = to_pixels(generator.images_of_seeds(range(_MEASURED_SEEDS), 0.7)).cpu().numpy()
    found = [find_faces(Image.fromarray(image), finder) for image in painted]
    faces = [of_one[0].landmarks for of_one in found if of_one]
    if len(faces) < _LEAST_MEASURED or generator.height != generator.width:
        raise ConfigError(
            f"{model}: found a face in {len(faces)} of {_MEASURED_SEEDS} pictures of"
            f" {generator.height}x{generator.width} that it paints; expected a generator of faces"
        )
    frame = alignment.frame_of(faces, generator.height)
    is_ffhq = max(abs(frame.zoom - FFHQ.zoom), abs(frame.down - FFHQ.down)) < _NEARLY
    return FaceCrop(FFHQ if is_ffhq else frame, generator.height)


def manifest_in(
    out: str, folder: str, model: str, selection: FaceSelection, say: Callable[[str], None]
) -> str:
    """The manifest of a folder's faces in a run's own prefix: made, or there already.

    Raises what `cut_for` and `make_manifest` raise.
    """
    uri = f"{out.rstrip('/')}/faces{_ENDING}"
    storage, key = locate(uri)
    if not storage.exists(key):
        say("looking how the generator's faces are cut out")
        made = make_manifest(folder, uri, cut_for(model), selection, say)
        say(f"{made.faces} faces in {made.pictures} pictures; look: {made.preview}")
    return uri


def make_manifest(
    folder: str,
    out: str,
    cut: FaceCrop,
    selection: FaceSelection,
    say: Callable[[str], None] = lambda text: None,
) -> Made:
    """Find, cut out and write; `out` is the manifest's URI and ends with .parquet.

    Raises `ConfigError` where there is nothing to write, and `StorageError`.
    """
    if not out.endswith(_ENDING):
        raise ConfigError(f"--out {out}: expected the name of a manifest: NAME{_ENDING}")
    storage, key = locate(out)
    stem = key.removesuffix(_ENDING)
    names = _names(folder, out)
    if not names:
        raise ConfigError(f"{folder}: no files; expected a folder or a prefix of pictures")
    items: list[Item] = []
    pairs: list[found_faces.Pair] = []
    skipped: dict[str, str] = {}
    hashes: dict[str, str] = {}
    ids: set[str] = set()
    finder = PhotographFaces(best_device())
    for number, name in enumerate(names):
        say(f"picture {number + 1} of {len(names)}: {len(items) // selection.bodies} faces so far")
        try:
            data = inputs.read(uris.child(folder, name))
            _refuse_repeated(name, data, hashes)
            picture = pictures.read(data, name)
            found = _faces(picture, name, finder, selection)
            for index, face in enumerate(found):
                square = alignment.square_of(face.landmarks, cut.frame)
                aligned = alignment.cut_out(picture, square, cut.size)
                face_id = _new_id(name, index, len(found), ids)
                uri = _write(storage, f"{stem}/{face_id}.png", aligned)
                photograph = _readable(f"{folder.rstrip('/')}/{name}")
                items += _rows(face_id, uri, face, photograph, selection)
                if len(pairs) < _MOST_IN_PREVIEW:
                    pairs.append(found_faces.pair(picture, face.landmarks, square, aligned))
        except BadInputError as err:
            skipped[_readable(name)] = _readable(str(err))
    storage.put(f"{stem}{_SKIPPED}", _csv(skipped))
    if not items:
        first = next(iter(skipped.values()))
        raise ConfigError(
            f"{folder}: no face in any of {len(names)} files, see {stem}{_SKIPPED}; the first"
            f" one: {first}"
        )
    storage.put(f"{stem}{_PREVIEW}", found_faces.sheet(pairs))
    rows = manifest.write(out, items, schema([selection.inset]))
    preview = f"{out.removesuffix(_ENDING)}{_PREVIEW}"
    return Made(len(names), rows // selection.bodies, rows, skipped, out, preview)


def find_faces(picture: Image.Image, finder: PhotographFaces) -> list[Face]:
    """The faces of an RGB picture, the largest first.

    Each is looked at twice: as it is, and cut out by what was seen first. MTCNN's landmarks depend
    on how large a face is and how it is turned; in the second look all are upright and of one size.
    """
    return [_seen_again(picture, face, finder) for face in finder.find(np.array(picture))]


def _seen_again(picture: Image.Image, face: Face, finder: PhotographFaces) -> Face:
    """The face with the landmarks of the second look; as it was where that sees nothing."""
    try:
        square = alignment.square_of(face.landmarks, _SECOND_LOOK)
        again = finder.find(np.array(alignment.cut_out(picture, square, _SECOND_LOOK_PX)))
    except BadInputError:
        return face
    middle = np.array([_SECOND_LOOK_PX / 2, _SECOND_LOOK_PX / 2])
    near = [a for a in again if math.dist(a.landmarks.mean(axis=0), middle) < _SECOND_LOOK_PX / 5]
    if not near:
        return face
    landmarks = square.outside(near[0].landmarks / _SECOND_LOOK_PX)
    return dataclasses.replace(face, landmarks=landmarks)


def _names(folder: str, out: str) -> list[str]:
    """What lies in the folder, but for what systems and this program leave in folders."""
    path = local_path(folder)
    listed = open_storage(folder).list("") if path is None else _walk(path)
    found = sorted(name for name in listed if not _is_hidden(name))
    everything = set(found)
    made = [name.removesuffix(_SKIPPED) for name in found if name.endswith(_SKIPPED)]
    stems = [stem for stem in made if f"{stem}{_ENDING}" in everything]
    # The manifest is written last: of a run that was broken off there are only faces.
    if (own := _below(folder, out)) is not None:
        stems.append(own.removesuffix(_ENDING))
    return [name for name in found if not _is_made(name, stems)]


def _walk(folder: Path) -> Iterator[str]:
    """Every entry, by its name; what cannot be listed too, so that somebody says why."""
    unlisted: list[str] = []
    for root, folders, names in os.walk(folder, onerror=lambda err: unlisted.append(err.filename)):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        for name in (*names, *links):
            yield os.path.relpath(os.path.join(root, name), folder)
    for name in unlisted:
        if Path(name) != folder:
            yield os.path.relpath(name, folder)


def _below(folder: str, out: str) -> str | None:
    """The name of a manifest as the folder lists it; None where it lies elsewhere."""
    path, target = local_path(folder), local_path(out)
    if path and target:
        path, target = path.resolve(), target.resolve()
        return str(target.relative_to(path)) if target.is_relative_to(path) else None
    prefix = f"{folder.rstrip('/')}/"
    return out.removeprefix(prefix) if out.startswith(prefix) else None


def _is_hidden(name: str) -> bool:
    """What systems leave in folders (.DS_Store, Thumbs.db, S3's own folders) is no picture that
    fails.
    """
    last = name.rpartition("/")[2]
    return not last or last.startswith(".") or last in ("Thumbs.db", "desktop.ini")


def _is_made(name: str, stems: Collection[str]) -> bool:
    """Whether it is of a manifest that this program has made here."""
    endings = (_ENDING, _PREVIEW, _SKIPPED)
    return any(
        name.startswith(f"{stem}/") or name in [f"{stem}{ending}" for ending in endings]
        for stem in stems
    )


def _readable(name: str) -> str:
    """On one line, and with escapes where it is not UTF-8: names of files may be anything."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _refuse_repeated(name: str, data: bytes, hashes: dict[str, str]) -> None:
    first = hashes.setdefault(hashlib.sha256(data).hexdigest(), name)
    if first != name:
        raise BadInputError(f"{name}: the same file as {first}")


def _faces(
    picture: Image.Image, name: str, finder: PhotographFaces, selection: FaceSelection
) -> list[_Found]:
    """The faces that become rows, the largest first; `BadInputError` where there is none."""
    if name in selection.landmarks:
        return [_Found(points, None) for points in selection.landmarks[name]]
    narrow = max(picture.size) > _LEAST_FACE * min(picture.size)
    found = [] if narrow else find_faces(picture, finder)
    sure = [
        _Found(face.landmarks, face.probability)
        for face in found
        if face.probability >= _LEAST_PROBABILITY
    ]
    if not sure:
        doubt = f", only something with probability {found[0].probability:.2f}" if found else ""
        raise BadInputError(
            f"{name}: no face found{doubt}; expected one of at least a thirtieth of the picture's"
            " longer side, or its landmarks"
        )
    return sure[:1] if selection.which == "largest" else sure


def _new_id(name: str, index: int, count: int, ids: set[str]) -> str:
    """The picture's name in the letters of an id, with a number where it has several faces."""
    base = re.sub(r"[^A-Za-z0-9_-]+", "_", name.rpartition(".")[0] or name)[:80]
    wanted = f"{base}-face{index}" if count > 1 else base
    face_id = wanted
    number = 1
    while face_id in ids:
        number += 1
        face_id = f"{wanted}-{number}"
    ids.add(face_id)
    return face_id


def _write(storage: Storage, key: str, face: Image.Image) -> str:
    """A PNG beside the manifest; returns its URI."""
    buffer = io.BytesIO()
    face.save(buffer, "PNG")
    storage.put(key, buffer.getvalue())
    return uris.child(storage.uri, key)


def _rows(
    face_id: str, uri: str, face: _Found, picture: str, selection: FaceSelection
) -> Iterator[Item]:
    """One row for each body."""
    meta = {
        "picture": picture,
        "landmarks": [round(v, 2) for v in face.landmarks.ravel().tolist()],
        "face_probability": face.probability,
        CONSENT_NOTE: selection.consent_note,
    }
    for seed in range(selection.bodies):
        yield Item(
            item_id=f"{face_id}-body{seed}" if selection.bodies > 1 else face_id,
            inputs={f"{selection.inset}_image": uri},
            seed=seed,
            meta={name: value for name, value in meta.items() if value is not None},
        )


def _csv(skipped: Mapping[str, str]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["picture", "reason"])
    writer.writerows(skipped.items())
    return buffer.getvalue().encode()
