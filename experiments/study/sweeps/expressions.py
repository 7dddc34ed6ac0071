"""Conditions on a point of a sweep: `depth * width <= 512 and norm != 'LayerNorm'`.

Arithmetic, comparisons, `and`, `or`, `not`, `in` and the fields of the point, by their paths or the last names of
them. Nothing else: no calls, no attributes of values.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from arch.spec import UserError

BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
UNARY: dict[type, Callable[[Any], Any]] = {ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos}
COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


def check(text: str) -> str | None:
    """What is wrong with the form of a condition, in a line; None: nothing."""
    try:
        _tree(text)
    except UserError as error:
        return str(error)
    return None


def holds(text: str, point: Mapping[str, Any]) -> bool:
    """Whether a point (path -> value) fulfils the condition. Raises UserError for names it lacks and wrong types."""
    try:
        return bool(_value(_tree(text), point))
    except (TypeError, ArithmeticError) as error:
        raise UserError(f"where {text}: {error}, at {_shown(point)}") from error
    except LookupError as error:
        raise UserError(f"where {text}: {error.args[0]}") from None


def _tree(text: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise UserError(f"where {text}: is no condition, as depth * width <= 512") from None
    for node in ast.walk(tree):
        if (isinstance(node, ast.Attribute) and _path(node) is None) or not isinstance(node, _ALLOWED):
            said = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise UserError(f"where {text}: {said} is not allowed; only arithmetic, comparisons, and, or, not, in")
    return tree


_ALLOWED: tuple[type, ...] = (
    ast.BoolOp, ast.And, ast.Or, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Attribute, ast.Load,
    ast.Tuple, ast.List, *BINARY, *UNARY, *COMPARE,
)  # fmt: skip


def _value(node: ast.expr, point: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Name, ast.Attribute)):
        return _field(_path(node) or "", point)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(item, point) for item in node.elts)
    if isinstance(node, ast.BoolOp):
        results = (_value(item, point) for item in node.values)
        return all(results) if isinstance(node.op, ast.And) else any(results)
    if isinstance(node, ast.UnaryOp):
        return UNARY[type(node.op)](_value(node.operand, point))
    if isinstance(node, ast.BinOp):
        return BINARY[type(node.op)](*(_number(_value(side, point)) for side in (node.left, node.right)))
    assert isinstance(node, ast.Compare)
    values = [_value(item, point) for item in (node.left, *node.comparators)]
    pairs = zip(node.ops, values[:-1], values[1:], strict=True)
    return all(COMPARE[type(sign)](left, right) for sign, left, right in pairs)


def _number(value: Any) -> Any:
    """An operand of arithmetic. Raises TypeError: text and lists would be repeated, or written out, to any length."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"arithmetic takes numbers, not {str(value)[:40]!r}")
    return value


def _path(node: ast.expr) -> str | None:
    """`model.depth` of names joined by dots; None for anything else."""
    if isinstance(node, ast.Attribute):
        before = _path(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def _field(name: str, point: Mapping[str, Any]) -> Any:
    found = [path for path in point if path == name] or [path for path in point if path.endswith(f".{name}")]
    if len(found) != 1:
        problem = f"{name} could be {' or '.join(found)}" if found else f"no {name} here"
        raise LookupError(f"{problem}; the fields of this sweep are {', '.join(point) or '(none)'}")
    value = point[found[0]]
    if isinstance(value, str):  # from the command line
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return {"true": True, "false": False}.get(value, value)
    return value


def _shown(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{path}={value}" for path, value in point.items())
