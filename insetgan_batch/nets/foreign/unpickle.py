"""A pickle → plain data. Nothing in it is imported, called or executed.

Why not `pickle.Unpickler` with a strict `find_class`: the machine behind it still calls what it was
given, hashes what it was given and believes the sizes that it is told, so that a small file can
exhaust the memory or overflow the C stack. Here `pickletools` splits the stream into opcodes, and
this machine knows only those that build data. A name becomes something only through `names.py`.
"""

from __future__ import annotations

import io
import mmap
import pickletools
from collections.abc import Iterable
from typing import Any

from insetgan_batch.errors import CheckpointError, one_line
from insetgan_batch.nets.foreign.names import Array, Dtype, Maker, Record, find_class

# A snapshot of three networks has some 60,000.
_MOST_OPCODES = 2_000_000
# The kinds that pickletools, numpy, torch and the machine raise where a stream is not whole.
_BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    EOFError,
    RuntimeError,
)


def load(stream: mmap.mmap | io.BytesIO) -> Any:
    """The data of a pickle; raises `CheckpointError` without the file's name."""
    try:
        return _Machine().run(stream)
    except _BROKEN as err:
        raise CheckpointError(
            f"not a whole pickle of a checkpoint ({one_line(err)[:160] or type(err).__name__});"
            " expected one as its program wrote it: fetch it again"
        ) from err


class _Mark:
    """Where a group of values begins on the stack."""


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: mmap.mmap | io.BytesIO) -> Any:
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

        What is missing on purpose: persistent ids, extension codes, `INST`, `OBJ`, `NEWOBJ_EX`,
        out-of-band buffers, and the 8-bit texts of Python 2.
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
                self._stack.append(_Mark())
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
                self._top(set).update(_key(value) for value in values)
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
            case _:
                return False
        return True

    def _pop(self) -> Any:
        value = self._stack.pop()
        if isinstance(value, _Mark):
            raise ValueError("a value is missing")
        return value

    def _pop_many(self, count: int) -> tuple[Any, ...]:
        """In the order in which they were pushed."""
        return tuple(reversed([self._pop() for _ in range(count)]))

    def _pop_to_mark(self) -> list[Any]:
        """All values after the last mark, which goes as well."""
        values: list[Any] = []
        while not isinstance(value := self._stack.pop(), _Mark):
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
            target[_key(key)] = value

    def _name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is not a text")
        self._stack.append(find_class(module, name))

    def _make(self, maker: Any, arguments: Any, *, is_call: bool) -> None:
        """What stands for `maker(*arguments)` or for `maker.__new__(maker, *arguments)`."""
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise ValueError(f"a call of a {type(maker).__name__}")
        function = maker.reduce if is_call else maker.new
        if function is None:
            raise ValueError(f"`{maker.name}` in a place where checkpoints do not have it")
        self._stack.append(function(*arguments))

    def _build(self, state: Any) -> None:
        """Give the last value its attributes."""
        target = self._stack[-1]
        if isinstance(target, Record | Array | Dtype):
            target.build(state)
        elif not isinstance(target, dict):
            raise ValueError(f"attributes for a {type(target).__name__}")
        # Attributes of a dictionary, such as the `_metadata` of a state dict, hold no weights.


def _key(value: Any) -> Any:
    """A key of a dictionary or set.

    Nothing else is hashed: a hash walks through nested tuples, and few bytes can describe one that
    takes for ever, or that overflows the C stack.
    """
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    raise ValueError(f"a {type(value).__name__} as a key")
