"""How healthy a codebook is: which codes are used, and how far what goes on is from what came.

Counts are running means of a step's sums over rows, n <- d n + (1 - d) sum, kept in a buffer: they are the same on any
number of devices and in any number of micro-batches. `usage` is the share of codes that are not dead; a code is dead if
it is chosen less than `DEAD` times as often as if all were chosen equally. `perplexity` is exp of the entropy of the
choices in nats, `bits` the entropy in bits, `error` sum |x - y|^2 / sum |x|^2 over the batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.answers import Sum
from arch.params import Buffer, ParamFactory

DEAD = 0.01
"""Of the equal share."""

DECAY = 0.99
"""Of running counts that only report."""


def counter(make: ParamFactory, *sizes: int) -> Buffer:
    """A buffer of running counts [..., C] that starts as if every code had been chosen once."""
    return make.buffer([*((size, None) for size in sizes[:-1]), (sizes[-1], "codes")], 1.0)


def count(ids: Int[Array, "*rows k"], weights: Float[Array, "*rows"] | None, codes: int) -> Float[Array, "C"]:
    """How often each of `codes` codes was chosen, each choice with its weight."""
    each = jnp.ones(ids.shape, jnp.float32) if weights is None else jnp.broadcast_to(weights[..., None], ids.shape)
    return jnp.zeros(codes, jnp.float32).at[ids.reshape(-1)].add(each.reshape(-1))


def moved(counts: jax.Array, sums: jax.Array, decay: float = DECAY) -> jax.Array:
    """Running counts after a step that counted `sums`."""
    return decay * counts + (1 - decay) * sums


def shares(counts: Float[Array, "*s C"]) -> Float[Array, "*s C"]:
    """Of all choices; nothing where nothing was ever chosen."""
    return counts / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1e-30)


def dead(counts: Float[Array, "*s C"], share: float = DEAD) -> Float[Array, "*s C"]:
    """1 for codes that are dead."""
    return (shares(counts) * counts.shape[-1] < share).astype(jnp.float32)


def entropy(counts: Float[Array, "*s C"]) -> Float[Array, "*s"]:
    """Of the choices, in nats."""
    share = shares(counts)
    return -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1.0)), 0.0), axis=-1)


def health(
    counts: Float[Array, "*s C"], x: jax.Array, y: jax.Array, weights: jax.Array | None, bits: Any = None
) -> dict[str, Sum]:
    """The metrics of a quantiser that made `y` of `x` and has these running counts. `bits`: of the codes of a
    vector."""
    there = jnp.asarray(x[..., 0].size, jnp.float32) if weights is None else jnp.sum(weights)
    # Numbers of the buffers, the same for every row: sums over vectors like the others.
    told = {
        "usage": 1 - jnp.mean(dead(counts)),
        "perplexity": jnp.mean(jnp.exp(entropy(counts))),
        "dead": jnp.mean(jnp.sum(dead(counts), axis=-1)),
    } | ({} if bits is None else {"bits": bits})
    return {name: Sum(there * value, there) for name, value in told.items()} | {"error": error(x, y, weights)}


def error(x: jax.Array, y: jax.Array, weights: jax.Array | None) -> Sum:
    """sum |x - y|^2 / sum |x|^2."""
    return Sum(squared(x - y, weights), squared(x, weights))


def squared(x: jax.Array, weights: jax.Array | None) -> jax.Array:
    """The sum of |x|^2 of the vectors that count, without a gradient."""
    lengths = jnp.sum(jnp.square(jax.lax.stop_gradient(x).astype(jnp.float32)), axis=-1)
    return jnp.sum(lengths if weights is None else lengths * weights)


def apart(x: jax.Array, y: jax.Array, weights: jax.Array | None, scale: float = 1.0, over: str = "mean") -> Sum:
    """`scale` times the squared distance of `x` and `y`, the "mean" or the "sum" over features, the mean over
    vectors."""
    gap = jnp.square(x.astype(jnp.float32) - y.astype(jnp.float32))
    each = scale * (jnp.mean(gap, axis=-1) if over == "mean" else jnp.sum(gap, axis=-1))
    weights = jnp.ones(each.shape, jnp.float32) if weights is None else weights
    return Sum(jnp.sum(each * weights), jnp.sum(weights))
