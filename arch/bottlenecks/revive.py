"""Dead codes come back: each is put beside a code that is used much, as in splitting cells (Linde, Buzo, Gray 1980).

A code is dead whose share of the running counts is below `share` / C. The r-th dead code takes the place of the r-th
fullest live one, counted round and round, moved in a direction of its own by the spread of the vectors in that cell,
and all that are in a place now divide its count equally. Everything is read from buffers that hold sums over rows, so
that the same codes come back to the same places on any number of devices and in any number of micro-batches.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.bottlenecks.usage import dead


def revived(
    codes: Float[Array, "C N"], counts: Float[Array, "C"], spread: Float[Array, "C"], share: float
) -> tuple[Float[Array, "C N"], Float[Array, "C"], Float[Array, "C"]]:
    """Codes, running counts and running summed squared distances of a codebook, dead codes revived.

    Args:
      codes: the codebook.
      counts: running counts.
      spread: running sums of |x - c|^2 of the vectors that chose each code.
      share: of an equal share of choices, below which a code is dead.
    """
    size, width = codes.shape
    gone = dead(counts, share) > 0
    order = jnp.argsort(jnp.where(gone, -jnp.ones(()), counts), descending=True, stable=True)  # live ones first
    live = jnp.maximum(jnp.sum(~gone), 1)
    rank = jnp.cumsum(gone) - 1
    parent = jnp.where(gone, order[rank % live], jnp.arange(size))
    families = jnp.zeros(size).at[parent].add(1.0)
    radius = jnp.sqrt(jnp.maximum(spread, 0.0) / jnp.maximum(counts, 1e-30) / width)
    ways = jax.random.normal(jax.random.key(0), (size, width))
    moved = codes[parent] + radius[parent][:, None] * ways
    part = 1 / families[parent]
    return jnp.where(gone[:, None], moved, codes), counts[parent] * part, spread[parent] * part
