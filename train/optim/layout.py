"""How a parameter reads as matrices, from its logical axes.

Layers that run under a scan are stacked into one array, and attention kernels have their head axes apart, so an
array's shape does not tell what one matrix of it is. Its logical axes do:

    ("layers", "embed", "heads", "head_dim")   a stack of matrices embed -> heads x head_dim
    ("layers", "heads", "head_dim", "embed")   a stack of matrices heads x head_dim -> embed
    ("layers", "embed")                        a stack of vectors
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from train.optim.rules import leaves_by_path

# Axes that number copies of one parameter; whatever is computed for a matrix is computed for each copy.
STACKED = frozenset({"layers", "experts"})
# An axis that splits the one before it: the width of a head.
JOINS_PREVIOUS = frozenset({"head_dim"})

Axes = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a parameter's axes are. `rows` are a matrix's inputs and `columns` its outputs; both empty: no matrix."""

    ndim: int
    stacked: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    names: frozenset[str | None] = frozenset()

    @property
    def is_matrix(self) -> bool:
        return bool(self.rows)

    @property
    def block(self) -> tuple[int, ...]:
        """The axes of one copy: all but the stacked ones."""
        return tuple(axis for axis in range(self.ndim) if axis not in self.stacked)

    def fans(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(inputs, outputs) of the matrix."""
        return math.prod(shape[axis] for axis in self.rows), math.prod(shape[axis] for axis in self.columns)


def layout(ndim: int, axes: Axes | None) -> Layout:
    """The layout of an array. Without logical axes nothing is taken as stacked, and two axes are a matrix."""
    if axes is None:
        return Layout(2, rows=(0,), columns=(1,)) if ndim == 2 else Layout(ndim)
    stacked = tuple(axis for axis, name in enumerate(axes) if name in STACKED)
    groups: list[list[int]] = []
    for axis, name in enumerate(axes):
        if axis in stacked:
            continue
        if groups and name in JOINS_PREVIOUS:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) != 2:
        return Layout(ndim, stacked, names=frozenset(axes))
    return Layout(ndim, stacked, tuple(groups[0]), tuple(groups[1]), frozenset(axes))


def layouts(params: Mapping[str, Any], axes: Mapping[str, Any] | None) -> dict[str, Layout]:
    """Parameter path -> layout. `axes` has the structure of `params`, with a tuple of names for each array.

    Raises ValueError where the two do not agree.
    """
    arrays = leaves_by_path(params)
    if axes is None:
        return {path: layout(len(array.shape), None) for path, array in arrays.items()}
    named = leaves_by_path(axes, is_leaf=lambda node: isinstance(node, tuple))
    if named.keys() != arrays.keys():
        raise ValueError(f"axes and params differ in {sorted(named.keys() ^ arrays.keys())}")
    for path, array in arrays.items():
        if len(named[path]) != len(array.shape):
            raise ValueError(f"{path} has shape {tuple(array.shape)} but the axes {named[path]}")
    return {path: layout(len(array.shape), named[path]) for path, array in arrays.items()}
