"""Models that an objective reads and that are not trained: a teacher, a reward model, a reference policy.

Their arrays are no part of the state: no optimiser has them, no checkpoint holds them, no gradient reaches them. They
are an argument of the compiled steps, in the precision of the run, placed by their own logical axes, once for all
replicas of an ensemble. They are read when a step first needs them. The identity of a run has the digest of where they
come from.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arch.cost import abstract
from arch.models.base import Model
from arch.params import Buffer, logical_axes
from arch.spec import Spec, UserError
from train.sharding import placement
from train.starts.beside import Arrays, graphs
from train.starts.start import Start, begin


@dataclasses.dataclass(frozen=True)
class Pretrained(Spec):
    """A trained model: what it is, and where all of its parameters and buffers come from."""

    model: Model
    start: Start


def placed(models: Mapping[str, Pretrained], mesh: jax.sharding.Mesh, dtype: Any) -> Arrays:
    """The arrays of `models` in shapes, in the type of the computation and with their shardings on `mesh`."""
    _, shapes = graphs(models)
    modules = {name: abstract(one.model) for name, one in models.items()}
    axes = {name: {"params": logical_axes(one), "buffers": logical_axes(one, Buffer)} for name, one in modules.items()}
    where = placement.shardings(mesh, axes, shapes)

    def one(leaf: Any, place: Any) -> jax.ShapeDtypeStruct:
        kind = dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, kind, sharding=place)

    return jax.tree.map(one, shapes, where)


def load(models: Mapping[str, Pretrained], wanted: Arrays) -> Arrays:
    """The arrays of `models` where and as `wanted` says.

    Raises:
      UserError: a source that is not there, or does not hold just the arrays of its model.
    """
    found = {}
    for name, one in models.items():
        state = begin(one.start, dict(wanted[name]), lambda line: None)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            if isinstance(leaf, jax.ShapeDtypeStruct):
                which = jax.tree_util.keystr(path[1:], simple=True, separator=".")
                raise UserError(f"objective.{name}.start: holds no {which}; a frozen model is taken whole")
        found[name] = state
    return found


class Bound:
    """A compiled function whose first argument are frozen arrays, which are read by its first call."""

    def __init__(self, fn: Any, abstract: Arrays, read: Any):
        self.fn, self.abstract, self.read = fn, abstract, read

    def __call__(self, *args: Any) -> Any:
        return self.fn(self.read(), *args)

    def lower(self, *args: Any) -> Any:
        """As of a jitted function; nothing is read."""
        return self.fn.lower(self.abstract, *args)


def reader(models: Mapping[str, Pretrained], wanted: Arrays) -> Any:
    """`() -> load(models, wanted)`, read once."""
    return functools.cache(lambda: load(models, wanted))
