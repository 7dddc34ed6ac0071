"""The modules of a package: which of them define a class, and which cannot be imported and why.

A module that defines the name that is looked for is found by its text and imported alone. Only where nobody defines it
are all imported, to say what there is. One that fails is reported by file, line and error; silent is only a module that
needs a package of others that is not installed here, unless it defines the very name.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from experiments.config.errors import one_line


@dataclasses.dataclass(frozen=True)
class Broken:
    """A module that cannot be imported. `line` is FILE:LINE: ERROR; `optional` says that only another package is
    missing."""

    line: str
    optional: bool


def define(package: str, name: str) -> Iterator[str]:
    """The modules of `package` whose text has `class name`."""
    pattern = re.compile(rf"^\s*class\s+{re.escape(name)}\b", re.MULTILINE)
    for module, file in _files(package):
        if pattern.search(file.read_text(errors="replace")):
            yield module


@functools.cache
def import_all(package: str) -> tuple[Broken, ...]:
    """Imports every module of `package`; those that cannot be."""
    tried = (attempt(module, package) for module, _ in _files(package))
    return tuple(dict.fromkeys(broken for broken in tried if broken is not None))


def attempt(module: str, package: str | None = None) -> Broken | None:
    """Imports a module; what is wrong with it if that fails. `package`: whose code is at fault, by default its own."""
    try:
        importlib.import_module(module)
    except Exception as error:
        return _broken(error, package or module)
    return None


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """(module, file) of everything in a package, found on the disk."""
    for folder in map(Path, importlib.import_module(package).__path__):
        for file in sorted(folder.rglob("*.py")):
            inner = file.relative_to(folder).with_suffix("").parts
            whole = all((folder.joinpath(*inner[:depth]) / "__init__.py").exists() for depth in range(1, len(inner)))
            if whole and all(part.isidentifier() for part in inner) and inner[-1] != "__main__":
                yield ".".join((package, *(inner[:-1] if inner[-1] == "__init__" else inner))), file


def _broken(error: Exception, package: str) -> Broken:
    """Where an import failed: in a line of the package's own code, the innermost."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _internal(frame.filename)]
    own = [frame for frame in frames if _of(frame.filename, package)]
    shown = own or frames
    where, what = "", one_line(error)  # the module itself is not there
    if shown:
        where, what = f"{_short(shown[-1].filename)}:{shown[-1].lineno}: ", f"{type(error).__name__}: {what}"
    if isinstance(error, SyntaxError) and error.filename:
        where, what = f"{_short(error.filename)}:{error.lineno}: ", f"{type(error).__name__}: {error.msg}"
    missing = isinstance(error, ModuleNotFoundError) and error.name is not None and not _there(error.name, package)
    foreign = isinstance(error, ImportError) and bool(frames) and frames[-1] not in own
    return Broken(where + what, missing or foreign)


def _internal(file: str) -> bool:
    """Whether a frame belongs to Python's import machinery, or to this search."""
    return file.startswith("<frozen") or file in (__file__, importlib.__file__)


def _of(file: str, package: str) -> bool:
    """Whether a file belongs to the outermost package or module of `package`."""
    top = package.partition(".")[0]
    spec = importlib.util.find_spec(top)
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])] if spec else []
    return any(Path(file) == Path(place) or Path(place) in Path(file).parents for place in places)


def _there(module: str, package: str) -> bool:
    """Whether a module that was not found is one of the package's own, or of an installed package."""
    top = module.partition(".")[0]
    return top == package.partition(".")[0] or importlib.util.find_spec(top) is not None


def _short(file: str) -> str:
    """A path from here, where that is shorter."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if here in path.parents else str(path)
