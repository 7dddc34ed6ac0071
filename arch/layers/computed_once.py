"""Tables that a step computes from positions, once, on CPUs.

XLA's CPU backend fuses cheap operations into all that uses them, and so takes cosines and sines anew for every head, in
the forward and in the backward pass: the 5M step of `bench/train_step.py` took 913 ms with rotary tables computed that
way and 719 with tables that are constants. `optimization_barrier` does not stop it; nothing is fused across a
conditional. Behind a `vmap` the conditional becomes a select, which costs nothing measurable. Other platforms compute
the tables where they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from arch.sharding import platform


def computed_once(fn: Callable[[jax.Array], Any], positions: jax.Array) -> Any:
    """`fn(positions)`, a tree of arrays that are not fused into their uses. `positions` are at least 0."""
    if platform() != "cpu":
        return fn(positions)
    shapes = jax.eval_shape(fn, positions)

    def nothing(positions: jax.Array) -> Any:
        return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    return jax.lax.cond(jnp.max(positions) >= 0, fn, nothing, positions)
