"""What an annotation of a field allows: the members of unions, the types of items, and its name in an error."""

from __future__ import annotations

import collections.abc
import enum
import types
import typing
from typing import Any

from arch.spec import Spec

PLAIN = (types.NoneType, bool, int, float, str, tuple, type)


def members(kind: Any) -> list[Any]:
    """The types that an annotation allows: those of a union, else itself."""
    kind = getattr(kind, "__supertype__", kind)  # NewType
    if typing.get_origin(kind) is typing.Annotated:
        return members(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(kind) for member in members(part)]
    return [kind]


def is_tuple(kind: Any) -> bool:
    """Whether an annotation is a tuple, or a sequence, which specs hold as a tuple."""
    return (typing.get_origin(kind) or kind) in (tuple, collections.abc.Sequence)


def is_mapping(kind: Any) -> bool:
    """Whether an annotation is a mapping."""
    return (typing.get_origin(kind) or kind) in (dict, collections.abc.Mapping)


def is_part(kind: Any) -> bool:
    """Whether an annotation is a Spec class, or a class that specs derive from."""
    return isinstance(kind, type) and (issubclass(kind, Spec) or any(is_part(below) for below in _below(kind)))


def _below(kind: type) -> list[type]:
    return [] if kind is object or issubclass(kind, PLAIN) else kind.__subclasses__()


def describe(kind: Any) -> str:
    """A type as an error names it."""
    alternatives = [_describe_one(member) for member in members(kind)]
    return " or ".join(dict.fromkeys(alternatives))


def _describe_one(kind: Any) -> str:
    if kind is types.NoneType:
        return "None"
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "one of " + ", ".join(member.name for member in kind)
    if is_tuple(kind):
        items = typing.get_args(kind)
        if not items:
            return "a tuple"
        if len(items) == 2 and items[1] is ...:
            return f"a tuple of {describe(items[0])}, as in 1,2,3"
        return "a tuple (" + ", ".join(describe(item) for item in items if item is not ...) + ")"
    if is_mapping(kind):
        return "a mapping, as in {key: value}"
    return getattr(kind, "__name__", str(kind))


def item_type(kind: Any, index: int) -> Any:
    """The type of item `index` of a tuple annotation."""
    items = next((typing.get_args(member) for member in members(kind) if is_tuple(member)), ())
    if not items:
        return Any
    if len(items) == 1 or items[-1] is ...:
        return items[0]
    return items[index] if index < len(items) else Any


def mapping_types(kind: Any) -> tuple[Any, Any]:
    """The key and value types of a mapping annotation."""
    found = next((typing.get_args(member) for member in members(kind) if is_mapping(member)), ())
    return (found[0], found[1]) if found else (Any, Any)
