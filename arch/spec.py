"""Specs: frozen dataclasses that are both the configuration of a part and its factory.

A spec says what is wrong with itself through `problems`; constructing one that has problems raises
`SpecError` with all of them. Everything here is independent of what a part does, so that the configuration
front end, the run folder and the resume check treat every part, also one written tomorrow, alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mistake: `field` of the spec that holds it, the `value` found there, and what would be right."""

    field: str
    value: Any
    allowed: str

    def line(self, path: str = "") -> str:
        """The one line a user reads, e.g. `model.block.mixer.heads=-1: must be at least 1`."""
        where = ".".join(part for part in (path, self.field) if part)
        return f"{where}={self.value!r}: {self.allowed}"


class SpecError(ValueError):
    """A spec that cannot be built. `node` is the spec at fault, or its class while it is being made."""

    def __init__(self, node: Any, problems: Iterable[Problem]):
        self.node = node
        self.problems = tuple(problems)
        name = node.__name__ if isinstance(node, type) else type(node).__name__
        super().__init__("\n".join(problem.line(name) for problem in self.problems))

    def __reduce__(self):
        return (SpecError, (self.node, self.problems))


class UserError(Exception):
    """A mistake that the user can mend, in one line: what was wrong, where, and what would be right."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """Base of every part that a study may vary.

    Subclasses are frozen dataclasses of typed fields. They override `problems` to refuse values that are not
    defined, and have a `build` that makes the part. Problems that need the surroundings (a width that the heads
    do not divide) are raised by `build` as `SpecError(self, [Problem(...)])`; the front end finds the path.

    Attributes:
      names_code: fields whose texts name code as MODULE:NAME. What somebody sent may name Strata's own there alone.
    """

    names_code: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        problems = tuple(self.problems())
        if problems:
            raise SpecError(type(self), problems)

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the fields, judged by themselves."""
        return iter(())

    def foreign(self) -> Iterator[Problem]:
        """Yields what is not taken of a configuration that somebody sent: to write outside of the cache, say."""
        return iter(())

    def invalid(self, field: str, allowed: str) -> SpecError:
        """The error for a field that its surroundings do not allow; for use in `build`: `raise self.invalid(...)`."""
        return SpecError(self, [Problem(field, getattr(self, field), allowed)])


def at_least(spec: Spec, minimum: int | float, *fields: str) -> Iterator[Problem]:
    """Problems of numeric `fields` below `minimum` or not finite. None passes: it means a default."""
    for field in fields:
        value = getattr(spec, field)
        if value is not None and not (_finite(value) and value >= minimum):
            yield Problem(field, value, f"must be {_also_finite(value)}at least {minimum:g}")


def at_most(spec: Spec, maximum: int, *fields: str) -> Iterator[Problem]:
    """Problems of numeric `fields` above `maximum`. None passes: it means a default."""
    for field in fields:
        value = getattr(spec, field)
        if value is not None and value > maximum:
            yield Problem(field, value, f"must be at most {maximum}")


DEEPEST = 2**16
"""Layers of a network at most: what is looked up for each by itself is a list."""

COUNTED = 2**31 - 1
"""What a 32-bit index counts: rows, steps, units, ids."""


def above(spec: Spec, bound: int | float, *fields: str) -> Iterator[Problem]:
    """Problems of numeric `fields` that are not finite and greater than `bound`. None passes."""
    for field in fields:
        value = getattr(spec, field)
        if value is not None and not (_finite(value) and value > bound):
            yield Problem(field, value, f"must be {_also_finite(value)}greater than {bound:g}")


def _finite(value: int | float) -> bool:
    """Whether a computation can take `value`, which may be an int beyond every float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _also_finite(value: int | float) -> str:
    return "" if _finite(value) else "finite and "


def between(spec: Spec, low: int | float, high: int | float, *fields: str) -> Iterator[Problem]:
    """Problems of numeric `fields` outside [low, high]. None passes."""
    for field in fields:
        value = getattr(spec, field)
        if value is not None and not low <= value <= high:
            yield Problem(field, value, f"must be between {low:g} and {high:g}")


def one_of(spec: Spec, field: str, allowed: Iterable[Any]) -> Iterator[Problem]:
    """A problem if `field` is none of `allowed`."""
    allowed = tuple(allowed)
    if getattr(spec, field) not in allowed:
        yield Problem(field, getattr(spec, field), "must be one of " + ", ".join(map(str, allowed)))


def no_text(text: str) -> str:
    """Why `text` cannot be written as UTF-8, as words of a command line that are other bytes; "" if it can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        found = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"half a surrogate pair, U+{code:04X}"
        return f"must be text in UTF-8; it has {found} at character {error.start + 1}"
    return ""


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) pairs one level down: dataclass fields, tuple items by index, mapping items by key."""
    if isinstance(node, Spec):
        for field in dataclasses.fields(node):
            yield field.name, getattr(node, field.name)
    elif isinstance(node, tuple):
        for index, value in enumerate(node):
            yield str(index), value
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield str(key), value


def walk(spec: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every node of a configuration tree with its dotted path, parents first."""
    yield path, spec
    for name, value in children(spec):
        yield from walk(value, f"{path}.{name}" if path else name)


class Reference(str):
    """`module:qualname` of a class or function: what distinguishes it from another one of the same name."""

    __slots__ = ()


def reference(kind: Any) -> Reference:
    """The `module:qualname` of a class or function."""
    return Reference(f"{kind.__module__}:{kind.__qualname__}")


def flatten(spec: Any, name: Callable[[type], str] = lambda kind: kind.__name__) -> dict[str, Any]:
    """Dotted path -> leaf value. A nested spec also appears under its own path, by the `name` of its class."""
    return dict(_leaves(spec, "", name))


def _leaves(node: Any, path: str, name: Callable[[type], str]) -> Iterator[tuple[str, Any]]:
    nested = isinstance(node, (tuple, Mapping)) and any(isinstance(v, (Spec, tuple)) for _, v in children(node))
    if not nested:
        yield path, name(type(node)) if isinstance(node, Spec) else node
    if nested or isinstance(node, Spec):
        for child, value in children(node):
            yield from _leaves(value, f"{path}.{child}" if path else child, name)


def to_text(spec: Any) -> str:
    """One `path = value` line per field, in field order: the resolved configuration as people read and diff it."""
    return "".join(f"{path or '(root)'} = {value}\n" for path, value in flatten(spec).items())


def differences(old: Any, new: Any) -> list[str]:
    """Lines `path: old -> new` for every field that differs between two configurations (specs or flat mappings)."""
    old_flat = dict(old) if isinstance(old, Mapping) else flatten(old)
    new_flat = dict(new) if isinstance(new, Mapping) else flatten(new)
    lines = []
    for path in [*old_flat, *(p for p in new_flat if p not in old_flat)]:
        before, after = old_flat.get(path, "(absent)"), new_flat.get(path, "(absent)")
        if before != after:
            lines.append(f"{path or '(root)'}: {before} -> {after}")
    return lines
