"""Parts by name: `LayerNorm`, `LayerNorm(eps=1e-5)` or `module:Class` as the value of a field annotated `Norm`.

Only text is read, nothing is evaluated: a name is looked up among the Spec subclasses of the annotated type, and
each argument is parsed by the type of its field. The result is a Draft, not yet a Spec, so that further overrides
can still give fields that the part requires.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from arch.spec import Spec, UserError
from experiments.config import modules
from experiments.config.errors import hint


class UnfitError(Exception):
    """Text that is no value of a type. `specific` says that the type was right and something in it wrong."""

    def __init__(self, message: str, specific: bool = False):
        super().__init__(message)
        self.specific = specific


@dataclasses.dataclass(frozen=True)
class Draft:
    """A part that is about to be made: its class, and the arguments given so far (they may be drafts too)."""

    kind: type
    arguments: dict[str, Any]


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """Field name -> resolved annotation of a spec class."""
    try:
        return typing.get_type_hints(kind)
    except NameError as error:
        raise UserError(f"{kind.__module__}.{kind.__qualname__}: annotation not resolved ({error})") from error


def fields(kind: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields that can be set, by name."""
    return {field.name: field for field in dataclasses.fields(kind) if field.init}


def required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def draft(text: str, kinds: Sequence[type], parse: Callable[[str, Any], Any]) -> Draft:
    """The part that `text` names, for a field of one of the types `kinds`; `parse(text, type)` reads its arguments."""
    match = re.fullmatch(r"([\w.]+(?::\w+)?)\s*(?:\((.*)\))?", text.strip(), re.DOTALL)
    if not match:
        raise UnfitError(f"expected a part, as Name or Name(field=value) ({allowed_text(kinds)})")
    part = find(match[1], kinds)
    known = fields(part)
    arguments: dict[str, Any] = {}
    for index, piece in enumerate(split(match[2] or "")):
        keyword = re.fullmatch(r"(\w+)\s*=(?!=)(.*)", piece, re.DOTALL)
        if not keyword and index >= len(known):
            raise UnfitError(f"{part.__name__} takes {len(known)} arguments", specific=True)
        name, value = keyword.groups() if keyword else (list(known)[index], piece)
        if name not in known:
            raise UnfitError(f"no such field in {part.__name__}: {name}{hint(name, known)}", specific=True)
        if name in arguments:
            raise UnfitError(f"{name} is given twice", specific=True)
        try:
            arguments[name] = parse(value.strip(), field_types(part)[name])
        except UnfitError as error:
            raise UnfitError(f"{name}={value.strip()}: {error}", specific=True) from error
    return Draft(part, arguments)


def split(text: str, separator: str = ",") -> list[str]:
    """The pieces of `text` between separators that stand outside brackets and quotes; a last empty one is dropped."""
    pieces, depth, quote, escaped, start = [], [], "", False, 0
    closing = {"(": ")", "[": "]", "{": "}"}
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "'\"":
            quote = letter
        elif letter in closing:
            depth.append(closing[letter])
        elif letter in closing.values():
            if not depth or depth.pop() != letter:
                raise UnfitError(f"{letter!r} closes nothing in {text!r}", specific=True)
        elif letter == separator and not depth:
            pieces.append(text[start:index].strip())
            start = index + 1
    if depth or quote:
        raise UnfitError(f"{(depth or [quote])[-1]!r} is missing in {text!r}", specific=True)
    last = text[start:].strip()
    return [*pieces, last] if last else pieces


def find(name: str, kinds: Sequence[type]) -> type:
    """The part called `name` (or `module:Class`) that a field of types `kinds` takes; the error lists the parts."""
    if ":" in name:
        return _from_module(name, kinds)
    for package in ("", *_packages(kinds)):
        for module in modules.define(package, name) if package else ():
            if broken := modules.attempt(module, package):
                raise UnfitError(f"{name} is in {module}, which cannot be imported: {broken.line}", specific=True)
        found = parts(kinds).get(name, [])
        if len(found) > 1:
            choices = " or ".join(sorted(f"{part.__module__}:{part.__qualname__}" for part in found))
            raise UnfitError(f"several parts are called {name}; write {choices}", specific=True)
        if found:
            return found[0]
    listing = allowed_text(kinds)  # imports more parts, which the hint must know
    found = parts(kinds).get(name, [])
    if len(found) == 1:  # made without a class statement of its own
        return found[0]
    raise UnfitError(f"no such part{hint(name, parts(kinds))} ({listing})", specific=True)


def allowed_text(kinds: Sequence[type]) -> str:
    """The parts that a field takes, as a line lists them, and the modules that may have more but cannot be imported."""
    broken = [one for package in _packages(kinds) for one in modules.import_all(package) if not one.optional]
    lost = "".join(f"; cannot be imported: {line}" for line in dict.fromkeys(one.line for one in broken))
    return "parts allowed: " + (", ".join(sorted(parts(kinds))) or f"no {kinds[0].__name__} was found") + lost


def parts(kinds: Sequence[type]) -> dict[str, list[type]]:
    """Name -> the imported classes of that name among `kinds` and their subclasses, without mere base classes."""
    found: dict[str, list[type]] = {}
    for part in (part for kind in kinds for part in _subclasses(kind)):
        live: Any = sys.modules.get(part.__module__)
        for name in part.__qualname__.split("."):
            live = part if name == "<locals>" or live is part else getattr(live, name, None)
        if live is part and not _is_base(part) and part not in found.setdefault(part.__name__, []):
            found[part.__name__].append(part)
    return {name: classes for name, classes in found.items() if classes}


def _subclasses(kind: type) -> Iterator[type]:
    if issubclass(kind, Spec):
        yield kind
    below: type
    for below in kind.__subclasses__():
        yield from _subclasses(below)


def _is_base(part: type) -> bool:
    """Whether a class is only there to be subclassed: abstract, private, or with subclasses and neither `build` nor
    fields. (A `Trunk` has no `build`: the models that hold one make it.)"""
    if part.__name__.startswith("_") or inspect.isabstract(part) or part is Spec:
        return True
    return bool(part.__subclasses__()) and not hasattr(part, "build") and not dataclasses.fields(part)


def _packages(kinds: Sequence[type]) -> list[str]:
    """The packages that `kinds` are defined in, then the outermost ones: where their subclasses are looked for."""
    modules = [sys.modules.get(kind.__module__) for kind in kinds]
    inner = [getattr(module, "__package__", None) or "" for module in modules]
    names = dict.fromkeys([*inner, *(name.partition(".")[0] for name in inner)])
    return [name for name in names if name.partition(".")[0] not in ("", "tests", "experiments")]


def _from_module(name: str, kinds: Sequence[type]) -> type:
    module_name, _, attribute = name.partition(":")
    if broken := modules.attempt(module_name):
        raise UnfitError(f"module {module_name} cannot be imported: {broken.line}", specific=True)
    module = sys.modules[module_name]
    part = getattr(module, attribute, None)
    if part is None:
        raise UnfitError(f"module {module_name} has no {attribute}{hint(attribute, vars(module))}", specific=True)
    if not (isinstance(part, type) and issubclass(part, Spec) and issubclass(part, tuple(kinds))):
        raise UnfitError(f"{attribute} is no {kinds[0].__name__}", specific=True)
    return part
