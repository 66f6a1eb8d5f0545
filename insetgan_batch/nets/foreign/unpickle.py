"""A pickle → plain data. Nothing in it is imported, called or executed.

Why not `pickle.Unpickler` with a strict `find_class`: the machine behind it still calls what it was
given, hashes what it was given and believes the sizes that it is told, so that a small file can
exhaust the memory or overflow the C stack. Here `pickletools` splits the stream into opcodes, and
this machine knows only those that build data. A name becomes something only through the
`find_class` of the caller, and that is a `Maker`: a function of our own.
"""

from __future__ import annotations

import dataclasses
import io
import mmap
import pickletools
import sys
from collections.abc import Callable, Iterable
from typing import Any

from insetgan_batch.errors import CheckpointError
from insetgan_batch.text import one_line

# A snapshot of three networks has some 60,000.
_MOST_OPCODES = 500_000
# Makers may look at each byte of a file about once; this much more where the file is small.
_WORK_OF_A_SMALL_FILE = 1_000_000
# The kinds that pickletools, numpy, torch and the machine raise where a stream is not whole.
BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    EOFError,
    RuntimeError,
)
# Where a group of values begins on the stack.
_MARK = object()

Stream = mmap.mmap | io.BytesIO


@dataclasses.dataclass(frozen=True, slots=True)
class Maker:
    """What stands for a name. reduce, new: for a call of it, and for its `__new__`; None where
    checkpoints do no such thing.
    """

    name: str
    reduce: Callable[..., Any] | None = None
    new: Callable[..., Any] | None = None


class Buildable:
    """A value that takes its attributes after it was made."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """Take attributes."""
        raise NotImplementedError


FindClass = Callable[[str, str], Maker]


def load(
    stream: Stream, find_class: FindClass, find_storage: Callable[[Any], Any] | None = None
) -> Any:
    """The data of the pickle that begins where the stream stands, which is then at its end.

    find_class: what stands for `(module, name)`, or raises `CheckpointError`. find_storage: what
    stands for a persistent id, which only torch files have. Raises `CheckpointError` without the
    file's name.
    """
    try:
        return _Machine(stream, find_class, find_storage).run(stream)
    except BROKEN as err:
        raise CheckpointError(
            f"not a whole pickle of a checkpoint ({one_line(err, 160) or type(err).__name__});"
            " expected one as its program wrote it: fetch it again"
        ) from err


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(
        self, stream: Stream, find_class: FindClass, find_storage: Callable[[Any], Any] | None
    ) -> None:
        self._find_class, self._find_storage = find_class, find_storage
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._work_left = 2 * size_bytes(stream) + _WORK_OF_A_SMALL_FILE

    def run(self, stream: Stream) -> Any:
        """Go through all opcodes; returns the value that they leave."""
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if count > _MOST_OPCODES:
                raise CheckpointError(
                    f"found more than {_MOST_OPCODES} opcodes; no checkpoint has so many"
                )
            if opcode.name == "STOP":
                return self._pop()
            if not self._step(opcode.name, argument):
                raise CheckpointError(
                    f"found opcode {opcode.name} at byte {position}, which no checkpoint uses"
                )
        raise EOFError("it has no end")

    def _step(self, name: str, argument: Any) -> bool:
        """One opcode; False for an unknown one.

        What is missing on purpose: persistent ids as text, extension codes, `INST`, `OBJ`,
        `NEWOBJ_EX`, out-of-band buffers, and the 8-bit texts of Python 2.
        """
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                self._stack.append(argument)
            case "FLOAT" | "BINFLOAT":
                self._stack.append(argument)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                self._stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                self._stack.append(bytes(argument))
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_SET":
                self._stack.append(set())
            case "EMPTY_TUPLE":
                self._stack.append(())
            case "MARK":
                self._stack.append(_MARK)
            case "POP":
                self._stack.pop()
            case "POP_MARK":
                self._pop_to_mark()
            case "LIST":
                self._stack.append(self._pop_to_mark())
            case "DICT":
                values = self._pop_to_mark()
                self._stack.append({})
                self._set_items(values)
            case "TUPLE":
                self._stack.append(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(self._pop_many(int(name[-1])))
            case "APPEND":
                self._append(self._pop_many(1))
            case "APPENDS":
                self._append(self._pop_to_mark())
            case "ADDITEMS":
                values = self._pop_to_mark()
                self._top(set).update(checked_key(value) for value in values)
            case "SETITEM":
                self._set_items(self._pop_many(2))
            case "SETITEMS":
                self._set_items(self._pop_to_mark())
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "GLOBAL":
                self._name(*argument.split(" ", 1))
            case "STACK_GLOBAL":
                self._name(*self._pop_many(2))
            case "REDUCE" | "NEWOBJ":
                self._make(*self._pop_many(2), is_call=name == "REDUCE")
            case "BUILD":
                self._build(self._pop())
            case "BINPERSID" if self._find_storage is not None:
                self._stack.append(self._find_storage(self._pop()))
            case _:
                return False
        return True

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a value is missing")
        return value

    def _pop_many(self, count: int) -> tuple[Any, ...]:
        """In the order in which they were pushed."""
        return tuple(reversed([self._pop() for _ in range(count)]))

    def _pop_to_mark(self) -> list[Any]:
        """All values after the last mark, which goes as well."""
        values: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def _top(self, kind: type[Any]) -> Any:
        """The last value, which takes items."""
        if not isinstance(self._stack[-1], kind):
            raise ValueError(f"items for a {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def _append(self, values: Iterable[Any]) -> None:
        self._top(list).extend(values)

    def _set_items(self, values: list[Any] | tuple[Any, ...]) -> None:
        target = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[checked_key(key)] = value

    def _name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is not a text")
        self._stack.append(self._find_class(module, name))

    def _make(self, maker: Any, arguments: Any, *, is_call: bool) -> None:
        """What stands for `maker(*arguments)` or for `maker.__new__(maker, *arguments)`."""
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise ValueError(f"a call of a {type(maker).__name__}")
        function = maker.reduce if is_call else maker.new
        if function is None:
            raise ValueError(f"`{maker.name}` in a place where checkpoints do not have it")
        self._work(arguments)
        self._stack.append(function(*arguments))

    def _work(self, arguments: tuple[Any, ...]) -> None:
        """Count what a maker gets: few bytes must not hand it the same large thing many times."""
        sized = (a for a in arguments if isinstance(a, str | bytes | tuple | list | dict | set))
        self._work_left -= sum(len(argument) for argument in sized)
        if self._work_left < 0:
            raise CheckpointError("the same data is used again and again; no checkpoint does that")

    def _build(self, state: Any) -> None:
        """Give the last value its attributes."""
        target = self._stack[-1]
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, dict):
            raise ValueError(f"attributes for a {type(target).__name__}")
        # Attributes of a dictionary, such as the `_metadata` of a state dict, hold no weights.


def size_bytes(stream: Stream) -> int:
    """Of the whole stream."""
    return len(stream) if isinstance(stream, mmap.mmap) else stream.getbuffer().nbytes


def checked_key(value: Any) -> Any:
    """A key of a dictionary or set; raises `ValueError` for what is not one.

    Nothing else is hashed: a hash walks through nested tuples, and few bytes can describe one that
    takes for ever, or that overflows the C stack. Larger integers can all have the same hash.
    """
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, int) and abs(value) < sys.hash_info.modulus:
        return value
    raise ValueError(f"a {type(value).__name__} as a key")
