"""Weights of the losses of a step: what totals are divided by, and a forward pass that gives weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from train.runtime.internals import without_unused

Factors = Mapping[str, jax.Array]
"""Name of a part's loss -> what its total is multiplied by to have the objective's weight for its own."""


def factors(weight: jax.Array, parts: Mapping[str, jax.Array]) -> Factors:
    """The objective's weight over each of the parts' weights; 0 where that is."""
    return {name: jnp.where(one > 0, weight / divisor(one), 0.0) for name, one in parts.items()}


def divisor(weight: jax.Array) -> jax.Array:
    """The weight, or 1 where it is 0: a batch of nothing but padding has no gradient rather than a bad one."""
    return jnp.where(weight > 0, weight, jnp.ones_like(weight))


def pruned(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` without what its results do not need. The compiler alone leaves some of it, such as loops."""

    def run(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
        jaxpr, used = without_unused(closed)
        leaves = [leaf for leaf, needed in zip(jax.tree.leaves(args), used, strict=True) if needed]
        out = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, closed.consts))(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return run
