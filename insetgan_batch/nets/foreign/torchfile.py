"""What `torch.save` wrote → data, with torch's own reader for weights only.

Two things are checked before: the reader would inflate compressed entries of a zip to any size, and
needs to be told that `argparse.Namespace` is a mere bag of values (trainers keep their options).
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from typing import Any, BinaryIO

import torch

from insetgan_batch.errors import CheckpointError, one_line

ZIP_START = b"PK\x03\x04"
# torch's older format is a row of pickles that begins with this number.
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# Kinds that torch's reader raises for a stream that is not whole; found with mutated files.
_BROKEN = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    OverflowError,
    MemoryError,
    ImportError,
    RecursionError,
    NotImplementedError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def load(stream: BinaryIO) -> Any:
    """The data of a torch file, on the CPU; raises `CheckpointError` without the file's name."""
    try:
        _check_zip(stream)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            # Warnings are about strange bytes; the error that follows says enough.
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise CheckpointError(_refused(str(err))) from err
    except _BROKEN as err:
        raise CheckpointError(
            f"not a whole torch file ({one_line(err)[:160] or type(err).__name__}); expected one as"
            " torch.save writes it: fetch it again"
        ) from err


def _check_zip(stream: BinaryIO) -> None:
    """Entries of a torch file are stored as they are: no small file may stand for a large one."""
    start = stream.read(len(ZIP_START))
    stream.seek(0)
    if start != ZIP_START:
        return
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(
                    f"entry {entry.filename!r} is compressed; expected a torch file, whose entries"
                    " are not"
                )
    stream.seek(0)


def _refused(message: str) -> str:
    """The name in torch's advice on how to load it all the same, which is not passed on."""
    found = re.search(r"(?:GLOBAL|global:?|class|type) ([\w.]+\.\w+)", message)
    if found is None:
        return f"torch refuses it as weights: {message.strip().splitlines()[-1][:160]}"
    return (
        f"found the name `{found[1]}` in a torch file; expected tensors, numbers and texts only."
        " Nothing was executed. Save the state dict (`torch.save(model.state_dict(), ...)`) and"
        " import that"
    )
