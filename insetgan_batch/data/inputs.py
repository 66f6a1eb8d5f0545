"""The bytes of a file that somebody else names: a picture, latents. Never more than a limit, and
nothing that may never end.
"""

from __future__ import annotations

import errno
import io
import stat

from insetgan_batch.data.storage import locate
from insetgan_batch.data.uris import local_path
from insetgan_batch.errors import BadInputError, CredentialsError, NotFoundError, RefusedError
from insetgan_batch.text import one_line, quoted

_MOST_BYTES = 512 * 1024 * 1024  # of a picture or a file of latents: it is held in memory
_SHOWN = 500


def read(uri: str) -> bytes:
    """The bytes at `uri`.

    Raises `BadInputError` for what this file alone is to blame for: there is none, it is no file,
    it may not be read, it is too large. Raises `StorageError` where another try may help, and
    `CredentialsError` where nothing can be read.
    """
    try:
        _refuse_odd_file(uri)
        storage, key = locate(uri)
        file = _Limited(uri)
        storage.read_into(key, file)
    except CredentialsError:
        raise
    except (NotFoundError, RefusedError) as err:
        raise BadInputError(one_line(err, _SHOWN)) from err
    return file.bytes.getvalue()


def _refuse_odd_file(uri: str) -> None:
    """A directory has no bytes, a pipe may never give any, and a name can be none."""
    try:
        path = local_path(uri)
        found = path.stat() if path else None
    except OSError as err:
        if err.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            return  # the store says it better, and may be asked again
        raise BadInputError(f"{one_line(uri, _SHOWN)}: no name of a file: {err.strerror}") from err
    except ValueError as err:
        raise BadInputError(f"{quoted(uri)}: no name of a file: {err}") from err
    if found and not stat.S_ISREG(found.st_mode):
        raise BadInputError(f"{uri}: a directory or a device, expected a file")
    if found and found.st_size > _MOST_BYTES:
        raise _too_large(uri)


def _too_large(uri: str) -> BadInputError:
    return BadInputError(f"{uri}: more than {_MOST_BYTES // 1024**2} MiB, expected less")


class _Limited:
    """Takes bytes until they are too many."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.bytes = io.BytesIO()

    def write(self, data: bytes) -> None:
        """The next bytes; raises `BadInputError`."""
        if self.bytes.tell() + len(data) > _MOST_BYTES:
            raise _too_large(self._uri)
        self.bytes.write(data)
