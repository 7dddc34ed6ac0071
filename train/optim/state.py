"""Logical axes of an optimiser's state, so that it is sharded as the parameters are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax

from train.optim.layout import Axes, layout
from train.optim.rules import leaves_by_path


def state_axes(tx: optax.GradientTransformation, params: Mapping[str, Any], axes: Mapping[str, Any]) -> Any:
    """The state's logical axes: a tree in the structure of `tx.init(params)` with a tuple of names for each array.

    An array kept for a parameter has the parameter's axes; a factored moment has those that it was not averaged
    over; any other array (counts) is replicated: () for a scalar. Nothing is computed: `params` may be abstract.
    """
    shapes = {path: tuple(array.shape) for path, array in leaves_by_path(params).items()}
    named = leaves_by_path(axes, is_leaf=lambda node: isinstance(node, tuple))

    def of(keys: tuple[Any, ...], leaf: Any) -> Axes:
        # optax keeps a parameter tree under a field of a named tuple, so the keys after the last field are its path.
        start = max((i + 1 for i, key in enumerate(keys) if not isinstance(key, jax.tree_util.DictKey)), default=0)
        path = ".".join(str(key.key) for key in keys[start:])
        if path in shapes:
            names = named[path]
            if leaf.shape == shapes[path] and _field(keys, start) not in ("row", "column"):
                return names
            sides = layout(len(names), names)
            averaged = {"row": sides.columns, "column": sides.rows}.get(_field(keys, start))
            if averaged is not None:
                return tuple(name for axis, name in enumerate(names) if axis not in averaged)
        return (None,) * len(leaf.shape)

    return jax.tree_util.tree_map_with_path(of, jax.eval_shape(tx.init, params))


def _field(keys: tuple[Any, ...], start: int) -> str:
    """The name of the named tuple's field that holds the parameter tree, empty if there is none."""
    return getattr(keys[start - 1], "name", "") if start else ""
