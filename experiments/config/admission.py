"""What a configuration from elsewhere may name: Strata's own parts, and values of the types of their fields.

A module is Strata's own if it is a file of `arch`, `train` or `experiments` in this checkout, in packages all the way:
a run folder below them is none. Anything else is refused before it is looked for, so that no import system runs it.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arch.spec import Spec, UserError
from experiments.config.annotations import describe, is_mapping, is_tuple, item_type, mapping_types, members
from experiments.config.errors import SHOWN
from experiments.config.load import ROOT

OURS = ("arch", "train", "experiments")
FLAG = "if you trust whoever wrote it, give --trust_code"


def location(module: str) -> Path | None:
    """The file of a module of Strata's own in this checkout, which is not imported for it; None for any other name."""
    parts = module.split(".")
    if parts[0] not in OURS or not all(part.isidentifier() for part in parts):
        return None
    folders = [ROOT.joinpath(*parts[:depth]) for depth in range(1, len(parts))]
    if not all((folder / "__init__.py").is_file() for folder in folders):
        return None
    at = ROOT.joinpath(*parts)
    return next((file for file in (at.with_suffix(".py"), at / "__init__.py") if file.is_file()), None)


def imported(reference: str, files: Mapping[str, str]) -> types.ModuleType:
    """The module of `module:Name`, if it is Strata's own.

    Args:
      files: where the configuration says that modules are, for the error.

    Raises:
      UserError: it is another's, or it is gone.
    """
    module = reference.partition(":")[0]
    if location(module) is None:
        if module.partition(".")[0] in OURS and module not in files and _elsewhere(module) is None:
            raise UserError(f"{printable(reference)} is gone: there is no such module of Strata's")
        place = files.get(module) or _elsewhere(module) or f"a module {module!r}"
        raise UserError(f"{printable(reference)} is code of {printable(str(place))}, not Strata's own; {FLAG}")
    return importlib.import_module(module)


def defined(module: types.ModuleType, name: str) -> Any:
    """What `name` is in the module: a class, or one inside it. Raises AttributeError.

    Nothing is asked of what is no class, since a module, say, may import something when it is asked for a name.
    """
    found: Any = module
    for part in name.split("."):
        if found is not module and not isinstance(found, type):
            raise AttributeError(name)
        try:
            found = vars(found)[part]
        except KeyError:
            raise AttributeError(name) from None
    if isinstance(found, type) and location(found.__module__) is None:
        raise AttributeError(name)
    return found


def refusal(value: Any, kind: Any) -> str:
    """Why a value may not stand in a field annotated `kind`; "" if it may."""
    if _fits(value, kind):
        return ""
    shown = f"a {type(value).__name__}" if isinstance(value, Spec) else repr(value)
    return f"{shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + '...'} where {describe(kind)} should be"


def code_refusal(value: Any) -> str:
    """Why the texts of a field that name code, as MODULE:NAME, are not taken; "" if they are."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    for text in texts:
        module, colon, _ = str(text).partition(":")
        if colon and location(module) is None:
            place = _elsewhere(module) or f"a module {module!r}"
            return f"{printable(str(text))} is code of {printable(str(place))}, not Strata's own; {FLAG}"
    return ""


def printable(text: str) -> str:
    """A text of somebody else's as a terminal may show it."""
    return text if text.isprintable() else repr(text)


def _elsewhere(module: str) -> Path | None:
    """The file that `module` would be imported from, found without importing anything."""
    places: Sequence[str] | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        try:
            spec = importlib.machinery.PathFinder.find_spec(name, places)
        except (ImportError, ValueError, OSError):
            return None
        if spec is None:
            loaded = getattr(sys.modules.get(module), "__file__", None)
            return Path(loaded) if loaded else None
        places = spec.submodule_search_locations and list(spec.submodule_search_locations)
        if depth == len(parts):
            return Path(spec.origin) if spec.has_location and spec.origin else None
        if places is None:
            return None
    return None


def _fits(value: Any, kind: Any) -> bool:
    return any(_fits_one(value, member) for member in members(kind))


def _fits_one(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if kind is Any or kind is object or isinstance(kind, typing.TypeVar):
        return True
    if kind is None or kind is types.NoneType:
        return value is None
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in typing.get_args(kind))
    if is_tuple(kind):
        return isinstance(value, (tuple, list)) and all(_fits(item, item_type(kind, i)) for i, item in enumerate(value))
    if is_mapping(kind):
        key, item = mapping_types(kind)
        return isinstance(value, Mapping) and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if kind in (int, float):
        return isinstance(value, (int, float))
    if isinstance(kind, type):
        try:
            return isinstance(value, kind)
        except TypeError:  # a protocol that cannot be asked about
            return False
    return not isinstance(value, Spec)
