"""Rebuilding a tree of frozen specs from the leaves to the root, with overrides on the way.

A mistake is noted and what it concerns keeps its old value, so that one pass finds all mistakes. A field that a new
part needs and has no value for fails that part, and what holds it, up to the next one that has an old value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from arch.spec import Spec, SpecError, UserError
from experiments.config.annotations import describe, item_type, mapping_types, members
from experiments.config.errors import hint, one_line, place, problem_line
from experiments.config.parts import Draft, UnfitError, field_types, fields, required
from experiments.config.values import parse

FAILED: Any = object()  # stands for a value that could not be made


@dataclasses.dataclass
class Tree:
    """Overrides below one node: its own text if it has one, and those of its children by name."""

    given: bool = False
    text: str | None = None
    children: dict[str, Tree] = dataclasses.field(default_factory=dict)

    def leaves(self, path: str) -> Iterator[str]:
        for name, child in self.children.items():
            below = f"{path}.{name}" if path else name
            if child.given:
                yield below
            yield from child.leaves(below)


class Rebuild:
    """One pass over the configuration. `lines` collects (path given on the command line or None, line)."""

    def __init__(self, given: Mapping[str, str | None]):
        self.given = given
        self.lines: list[tuple[str | None, str]] = []
        self.tainted: set[str] = set()

    def mistake(self, path: str, message: str) -> None:
        self.lines.append((self._given_at(path), f"{place(path, self.given)}: {message}"))
        self.tainted.add(path)

    def _given_at(self, path: str) -> str | None:
        while path and path not in self.given:
            path = path.rpartition(".")[0]
        return path or None

    def is_tainted(self, path: str) -> bool:
        """Whether there was a mistake at `path`, in it, or around it."""
        return any(f"{bad}.".startswith(f"{path}.") or f"{path}.".startswith(f"{bad}.") for bad in self.tainted if bad)

    def value(self, current: Any, kind: Any, tree: Tree, path: str) -> Any:
        """`current`, of a field annotated `kind`, with the overrides of `tree`; FAILED if nothing can stand there."""
        if tree.given:
            try:
                current = self._read(tree.text, kind)
            except (UnfitError, UserError) as error:
                self.mistake(path, str(error))
                return FAILED
        if isinstance(current, (Spec, Draft)):
            return self._node(current, tree, path)
        if isinstance(current, tuple):
            items = {str(index): value for index, value in enumerate(current)}
            types = {name: item_type(kind, int(name)) for name in items}
            made = self._items(items, types, tree, path, f"the tuple has {len(current)} items, counted from 0")
            return FAILED if made is FAILED else tuple(made.values())
        if isinstance(current, Mapping):
            keys = {str(key): key for key in current}
            types = dict.fromkeys(keys, mapping_types(kind)[1])
            text = f"no such key{{hint}}; to add one, give the whole mapping as --config.{path}={{key: value}}"
            made = self._items({str(key): value for key, value in current.items()}, types, tree, path, text)
            if made is FAILED:
                return FAILED
            result = {keys[name]: value for name, value in made.items()}
            return result if isinstance(current, dict) else type(current)(result)  # type: ignore[call-arg]
        for below in tree.leaves(path):
            self.mistake(below, self._no_parent(current, kind, path))
        return FAILED if current is dataclasses.MISSING else current

    def _read(self, text: str | None, kind: Any) -> Any:
        if text is not None:
            return parse(text, kind)
        if bool in members(kind):
            return True
        raise UnfitError(f"needs a value: {describe(kind)}")

    def _no_parent(self, current: Any, kind: Any, path: str) -> str:
        if current is None or current is dataclasses.MISSING:
            state = "is None" if current is None else "is not given"
            wanted = " or ".join(part for part in describe(kind).split(" or ") if part != "None")
            return f"config.{path} {state}; first give it a value as --config.{path}=... ({wanted})"
        return f"config.{path} is {current!r}, which has no fields"

    def _items(self, items: dict[str, Any], types: dict[str, Any], tree: Tree, path: str, unknown: str) -> Any:
        """The items of a tuple or mapping with their overrides, by name; FAILED if one that is new cannot be made."""
        result = dict(items)
        for name, child in tree.children.items():
            if name not in items:
                for below in self._given_below(child, f"{path}.{name}"):
                    self.mistake(below, unknown.replace("{hint}", hint(name, items)))
        for name, item in items.items():
            made = self.value(item, types[name], tree.children.get(name, Tree()), f"{path}.{name}")
            if made is not FAILED:
                result[name] = made
            elif tree.given or isinstance(item, Draft):
                return FAILED
        return result

    def _given_below(self, tree: Tree, path: str) -> Iterator[str]:
        if tree.given:
            yield path
        yield from tree.leaves(path)

    def _node(self, current: Spec | Draft, tree: Tree, path: str) -> Any:
        """A spec with its overrides, or a new one from a draft."""
        kind = current.kind if isinstance(current, Draft) else type(current)
        known = fields(kind)
        types = field_types(kind)
        below = {name: f"{path}.{name}" if path else name for name in [*known, *tree.children]}
        for name, child in tree.children.items():
            if name not in known:
                fixed = name in {field.name for field in dataclasses.fields(kind)}
                near = [field for field in known if not child.children or not _is_leaf(current, field)]
                message = f"no such field in {kind.__name__}{hint(name, near)}"
                if fixed:
                    message = f"{name} of {kind.__name__} is computed and cannot be set"
                for leaf in self._given_below(child, below[name]):
                    self.mistake(leaf, message)
        changes, missing = {}, []
        for name, field in known.items():
            child = tree.children.get(name, Tree())
            if isinstance(current, Draft) and name not in current.arguments:
                if not tree.children.get(name):
                    missing += [name] if required(field) else []
                    continue
                start = field.default_factory() if callable(field.default_factory) else field.default
            else:
                start = current.arguments[name] if isinstance(current, Draft) else getattr(current, name)
                if isinstance(current, Spec) and not child.given and not child.children:
                    continue
            made = self.value(start, types[name], child, below[name])
            if made is not FAILED:
                changes[name] = made
            elif isinstance(current, Draft):
                missing.append("")
        if isinstance(current, Spec):
            return self._replace(current, changes, path)
        wanted = [name for name in missing if name]
        if wanted:
            more = " ".join(f"--config.{below[name]}=({describe(types[name])})" for name in wanted)
            self.mistake(path, f"{kind.__name__} needs {', '.join(wanted)}; add {more}")
        return FAILED if missing else self._make(kind, changes, path)

    def _make(self, kind: type, arguments: dict[str, Any], path: str) -> Any:
        try:
            return kind(**arguments)
        except Exception as error:
            self._refused(error, kind, path)
            return FAILED

    def _replace(self, current: Spec, changes: dict[str, Any], path: str) -> Spec:
        """`current` with the changes; those that it refuses are reported and left out."""
        changes = {name: value for name, value in changes.items() if value is not getattr(current, name)}
        while changes:
            try:
                return dataclasses.replace(current, **changes)
            except Exception as error:
                refused = self._refused(error, type(current), path)
                kept = {name: value for name, value in changes.items() if name not in refused}
                if len(kept) == len(changes):
                    break
                changes = kept
        return current

    def _refused(self, error: Exception, kind: type, path: str) -> set[str]:
        """Reports what the constructor of the spec at `path` raised; the names of the fields it refused."""
        if not isinstance(error, SpecError):
            self.mistake(path, f"{kind.__name__}: {type(error).__name__}: {one_line(error)}")
            return set()
        own = error.node is kind
        for problem in error.problems:
            where = ".".join(part for part in (path, problem.field) if part)
            if not own:
                self.mistake(path, problem.line(getattr(error.node, "__name__", type(error.node).__name__)))
            elif not self.is_tainted(where):
                self.lines.append((self._given_at(where), problem_line(problem, path, self.given)))
                self.tainted.add(where)
        return {problem.field.partition(".")[0] for problem in error.problems} if own else set()


def _is_leaf(current: Any, field: str) -> bool:
    """Whether a field of a spec holds a value without fields of its own."""
    return not isinstance(getattr(current, field, current), (Spec, Draft, tuple, Mapping))
