"""A model's name → its file on this machine: `demo:canvas`, a path, `file://`, `s3://`, `memory://`.

Behind a name may stand `#sha256=<64 hexadecimal digits>`: the file must be that one. Files of this
machine and of the package are used where they are. Others are fetched once per machine, into
`$INSETGAN_BATCH_CACHE/<sha256>/<name>` (else `$XDG_CACHE_HOME/insetgan-batch`, else
`~/.cache/insetgan-batch`); all actors then map that one file and share its pages.

Every file is hashed each time that it is fetched, and again when it has been loaded: what a disk or
a person has changed meanwhile is found out. What lies damaged in the cache is fetched again.

Why a directory for each sha256, and not a file of that name: errors and metrics go by the name of
the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from insetgan_batch.data import locks
from insetgan_batch.data.storage import Writable, disk_error, local_path, locate
from insetgan_batch.errors import CheckpointError, ConfigError, NotFoundError

_CACHE = "INSETGAN_BATCH_CACHE"
_PART = "part-"  # what a download is called until it is through
DEMO_PREFIX = "demo:"
_DEMO = Path(__file__).parents[1] / "demo"
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """A file of weights on this machine. name: the same file for any process on any machine."""

    path: Path
    sha256: str
    name: str


def split_model(model: str) -> tuple[str, str | None]:
    """(where a model's file is, the sha256 that it must have) of `<where>[#sha256=<64 digits>]`.

    Raises `ValueError` for a demo model that there is not, and for a sha256 that is none.
    """
    where, mark, digits = model.partition("#sha256=")
    if mark and not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise ValueError(f"{model!r}, expected 64 hexadecimal digits after `#sha256=`")
    if where.startswith(DEMO_PREFIX) and where.removeprefix(DEMO_PREFIX) not in of_demo():
        names = ", ".join(f"{DEMO_PREFIX}{name}" for name in of_demo())
        raise ValueError(f"{model!r}, expected one of the demo's: {names}")
    return where, digits.lower() or None


def fetch(model: str) -> Model:
    """The file of a model, on this machine's disk.

    Without a sha256 in its name a file of a store is fetched each time, to learn it. Raises
    `ConfigError` for a name that is none, `CheckpointError` where there is no such file or another
    than the name says, and `StorageError`.
    """
    try:
        where, wanted = split_model(model)
    except ValueError as err:
        raise ConfigError(f"the model is {err}") from err
    if where.startswith(DEMO_PREFIX):
        demo = of_package(where.removeprefix(DEMO_PREFIX))
        _check(demo.sha256, wanted, where)
        return demo
    if local := local_path(where):
        path, name = local, local.as_uri()
    else:
        path = _from_store(where, wanted)
        return Model(path, path.parent.name, f"{where}#sha256={path.parent.name}")
    sha256 = _check(_sha256(path, where), wanted, where)
    return Model(path, sha256, f"{name}#sha256={sha256}")


def of_package(name: str) -> Model:
    """A network of the package: one of the demo's models, or `parts`.

    Raises `CheckpointError` where its file is not the one that the package came with.
    """
    path, where = demo_path(name), f"{DEMO_PREFIX}{name}"
    found, expected = _sha256(path, where), of_demo()[name]
    if found != expected:
        raise CheckpointError(
            f"{path}: its sha256 is {found}, expected {expected}: this file of the package is"
            " damaged; install insetgan-batch again"
        )
    return Model(path, found, f"{where}#sha256={found}")


def loaded(model: Model, read: Callable[[Path], _T]) -> _T:
    """What `read` makes of a model's file; `CheckpointError` if that has become another one."""
    found, where = read(model.path), model.name.rpartition("#sha256=")[0]
    _check(_sha256(model.path, where), model.sha256, where)
    return found


@functools.cache
def of_demo() -> dict[str, str]:
    """The networks of the package, as much a part of it as its code: name → sha256 of its file."""
    lines = (_DEMO / "SHA256SUMS").read_text().splitlines()
    return {name.removesuffix(".safetensors"): sha256 for sha256, name in map(str.split, lines)}


def demo_path(name: str) -> Path:
    """The file of a network of the package: one of the demo's models, or `parts`."""
    return _DEMO / f"{name}.safetensors"


def _sha256(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise CheckpointError(
            f"{where}: cannot be read: {err.strerror}; expected a file of weights: a path,"
            " file:///path, s3://bucket/key or demo:NAME"
        ) from err


def _check(found: str, wanted: str | None, where: str) -> str:
    """The sha256 that was found; `CheckpointError` if another was wanted."""
    if wanted not in (None, found):
        raise CheckpointError(
            f"{where}: its sha256 is {found}, expected {wanted}: another file has taken its place;"
            " bring the right one back, or ask for this one by its sha256"
        )
    return found


def _from_store(where: str, wanted: str | None) -> Path:
    """The file in the cache; without any network where its sha256 is known and it is there."""
    cache = _cache()
    kept = _kept(cache, wanted, where) if wanted else None
    try:
        if kept and wanted and _is_whole(kept, wanted):
            return kept
        cache.mkdir(parents=True, exist_ok=True)
        # One lock for all models: whoever waits for one will need the next one too.
        with locks.held(cache / "lock", f"fetching {where}", lambda: _fetched(cache), _CACHE):
            if kept and wanted and _is_whole(kept, wanted):
                return kept
            return _download(where, wanted, cache)
    except OSError as err:
        raise disk_error(f"the cache {cache} ({_CACHE})", "write", err) from err
    except NotFoundError as err:
        raise CheckpointError(str(err)) from err


def _is_whole(path: Path, wanted: str) -> bool:
    """Whether the cached file is there and is what it is called; says so where it is not."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        found = f"unknown ({err.strerror})"
    if found != wanted:
        _log.warning("%s is damaged: its sha256 is %s; fetching it again", path, found)
    return found == wanted


def _fetched(cache: Path) -> int:
    """Bytes of the download that is under way."""
    sizes = 0
    for part in cache.glob(f"{_PART}*"):
        with contextlib.suppress(FileNotFoundError):  # it has just come through
            sizes += part.stat().st_size
    return sizes


def _download(where: str, wanted: str | None, cache: Path) -> Path:
    """Under the lock. Nothing is seen of it before all of it is there and is right."""
    for left in cache.glob(f"{_PART}*"):  # by a process that died: a living one has the lock
        left.unlink(missing_ok=True)
    storage, key = locate(where)
    _log.info("fetching %s into %s", where, cache)
    # A name of its own all the same: some network file systems only pretend to lock.
    part = cache / f"{_PART}{uuid.uuid4().hex}"
    try:
        with part.open("xb") as file:
            hashing = _Hashing(file)
            storage.read_into(key, hashing)
            file.flush()
            os.fsync(file.fileno())
        sha256 = _check(hashing.sha256.hexdigest(), wanted, where)
        path = _kept(cache, sha256, where)
        path.parent.mkdir(exist_ok=True)
        # Others may have mapped a good one: a new one would not share their pages.
        if not _is_whole(path, sha256):
            part.replace(path)
        return path
    finally:
        part.unlink(missing_ok=True)


class _Hashing:
    """Writes to a file, and hashes what it writes."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self.sha256.update(data)
        self._file.write(data)


def _kept(cache: Path, sha256: str, where: str) -> Path:
    return cache / sha256 / where.rpartition("/")[2]


def _cache() -> Path:
    if own := os.environ.get(_CACHE):
        return Path(own).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches).absolute() / "insetgan-batch"
