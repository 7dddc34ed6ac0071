"""Nested dicts of parameters: those that are trained apart from those that are frozen, and both together again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Split:
    """`split(tree) -> (trained, frozen)`: nested dicts without the leaves of the other, by dotted path."""

    frozen: frozenset[str] = frozenset()

    def __call__(self, tree: Tree) -> tuple[Tree, Tree]:
        if not self.frozen:
            return tree, {}
        return self._only(tree, "", False), self._only(tree, "", True)

    def _only(self, tree: Tree, above: str, frozen: bool) -> Tree:
        kept: dict[str, Any] = {}
        for name, value in tree.items():
            path = f"{above}.{name}" if above else str(name)
            if isinstance(value, Mapping):
                below = self._only(value, path, frozen)
                if below:
                    kept[name] = below
            elif (path in self.frozen) == frozen:
                kept[name] = value
        return kept


def join(one: Tree, other: Tree) -> Tree:
    """Two nested dicts with different leaves as one, in the order of sorted names, as JAX keeps them."""
    if not other:
        return one
    if not one:
        return other
    joined: dict[str, Any] = {}
    for name in sorted({*one, *other}):
        if name in one and name in other:
            joined[name] = join(one[name], other[name])
        else:
            joined[name] = one[name] if name in one else other[name]
    return joined
