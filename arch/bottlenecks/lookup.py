"""Nearest codes: which rows of a codebook are most similar to each vector.

    cosine       a.c / (|a| |c|), ranked by a.c / |c|, which does not depend on the length of a
    squared L2   -|a - c|^2, ranked by a.c - |c|^2 / 2

One matrix product and an arg-max, over blocks of vectors so that no more than `limit` scores are in memory at once. Of
equal scores the code with the lowest index wins. No gradient goes through a choice.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.sharding import platform

Metric = Literal["cosine", "l2"]
LIMITS = {"cpu": 2**22}
"""Scores held at once by platform, else `LIMIT`: 16 MiB stay near a CPU's caches, and cost a third less there."""

LIMIT = 2**26

TINY = 1e-12


def nearest(
    x: Float[Array, "*rows N"],
    codes: Float[Array, "C N"],
    metric: Metric = "l2",
    k: int = 1,
    limit: int | None = None,
) -> Int[Array, "*rows k"]:
    """The `k` codes most similar to each vector, the most similar first; computed in float32. `limit`: scores held at
    once; None: as the platform likes it."""
    limit = limit or LIMITS.get(platform(), LIMIT)
    x, codes = (jax.lax.stop_gradient(array.astype(jnp.float32)) for array in (x, codes))
    if metric == "cosine":
        codes, bias = codes / jnp.maximum(jnp.linalg.norm(codes, axis=-1, keepdims=True), TINY), None
    else:
        bias = -0.5 * jnp.sum(jnp.square(codes), axis=-1)
    flat = x.reshape(-1, x.shape[-1])

    def chosen(block: jax.Array) -> jax.Array:
        scores = jnp.einsum("mn,cn->mc", block, codes)
        return largest(scores if bias is None else scores + bias[None], k)

    rows, blocks = len(flat), -(-len(flat) * len(codes) // limit)
    if blocks <= 1:
        return chosen(flat).reshape(*x.shape[:-1], k)
    size = -(-rows // blocks)
    padded = jnp.pad(flat, ((0, size * blocks - rows), (0, 0)))
    # Block i has every `blocks`-th vector: what devices share out along the rows stays where it is.
    found = jax.lax.map(chosen, jnp.swapaxes(padded.reshape(size, blocks, -1), 0, 1))
    return jnp.swapaxes(found, 0, 1).reshape(-1, k)[:rows].reshape(*x.shape[:-1], k)


def largest(scores: Float[Array, "M C"], k: int) -> Int[Array, "M k"]:
    """Indices of the k largest scores of a row, the largest first. For k = 1 as two plain reductions, which are faster
    than one that carries an index along; k turns of these take ten times as long as `top_k` for 8 of 1,024."""
    if k > 1:
        return jax.lax.top_k(scores, k)[1]
    place = jnp.arange(scores.shape[-1], dtype=jnp.int32)[None]
    top = jnp.max(scores, axis=-1, keepdims=True)
    first = jnp.min(jnp.where(scores == top, place, scores.shape[-1]), axis=-1, keepdims=True)
    return jnp.minimum(first, scores.shape[-1] - 1)  # of scores that are no numbers


def read(codes: Float[Array, "C N"], ids: Int[Array, "*rows k"]) -> Float[Array, "*rows k N"]:
    """The codes called `ids`."""
    return jnp.take(codes, ids, axis=0)
