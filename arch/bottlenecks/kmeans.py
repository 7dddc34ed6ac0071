"""k-means: codes that are the centres of vectors (Lloyd 1982), to start a codebook from data.

codes = kmeans(vectors, 512, key)
Run(start=KMeansCodes(FromRun("runs/base")))                                # train/starts/codes_from_data.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.bottlenecks.lookup import nearest


def kmeans(
    x: Float[Array, "M N"], codes: int, key: jax.Array, weights: Float[Array, "M"] | None = None, steps: int = 10
) -> Float[Array, "{codes} N"]:
    """`codes` centres of the vectors, by squared distance, after `steps` of Lloyd's algorithm.

    They start at different vectors, drawn by `key` with the probabilities of their weights; those of weight 0 count
    nowhere. Where there are fewer vectors than codes, further codes are the first ones again with small noise, a
    thousandth of the vectors' spread. A code that no vector is nearest to stays where it was.
    """
    x = x.astype(jnp.float32)
    each = jnp.ones(len(x), jnp.float32) if weights is None else weights
    draw, shake = jax.random.split(key)
    # The largest of log-weights with Gumbel noise: draws without replacement.
    lot = jnp.where(each > 0, jnp.log(jnp.maximum(each, 1e-30)) + jax.random.gumbel(draw, each.shape), -jnp.inf)
    first = jax.lax.top_k(lot, min(codes, len(x)))[1]
    drawn = jnp.clip(jnp.sum(each > 0), 1, len(first))
    share = (each / jnp.maximum(jnp.sum(each), 1e-30))[:, None]
    mean = jnp.sum(share * x, axis=0, keepdims=True)
    spread = jnp.sqrt(jnp.mean(jnp.sum(share * jnp.square(x - mean), axis=0)))
    noise = 1e-3 * spread * jax.random.normal(shake, (codes, x.shape[-1]))
    again = (jnp.arange(codes) >= drawn)[:, None]
    start = x[first[jnp.arange(codes) % drawn]] + jnp.where(again, noise, jnp.zeros(()))

    def step(_: jax.Array, centres: jax.Array) -> jax.Array:
        to = nearest(x, centres)[:, 0]
        counts = jnp.zeros(codes).at[to].add(each)
        sums = jnp.zeros_like(centres).at[to].add(x * each[:, None])
        return jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1e-30)[:, None], centres)

    return jax.lax.fori_loop(0, steps, step, start)


def centres(x: Float[Array, "*rows N"], weights: Float[Array, "*rows"], codes: int, key: jax.Array, steps: int):
    """`kmeans` of vectors in any number of rows."""
    return kmeans(x.reshape(-1, x.shape[-1]), codes, key, weights.reshape(-1), steps)
