"""`--where "seam_after < 0.2"`: a condition on what is recorded of an item.

The words are Python's (and, or, not, comparisons, in, + - * /, a list's [0]), read by `ast` and
walked here: nothing is executed, and anything else is refused. A name is one of the columns of
`results.parquet`, or a dotted path into the commit record. A comparison with a value that this item
has not (null) is false, but for `== None` and `!= None`.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from typing import Any

from insetgan_batch.errors import ConfigError

_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_EQUALITY: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MOST_CHARACTERS = 2_000  # deeper nesting than this allows would exhaust Python's stack
_SHOWN = 8
_EXPECTED = "expected something like `score < 0.2 and stop == 'converged'`"


class Where:
    """A condition. text: as it was given; names: of the values that it asks for."""

    def __init__(self, text: str) -> None:
        """Raises `ConfigError`, one line, for what is no condition."""
        self.text = text
        try:
            if len(text) > _MOST_CHARACTERS:
                raise ValueError(f"more than {_MOST_CHARACTERS} characters")
            self._body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
            raise self._fails(f"cannot be read ({getattr(err, 'msg', err)}); {_EXPECTED}") from err
        self.names: set[str] = set()
        self._check(self._body)
        if not self.names:
            raise self._fails(f"names no value; {_EXPECTED}")

    def holds(self, values: Mapping[str, Any], item_id: str) -> bool:
        """Whether an item with these values, by dotted name, meets it; raises `ConfigError`."""
        try:
            return bool(self._value(self._body, values))
        except (TypeError, ValueError, LookupError, ArithmeticError) as err:
            raise self._fails(f"makes no sense for item {item_id}: {err}") from err

    def check_known(self, known: set[str]) -> None:
        """Raises `ConfigError` if it asks for a value that no item has."""
        for name in sorted(self.names - known):
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}" if near else f"there are {_listed(known)}"
            raise self._fails(f"no item has a value `{name}`; {hint}")

    def _fails(self, what: str) -> ConfigError:
        return ConfigError(f"--where {self.text[:200]!r}: {what}")

    def _check(self, node: ast.expr) -> None:
        """Only the nodes that `_value` knows; collects the names."""
        if (name := _dotted(node)) is not None:
            self.names.add(name)
            return
        for child in self._parts(node):
            self._check(child)

    def _parts(self, node: ast.expr) -> list[ast.expr]:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return []
            case ast.BoolOp(values=values):
                return values
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                return [operand]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return [left, right]
            case ast.Compare(left=left, ops=ops, comparators=others) if all(
                type(op) in _ORDER | _EQUALITY for op in ops
            ):
                return [left, *others]
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return elements
            case ast.Subscript(value=value, slice=ast.Constant(value=int())):
                return [value]
        raise self._fails(
            f"`{ast.unparse(node)[:80]}` is not allowed here: only names, numbers, texts, lists,"
            " and, or, not, comparisons, in, + - * / and [0]"
        )

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        if (name := _dotted(node)) is not None:
            return values.get(name)
        match node:
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(self._value(part, values) for part in parts)
            case ast.BoolOp(values=parts):
                return any(self._value(part, values) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand, values)
            case ast.UnaryOp(operand=operand):
                return _with(operator.mul, -1, self._value(operand, values))
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self._value(left, values), self._value(right, values)
                return _with(_ARITHMETIC[type(op)], a, b)
            case ast.Compare():
                return self._compare(node, values)
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                return [self._value(part, values) for part in parts]
            case ast.Subscript(value=value, slice=ast.Constant(value=int(index))):
                return _with(operator.getitem, self._value(value, values), index)
            case ast.Constant(value=constant):
                return constant
        raise self._fails(f"`{ast.unparse(node)[:80]}` is not allowed here")

    def _compare(self, node: ast.Compare, values: Mapping[str, Any]) -> bool:
        sides = [self._value(side, values) for side in (node.left, *node.comparators)]
        for op, a, b in zip(node.ops, sides, sides[1:], strict=False):
            if type(op) in _EQUALITY:
                holds = _EQUALITY[type(op)](a, b)
            else:
                holds = a is not None and b is not None and _ORDER[type(op)](a, b)
            if not holds:
                return False
        return True


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What a record holds, by dotted name; a list is one value."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _dotted(node: ast.expr) -> str | None:
    """`losses.face.border.l1` as one name; None for any other expression."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            before = _dotted(value)
            return None if before is None else f"{before}.{attr}"
    return None


def _with(operation: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """What is not known stays so; so does what a division by zero would be."""
    if a is None or b is None:
        return None
    try:
        return operation(a, b)
    except ZeroDivisionError:
        return None


def _listed(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return f"{shown}, and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
