"""A store in a directory, and what a file system's errors become.

put is a rename, put_if_absent a hard link: nobody ever reads half a file, and of several writers
one wins, on NFS too.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from insetgan_batch.data.keys import TEMPORARY, Entry, Writable, checked, checked_prefix
from insetgan_batch.errors import (
    NoConditionalWritesError,
    NotFoundError,
    RefusedError,
    StorageError,
)

_PART_BYTES = 1024 * 1024
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_SPACE = "free some space, or choose another place"
_NO_RIGHT = "give this user the right to do so, or choose another place"
_IN_THE_WAY = "a file stands where a directory is needed: move it away"
_REFUSED = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
}
_ADVICE = {errno.ENAMETOOLONG: "choose shorter names"} | _REFUSED


def disk_error(where: str, verb: str, err: OSError) -> StorageError:
    """What the file system said, in one line with what to do."""
    kind = RefusedError if err.errno in _REFUSED else StorageError
    advice = _ADVICE.get(err.errno or 0, "check the directory")
    return kind(f"{where}: cannot {verb}: {err.strerror or err}; {advice}")


@contextlib.contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """A file on this machine's disk that goes when it is closed."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as err:
        raise disk_error(f"{tempfile.gettempdir()} (TMPDIR)", "write", err) from err


class LocalStorage:
    """A directory. Its methods do what `Storage` says."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = self.root.as_uri()

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        with self._reading(key):
            return self._path(key).read_bytes()

    def read_into(self, key: str, file: Writable) -> None:
        """See `Storage.read_into`."""
        with self._reading(key):
            source = self._path(key).open("rb")
        with source:
            while True:
                with self._reading(key):
                    part = source.read(_PART_BYTES)
                if not part:
                    return
                file.write(part)

    def put(self, key: str, data: bytes) -> None:
        """See `Storage.put`."""
        self.put_from(key, io.BytesIO(data))

    def put_from(self, key: str, file: BinaryIO) -> None:
        """See `Storage.put_from`."""
        with self._written(key, file) as (temporary, path):
            temporary.replace(path)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
        with self._written(key, io.BytesIO(data)) as (temporary, path):
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                # NFS repeats a call whose answer was lost, and may trip over the link it made.
                return temporary.stat().st_nlink > 1
            except OSError as err:
                if err.errno not in _NO_LINKS:
                    raise
                raise NoConditionalWritesError(
                    f"{self.uri}: this file system has no hard links, so two writers cannot be told"
                    " apart; choose a directory on another one"
                ) from err
            return True

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`; one directory in memory at a time."""
        below = checked_prefix(prefix)
        yield from self._walk(self.root / below, below)

    def scan(self, prefix: str) -> Iterator[Entry]:
        """See `Storage.scan`; a file that goes meanwhile is passed over."""
        for key in self.list(prefix):
            with contextlib.suppress(FileNotFoundError):
                found = (self.root / key).stat()
                yield Entry(key, found.st_size, found.st_mtime)

    def remove_unfinished(self, before_s: float) -> int:
        """See `Storage.remove_unfinished`: the temporary files of `put`."""
        removed = 0
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory, name)
                if name.startswith(TEMPORARY) and _is_older(path, before_s):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            return self._path(key).is_file()
        except OSError as err:
            raise self._failed("read", key, err) from err

    def delete(self, key: str) -> None:
        """See `Storage.delete`; directories stay, another writer may need them right now."""
        try:
            self._path(key).unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as err:
            raise self._failed("delete", key, err) from err

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as err:
            raise NotFoundError(f"{self.uri}/{key}: there is no such file") from err
        except OSError as err:
            raise self._failed("read", key, err) from err

    @contextlib.contextmanager
    def _written(self, key: str, file: BinaryIO) -> Iterator[tuple[Path, Path]]:
        """(a temporary file that holds the rest of `file`, the path it is for)."""
        path = self._path(key)
        temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as target:
                shutil.copyfileobj(file, target, _PART_BYTES)
                target.flush()
                os.fsync(target.fileno())
            yield temporary, path
            _sync_directory(path.parent)
        except OSError as err:
            raise self._failed("write", key, err) from err
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _walk(self, directory: Path, below: str) -> Iterator[str]:
        try:
            with os.scandir(directory) as entries:
                # The slash belongs to the order: `a-b` sorts before `a/b`, as it does in S3.
                names = sorted(
                    entry.name + "/" * entry.is_dir(follow_symlinks=False)
                    for entry in entries
                    if not entry.name.startswith(TEMPORARY)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as err:
            raise self._failed("list", below, err) from err
        for name in names:
            if name.endswith("/"):
                yield from self._walk(directory / name, below + name)
            else:
                yield below + name

    def _failed(self, verb: str, key: str, err: OSError) -> StorageError:
        return disk_error(f"{self.uri}/{key}", verb, err)


def _is_older(path: Path, before_s: float) -> bool:
    try:
        return path.stat().st_mtime < before_s
    except FileNotFoundError:
        return False  # its writer has just finished


def _sync_directory(path: Path) -> None:
    """Make new names last through a power cut: a commit must not outlive the files it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as err:
        # Some network file systems have no such call.
        if err.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
