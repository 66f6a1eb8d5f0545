"""What `torch.save` wrote, in both of its formats → data, for weights only.

Why not `torch.load(weights_only=True)`: it executes nothing either, but it hashes whatever is a
key, makes objects of any size that it is told, and returns storages that a file does not fill with
what was in memory before. 300 bytes keep it busy for ever, a few more crash the process. So the
machine of `unpickle.py` reads these pickles too.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import unpickle
from insetgan_batch.nets.foreign.unpickle import FindClass, Maker, Stream
from insetgan_batch.text import one_line

ZIP_START = b"PK\x03\x04"
# The older format is a row of pickles that begins with this number.
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# The types of numbers, by the names of their storages.
DTYPES = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.ShortStorage": torch.int16,
}
_LEGACY_VERSION = 1001
# Also what zipfile raises where an archive is not whole.
_BROKEN = (*unpickle.BROKEN, zipfile.BadZipFile)


def load_zip(file: BinaryIO, find_class: FindClass) -> Any:
    """The data of a file in today's format; raises `CheckpointError` without the file's name."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _Archive(archive, file.seek(0, io.SEEK_END)).load(find_class)
    except _BROKEN as err:
        raise _not_whole(err) from err


def load_rows(stream: Stream, find_class: FindClass) -> Any:
    """The data of a file in the older format; raises `CheckpointError` without the file's name."""
    try:
        _, version, system = (unpickle.load(stream, find_class) for _ in range(3))
        if version != _LEGACY_VERSION or not system["little_endian"]:
            raise ValueError("another version, or numbers with the highest byte first")
        rows = _Rows(unpickle.size_bytes(stream))
        data = unpickle.load(stream, find_class, rows.find)
        for key in unpickle.load(stream, find_class):
            rows.fill(key, stream)
        if rows.empty:
            raise EOFError("numbers are missing")
        return data
    except _BROKEN as err:
        raise _not_whole(err) from err


class _Archive:
    """A zip file with one pickle, and one entry for the numbers of each storage."""

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int) -> None:
        self._archive = archive
        self._rows: dict[str, Tensor] = {}
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(
                    f"entry {entry.filename[:80]!r} is compressed; expected a torch file, whose"
                    " entries are not"
                )
        # No small file may stand for a large one, also not by entries that lie over each other.
        if sum(entry.file_size for entry in entries) > size_bytes:
            raise ValueError("its entries are larger than the file")
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"{len(pickles)} entries `data.pkl`")
        self._root = pickles[0].removesuffix("data.pkl")

    def load(self, find_class: FindClass) -> Any:
        """The data of the pickle."""
        order = f"{self._root}byteorder"
        if order in self._archive.namelist() and self._archive.read(order) != b"little":
            raise ValueError("numbers with the highest byte first")
        stream = io.BytesIO(self._archive.read(f"{self._root}data.pkl"))
        return unpickle.load(stream, find_class, self._find)

    def _find(self, storage_id: Any) -> Tensor:
        key, dtype, count = _parsed(storage_id)
        if key not in self._rows:
            data = self._archive.read(f"{self._root}data/{key}")
            self._rows[key] = torch.empty(len(data) // dtype.itemsize, dtype=dtype)
            _fill(self._rows[key], data)
        return _same(self._rows[key], dtype, count)


class _Rows:
    """The storages of a file in the older format: named first, filled later."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._rows: dict[str, Tensor] = {}
        self.empty: set[str] = set()

    def find(self, storage_id: Any) -> Tensor:
        """What stands for a persistent id."""
        key, dtype, count = _parsed(storage_id)
        if key not in self._rows:
            self._left_bytes -= count * dtype.itemsize
            if self._left_bytes < 0:
                raise EOFError("more numbers are declared than are in the file")
            self._rows[key] = torch.empty(count, dtype=dtype)
            self.empty.add(key)
        return _same(self._rows[key], dtype, count)

    def fill(self, key: Any, stream: Stream) -> None:
        """Read the numbers of one storage."""
        self.empty.remove(unpickle.checked_key(key))
        row = self._rows[key]
        if int.from_bytes(stream.read(8), "little") != len(row):
            raise ValueError("a storage of another size than declared")
        _fill(row, stream.read(row.nbytes))


def _parsed(storage_id: Any) -> tuple[str, torch.dtype, int]:
    """(key, type, count) of `("storage", type, key, device, count)`; what may follow is None."""
    if not isinstance(storage_id, tuple):
        raise ValueError("a persistent id that is not one of a storage")
    word, maker, key, _, count, *more = storage_id
    if not (isinstance(word, str) and word == "storage" and more in ([], [None])):
        raise ValueError("a persistent id that is not one of a storage")
    if not (isinstance(maker, Maker) and isinstance(key, str) and isinstance(count, int)):
        raise ValueError("a storage without type, key or size")
    if count < 0:
        raise ValueError("a storage of less than no numbers")
    return key, DTYPES[maker.name], count


def _same(row: Tensor, dtype: torch.dtype, count: int) -> Tensor:
    if row.dtype != dtype or len(row) != count:
        raise ValueError("a storage of two types or sizes")
    return row


def _fill(row: Tensor, data: bytes) -> None:
    """Raises `ValueError` where the sizes differ."""
    if len(data) != row.nbytes:
        raise ValueError(f"{len(data)} bytes for {len(row)} numbers of {row.dtype}")
    row.view(torch.uint8).numpy()[:] = np.frombuffer(data, np.uint8)


def _not_whole(err: Exception) -> CheckpointError:
    return CheckpointError(
        f"not a whole torch file ({one_line(err, 160) or type(err).__name__}); expected one as"
        " torch.save writes it: fetch it again"
    )
