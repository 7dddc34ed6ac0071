"""Text -> a value of an annotated type, as the command line gives it.

int (also 1e4), float, bool (true/false, 1/0, yes/no), str (quotes are optional), None, Literal and enums (by name or
value), tuples (`1,2,3` or `(1,2,3)`), mappings (`{a: 1, b: 2}`), specs by name, and unions of these.
"""

from __future__ import annotations

import ast
import contextlib
import decimal
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any

from experiments.config.annotations import describe, is_mapping, is_part, is_tuple, item_type, mapping_types, members
from experiments.config.errors import hint
from experiments.config.parts import UnfitError, draft, split

BOOLS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
# Which member of a union reads the text first: the narrower, so that `str` gets what no other takes.
ORDER = (types.NoneType, int, float, bool)


def parse(text: str, kind: Any) -> Any:
    """The value of type `kind` that `text` gives; parts come as drafts. Raises UnfitError, of one line."""
    kinds = members(kind)
    if len(kinds) == 1:
        return _parse_one(text, kinds[0], strict=False)
    specific: list[UnfitError] = []
    choices = [member for member in kinds if not is_part(member)]
    parts = tuple(member for member in kinds if is_part(member))
    for member in sorted([*choices, *([parts] if parts else [])], key=_rank):
        try:
            return _parse_one(text, member, strict=str in kinds)
        except UnfitError as error:
            if error.specific:
                specific.append(error)
    if specific:
        raise specific[0]
    raise UnfitError(f"expected {describe(kind)}")


def _rank(kind: Any) -> int:
    if kind in ORDER:
        return 1 + ORDER.index(kind)
    if typing.get_origin(kind) is typing.Literal:
        return 0
    return 9 if kind is str else 5


def _parse_one(text: str, kind: Any, strict: bool) -> Any:
    """As `parse`, for one member of a union (its parts together as a tuple); if `strict`, only `None` means None."""
    if typing.get_origin(kind) is typing.Literal:
        return _choice(text, {str(value): value for value in typing.get_args(kind)})
    if is_tuple(kind):
        return _tuple(text, kind)
    if is_mapping(kind):
        return _mapping(text, kind)
    if kind is Any or kind is object or isinstance(kind, typing.TypeVar):
        return _literal(text)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        by_value = {str(member.value): member for member in kind}
        return _choice(text, {member.name: member for member in kind}, by_value)
    if kind in READERS and not (strict and kind is types.NoneType and text != "None"):
        return READERS[kind](text)
    if isinstance(kind, tuple) or is_part(kind):
        return draft(text, kind if isinstance(kind, tuple) else (kind,), parse)
    value = _literal(text)
    if not isinstance(kind, type) or not isinstance(value, kind):
        raise UnfitError(f"expected {describe(kind)}")
    return value


def _none(text: str) -> None:
    if text.lower() != "none":
        raise UnfitError("expected None")


def _int(text: str) -> int:
    with contextlib.suppress(ValueError):
        return int(text)
    try:
        value = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise UnfitError("expected int") from None
    whole = value.is_finite() and value.adjusted() < 30 and value == value.to_integral_value()
    if not whole or "e" not in text.lower():
        raise UnfitError("expected int")
    return int(value)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UnfitError("expected float") from None


def _bool(text: str) -> bool:
    if text.lower() not in BOOLS:
        raise UnfitError("expected true or false")
    return BOOLS[text.lower()]


def _str(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        value = _literal(text)
        return value if isinstance(value, str) else text
    return text


READERS: dict[Any, Any] = {types.NoneType: _none, int: _int, float: _float, bool: _bool, str: _str}


def _literal(text: str) -> Any:
    """A Python literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _choice(text: str, *named: Mapping[str, Any]) -> Any:
    for names in (*named, {name.lower(): value for name, value in named[0].items()}):
        for form in (text, _str(text), text.lower()):
            if form in names:
                return names[form]
    raise UnfitError(f"must be one of {', '.join(named[0])}{hint(text, named[0])}")


def _tuple(text: str, kind: Any) -> tuple[Any, ...]:
    pieces, items = split(_unwrap(text.strip())), typing.get_args(kind)
    if items and items[-1] is not ... and typing.get_origin(kind) is tuple:
        wanted = 0 if items == ((),) else len(items)
        if len(pieces) != wanted:
            raise UnfitError(f"expected {describe(kind)}: {wanted} items, not {len(pieces)}")
    values = []
    for index, piece in enumerate(pieces):
        try:
            values.append(parse(piece, item_type(kind, index)))
        except UnfitError as error:
            raise UnfitError(f"item {index} ({piece}): {error}", error.specific) from error
    return tuple(values)


def _unwrap(text: str) -> str:
    """The text without the one pair of brackets around all of it, if it has one."""
    if text[:1] + text[-1:] not in ("()", "[]"):
        return text
    try:
        split(text[1:-1])
    except UnfitError:
        return text
    return text[1:-1]


def _mapping(text: str, kind: Any) -> dict[Any, Any]:
    text = text.strip()
    if text[:1] + text[-1:] != "{}":
        raise UnfitError(f"expected {describe(kind)}")
    key_type, value_type = mapping_types(kind)
    result = {}
    for piece in split(text[1:-1]):
        key, *value = split(piece, ":")
        if not value:
            raise UnfitError(f"expected {describe(kind)}")
        result[parse(key, key_type)] = parse(":".join(value), value_type)
    return result
