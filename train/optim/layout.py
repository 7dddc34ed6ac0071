"""How a parameter reads as matrices, from its logical axes; and what it is for.

Layers that run under a scan are stacked into one array, and attention kernels have their head axes apart, so an
array's shape does not tell what one matrix of it is. Its logical axes do:

    ("layers", "embed", "heads", "head_dim")   a stack of matrices embed -> heads x head_dim
    ("layers", "heads", "head_dim", "embed")   a stack of matrices heads x head_dim -> embed
    ("layers", "embed")                        a stack of vectors
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from train.optim.rules import leaves_by_path

# Axes that number copies of one parameter; whatever is computed for a matrix is computed for each copy.
STACKED = frozenset({"layers", "experts"})
# An axis that splits the one before it: the width of a head.
JOINS_PREVIOUS = frozenset({"head_dim"})

Axes = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a parameter's axes are: `stacked` number its copies, `sides` are those of one copy.

    Two sides are a matrix, its inputs and its outputs. `role` is what the parameter is for, in the words of
    `arch.params.ParamFactory.weight`.
    """

    stacked: tuple[int, ...]
    sides: tuple[tuple[int, ...], ...]
    role: str

    @property
    def is_matrix(self) -> bool:
        return len(self.sides) == 2

    @property
    def block(self) -> tuple[int, ...]:
        """The axes of one copy: all but the stacked ones."""
        return tuple(axis for side in self.sides for axis in side)

    def sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """One copy's shape with its head axes folded in; a matrix's is (inputs, outputs). `shape` is of all copies."""
        return tuple(math.prod(shape[axis] for axis in side) for side in self.sides)


def layout(axes: Axes, role: str = "linear") -> Layout:
    """The layout of an array with these logical axes; of those that are None, each is a side."""
    stacked: list[int] = []
    sides: list[list[int]] = []
    for axis, name in enumerate(axes):
        if name in STACKED:
            stacked.append(axis)
        elif sides and name in JOINS_PREVIOUS:
            sides[-1].append(axis)
        else:
            sides.append([axis])
    return Layout(tuple(stacked), tuple(map(tuple, sides)), role)


def layouts(params: Mapping[str, Any], axes: Mapping[str, Any] | None, roles: Mapping[str, str]) -> dict[str, Layout]:
    """Parameter path -> layout. `axes` has the structure of `params`, with a tuple of names for each array.

    Without `axes` nothing is taken as stacked, and an array with two axes is a matrix. `roles` is by path.

    Raises ValueError where they do not agree.
    """
    arrays = leaves_by_path(params)
    if unknown := sorted(arrays.keys() - roles.keys()):
        raise ValueError(f"roles have no {', '.join(unknown)}")
    if axes is None:
        return {path: layout((None,) * len(array.shape), roles[path]) for path, array in arrays.items()}
    named = leaves_by_path(axes, is_leaf=lambda node: isinstance(node, tuple))
    if named.keys() != arrays.keys():
        raise ValueError(f"axes and params differ in {sorted(named.keys() ^ arrays.keys())}")
    for path, array in arrays.items():
        if len(named[path]) != len(array.shape):
            raise ValueError(f"{path} has shape {tuple(array.shape)} but the axes {named[path]}")
    return {path: layout(names, roles[path]) for path, names in named.items()}
