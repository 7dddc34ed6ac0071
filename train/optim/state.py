"""Logical axes of an optimiser's state, so that it is sharded as the parameters are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.tree_util import DictKey

from train.optim.layout import Axes, layout
from train.optim.rules import dotted, leaves_by_path


def state_axes(tx: optax.GradientTransformation, params: Mapping[str, Any], axes: Mapping[str, Any]) -> Any:
    """The state's logical axes: a tree in the structure of `tx.init(params)` with a tuple of names for each array.

    An array kept for a parameter has the parameter's axes; a factored moment has those of the sides that it was not
    averaged over, a side of several axes by its first; any other array (counts) is replicated: () for a scalar.
    Nothing is computed: `params` may be abstract.
    """
    shapes = {path: tuple(array.shape) for path, array in leaves_by_path(params).items()}
    named = leaves_by_path(axes, is_leaf=lambda node: isinstance(node, tuple))

    def of(keys: tuple[Any, ...], leaf: Any) -> Axes:
        # A parameter's path is a run of dictionary keys, after the labels of any partition.
        runs = [dotted(run) for is_path, run in itertools.groupby(keys, lambda k: isinstance(k, DictKey)) if is_path]
        path = runs[-1] if runs else ""
        if path in shapes:
            if leaf.shape == shapes[path]:
                return named[path]
            kept = _kept(getattr(keys[-1], "name", ""), named[path], shapes[path])
            if leaf.shape == tuple(size for _, size in kept):
                return tuple(name for name, _ in kept)
        return (None,) * len(leaf.shape)

    return jax.tree_util.tree_map_with_path(of, jax.eval_shape(tx.init, params))


def _kept(field: str, names: Axes, shape: tuple[int, ...]) -> list[tuple[str | None, int]]:
    """(name, size) of the axes of a field of `optax.FactoredState`, whose `v_row` is averaged over the largest side
    and whose `v_col` is averaged over the second largest."""
    sides = layout(names)
    sizes = sides.sizes(shape)
    ascending = np.argsort(sizes)
    averaged = {"v_row": ascending[-1:], "v_col": ascending[-2:-1]}.get(field, ())
    stacked = [(names[axis], shape[axis]) for axis in sides.stacked]
    return stacked + [(names[side[0]], sizes[i]) for i, side in enumerate(sides.sides) if i not in averaged]
