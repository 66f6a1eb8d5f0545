"""What an attacker writes: pickles put together opcode by opcode, objects that run something when
they are unpickled, and the files around them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import resource
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

Parts = Mapping[str, bytes]
_NOTHING_S = 1.0  # of CPU time: hardly more than the interpreter's own noise


# Opcodes that push one value each


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<I", len(data)) + data


def binary(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def row(*values: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def listing(*values: bytes) -> bytes:
    return b"](" + b"".join(values) + b"e"


def mapping(entries: Mapping[str, bytes]) -> bytes:
    """A dictionary."""
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def name(dotted: str) -> bytes:
    """A class or function."""
    module, _, attribute = dotted.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def call(dotted: str, *arguments: bytes) -> bytes:
    return name(dotted) + row(*arguments) + b"R"


def keep(index: int, value: bytes) -> bytes:
    """The value, from now on known under a number."""
    return value + b"r" + struct.pack("<I", index)


def again(index: int) -> bytes:
    """The value that is known under a number."""
    return b"j" + struct.pack("<I", index)


def laughs(doublings: int = 60) -> bytes:
    """A tuple of two times the same tuple of two times the same tuple and so on: whoever walks
    through it needs 2 to the power of `doublings` steps.
    """
    return keep(900, b")") + keep(900, again(900) + b"\x86") * doublings


def pickled(value: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + value + b"."


# Files around a pickle


def storage_id(key: str, count: int, kind: str = "torch.FloatStorage") -> bytes:
    """What stands for a storage in a torch file."""
    return row(text("storage"), name(kind), text(key), text("cpu"), integer(count), b"N") + b"Q"


def tensor(storage: bytes, size: Sequence[int], stride: Sequence[int], offset: int = 0) -> bytes:
    sizes, strides = (row(*map(integer, numbers)) for numbers in (size, stride))
    hooks = call("collections.OrderedDict")
    function = "torch._utils._rebuild_tensor_v2"
    return call(function, storage, integer(offset), sizes, strides, b"\x89", hooks)


def legacy_file(value: bytes, storages: Parts | None = None) -> bytes:
    """A torch file in the older format; storages: the numbers by key, float32."""
    storages = storages or {}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    start = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    keys = pickled(listing(*map(text, storages)))
    numbers = [struct.pack("<q", len(data) // 4) + data for data in storages.values()]
    return b"".join([*start, pickled(value), keys, *numbers])


def storage_bytes(numbers: bytes) -> bytes:
    """The bytes of a storage in a pickle of modules: a torch file inside of the pickle."""
    return binary(legacy_file(storage_id("0", len(numbers) // 4), {"0": numbers}))


def stored(numbers: bytes) -> bytes:
    """A storage as a pickle of modules has it."""
    return call("torch.storage._load_from_bytes", storage_bytes(numbers))


def zip_file(
    value: bytes,
    storages: Parts | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
    order: bytes = b"little",
) -> bytes:
    """A torch file in today's format; order: of the bytes in a number."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/byteorder", order)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


# Objects that run something


class Bomb:
    """Unpickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._reduced


def bombs(marker: Path) -> dict[str, Any]:
    """Each makes that file when `pickle` reads it."""
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    shell = Bomb(os.system, command)
    return {
        "os.system": shell,
        "eval": Bomb(eval, code),
        "exec": Bomb(exec, code),
        "Popen": Bomb(subprocess.Popen, ["touch", str(marker)]),
        "partial": Bomb(functools.partial(os.system, command)),
        "nested torch file": Bomb(torch.storage._load_from_bytes, _saved(shell, zipped=False)),
        "nested torch zip": Bomb(torch.storage._load_from_bytes, _saved(shell, zipped=True)),
        "object array": np.array([shell, None], dtype=object),
    }


def opcode_bombs(marker: Path) -> dict[str, bytes]:
    """The same in opcodes that `pickle.dumps` writes seldom or never."""
    command = text(f"touch {marker}")
    return {
        "INST": b"(" + command + b"ios\nsystem\n",
        "OBJ": b"(" + name("os.system") + command + b"o",
        "STACK_GLOBAL": text("os") + text("system") + b"\x93" + command + b"\x85R",
        "dotted name": text("pathlib") + text("os.system") + b"\x93" + command + b"\x85R",
        "popped": call("os.system", command) + b"0N",
        "after a mark": b"(" + call("os.system", command) + b"1N",
        "as a key": b"}" + call("os.system", command) + b"Ns",
    }


def _saved(value: object, *, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


# Limits


@contextlib.contextmanager
def at_most(kind: int, limit: int) -> Iterator[None]:
    """For a moment, this process gets no more of a resource (`resource.RLIMIT_...`)."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextlib.contextmanager
def little_memory(more_bytes: int = 256 << 20) -> Iterator[None]:
    """For a moment, this process can take so much memory more than it has and no byte beyond."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with at_most(resource.RLIMIT_AS, pages * resource.getpagesize() + more_bytes):
        yield


@contextlib.contextmanager
def little_work(most: float = 300.0) -> Iterator[None]:
    """What is inside takes less CPU time than so many counts to a million, on whatever machine.

    The slowest of what is refused takes some 10 of them; what was refused too late took minutes.
    """
    started_s = time.process_time()
    yield
    taken_s = time.process_time() - started_s
    if taken_s < _NOTHING_S:
        return
    started_s = time.process_time()
    sum(range(10**6))
    counted_s = time.process_time() - started_s
    assert taken_s < most * counted_s, f"{taken_s:.1f} s, and {counted_s:.3f} s for a count"
