"""A digest of the code that defines a run: of every module that a part of it is written in, and of what those import.

Followed are the project's own modules and the user's files, not the standard library and not installed packages; also
imports inside functions, though not those for type checkers. What is hashed is the syntax tree without docstrings and
positions, so that comments, docstrings and formatting change nothing.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

STEP = ("train.step", "train.setup", "train.ensemble", "train.evaluate")
"""The modules that take part in every run."""

NO_NUMBERS = ("experiments.config", "experiments.study", "arch.cost", "arch.renames", "train.record.checkpoint",
              "train.runtime.compilation", "train.record.code", "train.data.bars", "train.record.identity")  # fmt: skip
"""Modules, with those below them, that no number of a run depends on but for rounding; they are not followed into."""

OURS = ("arch", "train", "experiments")
INSTALLED = ("site-packages", "dist-packages")


class Import(NamedTuple):
    """An import statement: a module, one name of it (None: the whole), and what it is called here ("*": all names)."""

    module: str
    name: str | None
    alias: str


class Parsed(NamedTuple):
    """A source file: the digest of its code, and its imports, relative ones with their dots."""

    digest: str
    imports: tuple[Import, ...]


def code(roots: frozenset[str]) -> dict[str, str]:
    """Module -> digest of its code, of the modules `roots`, of those in STEP, and of all that they import.

    A module is read once, and again only if it is imported anew: what a process does not change with its files.
    """
    if roots in _known and all(sys.modules.get(name) is module for name, module in _known[roots][0].items()):
        return _known[roots][1]
    found = _closure(roots)
    _known[roots] = {name: sys.modules.get(name) for name in found}, found
    return found


_known: dict[frozenset[str], tuple[dict[str, Any], dict[str, str]]] = {}
_files: dict[str, tuple[Any, Parsed]] = {}


def _closure(roots: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    roots = frozenset(root for root in roots if root.partition(".")[0] not in sys.stdlib_module_names)
    todo: list[tuple[str, str | None]] = [(module, None) for module in sorted({*roots, *STEP})]
    seen = set(todo)
    while todo:
        module, name = todo.pop()
        file = _file(module)
        if file is None or (module not in roots and not _followed(module, file)):
            if module in roots:
                found[module] = _unknown()
            continue
        parsed = _parsed(module, file)
        found[module] = parsed.digest
        for parent in _parents(module):
            if (above := _file(parent)) is not None:
                found[parent] = _parsed(parent, above).digest
        if module not in roots or _ours(module, file):
            new = {target for one in _needed(parsed, name, file) for target in _targets(one, module, file)} - seen
            seen |= new
            todo += sorted(new, key=str)
    return found


def _needed(parsed: Parsed, name: str | None, file: Path) -> Iterable[Import]:
    """The imports that count. A package of which one name is wanted may bring it from one of its modules: that one."""
    if name is None or file.name != "__init__.py":
        return parsed.imports
    named = [one for one in parsed.imports if one.alias in (name, "*")]
    return named or parsed.imports


def _targets(one: Import, module: str, file: Path) -> Iterator[tuple[str, str | None]]:
    """What an import statement in `module` leads to: modules, and the name that is wanted of each."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    try:
        target = importlib.util.resolve_name(one.module, package)
    except ImportError:
        return
    if one.name is None:
        yield target, None
    elif _file(f"{target}.{one.name}") is not None:
        yield f"{target}.{one.name}", None
    else:
        yield target, None if one.name == "*" else one.name


def _followed(module: str, file: Path) -> bool:
    quiet = any(module == name or module.startswith(f"{name}.") for name in NO_NUMBERS)
    return not quiet and _ours(module, file)


def _ours(module: str, file: Path) -> bool:
    """Whether a module is of the project or a user's file."""
    if module.partition(".")[0] in OURS:
        return True
    if module.partition(".")[0] in sys.stdlib_module_names or set(INSTALLED) & set(file.parts):
        return False
    depth = module.count(".") + (file.name == "__init__.py")
    return not _holds_packages(file.parents[min(depth, len(file.parents) - 1)])


@functools.cache
def _holds_packages(folder: Path) -> bool:
    """Whether pip installs into `folder`, as by `--target`: it then has what it knows of a package beside it."""
    return any(folder.glob("*.dist-info"))


@functools.cache
def _unknown() -> str:
    """The digest of code that cannot be read, say of a notebook's cells: another one in each process."""
    return f"unknown {os.urandom(8).hex()}"


def _parents(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


def _file(module: str) -> Path | None:
    """The file of a module, which is not imported for it; None for none, and for packages without an `__init__.py`."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return _found(module)
    name = getattr(loaded, "__file__", None)
    return Path(name) if name and os.path.isfile(name) else None


@functools.cache
def _found(module: str) -> Path | None:
    spec = _spec(module)
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _spec(module: str) -> importlib.machinery.ModuleSpec | None:
    above = module.rpartition(".")[0]
    try:
        if not above:
            return importlib.util.find_spec(module)
        places = _places(above)
        return None if places is None else importlib.machinery.PathFinder.find_spec(module, places)
    except (ImportError, ValueError):  # a module that was made by hand and has no spec
        return None
    except KeyError:  # a folder without an `__init__.py`, in a package that is not imported: Python asks for its path
        return None


def _places(package: str) -> list[str] | None:
    """The folders in which the modules of a package are; None: it is no package."""
    loaded = sys.modules.get(package)
    if loaded is not None:
        return list(found) if (found := getattr(loaded, "__path__", None)) is not None else None
    spec = _spec(package)
    if spec is not None and spec.has_location:
        return None if (found := spec.submodule_search_locations) is None else list(found)
    above, _, name = package.rpartition(".")
    roots = (_places(above) or []) if above else sys.path
    return [str(folder) for root in roots if (folder := Path(root) / name).is_dir()] or None


def _parsed(module: str, file: Path) -> Parsed:
    """A module taken apart; of what is no Python, an extension module say, the bytes count."""
    loaded = sys.modules.get(module)
    if module not in _files or _files[module][0] is not loaded:
        content = file.read_bytes()
        try:
            tree = ast.parse(content) if file.suffix == ".py" else None
        except (SyntaxError, ValueError):
            tree = None
        code = content if tree is None else repr(_plain(tree)).encode()
        imports = () if tree is None else (*_imports(tree), *_listed(file))
        _files[module] = loaded, Parsed(hashlib.sha256(code).hexdigest()[:16], imports)
    return _files[module][1]


def _listed(file: Path) -> Iterator[Import]:
    """What a package brings on use: its stub lists it."""
    stub = file.with_suffix(".pyi")
    return _imports(ast.parse(stub.read_bytes())) if stub.exists() else iter(())


def _plain(node: Any) -> Any:
    """A syntax tree as nested tuples, the same on every version of Python: what is empty is left out."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind", "type_comment"))
        kept = ((name, _plain(value)) for name, value in fields if value is not None and value != [])
        return (type(node).__name__, *kept)
    if isinstance(node, list):
        return tuple(_plain(item) for item in node if not _says_nothing(item))
    return node


def _says_nothing(node: Any) -> bool:
    """Docstrings, other texts that stand alone, and what fills an empty body."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _imports(node: ast.AST) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, None, alias.asname or alias.name.partition(".")[0])
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            yield Import(module, alias.name, alias.asname or alias.name)
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for otherwise in node.orelse:
            yield from _imports(otherwise)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)
