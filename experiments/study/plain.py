"""Dataclasses as JSON has them, and back, by the types of their fields; NaN and infinities included.

JSON has no NaN and no infinities: they are written as "nan", "inf" and "-inf". A field of type `str` is text whatever
it says, one of type `float` a number. Where the type leaves it open (`Any`, `float | int | str`), "inf" is the number,
and the text is written with quotes of its own, "'inf'".
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

_NUMBERS = ("nan", "inf", "-inf")
_JSON: Mapping[Any, type] = {Mapping: dict, Sequence: list}


def plain(value: Any, kind: Any = Any) -> Any:
    """`value`, a dataclass or of the type `kind`, as dictionaries, lists, strings and numbers for `json.dumps`."""
    if dataclasses.is_dataclass(value):
        made: Any = type(value)
        return {name: plain(getattr(value, name), field) for name, field in _fields(made).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(one, _within(kind)) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, _within(kind)) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and not _is_text(kind) and value.strip("'") in _NUMBERS:
        return f"'{value}'"
    return value


def back(value: Any, kind: Any = Any) -> Any:
    """What `plain` was given, of the type `kind`; sequences are lists.

    Raises:
      TypeError: `value` does not have the structure of `kind`.
      ValueError: a text where a number should be.
    """
    origin = dict if dataclasses.is_dataclass(kind) else _JSON.get(typing.get_origin(kind))
    if origin and not isinstance(value, origin):
        raise TypeError(f"{type(value).__name__} in place of a {origin.__name__}")
    if dataclasses.is_dataclass(kind):
        made: Any = kind
        return made(**{name: back(one, _fields(made).get(name, Any)) for name, one in value.items()})
    if isinstance(value, dict):
        return {key: back(one, _within(kind)) for key, one in value.items()}
    if isinstance(value, list):
        return [back(one, _within(kind)) for one in value]
    if not isinstance(value, str) or _is_text(kind):
        return value
    if kind is float or value in _NUMBERS:
        return float(value)
    return value[1:-1] if value[:1] == value[-1:] == "'" and value.strip("'") in _NUMBERS else value


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    """Field -> type."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _within(kind: Any) -> Any:
    """The type of what a mapping or sequence of type `kind` holds."""
    return typing.get_args(kind)[-1] if typing.get_origin(kind) in _JSON else Any


def _is_text(kind: Any) -> bool:
    return kind is str or typing.get_origin(kind) is Literal
