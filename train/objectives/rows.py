"""Documents of a row, by their segments: where each token stands in its document, and how long that is."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


class Places(NamedTuple):
    """int32 [B, T]: the place in the row of the first token of each token's document, the token's place in its
    document, and how many tokens the document has. A run of padding counts as a document."""

    first: jax.Array
    place: jax.Array
    length: jax.Array


def places(segments: Int[Array, "B T"]) -> Places:
    """Of rows whose documents are runs of equal `segments`."""
    there = jnp.arange(segments.shape[1], dtype=jnp.int32)[None]
    begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    ends = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    first = jax.lax.cummax(jnp.where(begins, there, 0), axis=1)
    last = jax.lax.cummin(jnp.where(ends, there, there.shape[1]), axis=1, reverse=True)
    return Places(first, there - first, last - first + 1)
