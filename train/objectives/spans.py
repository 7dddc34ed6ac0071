"""Spans of noise in a text, and the pair that they make of it: a source with sentinels in their places, a target that
has what was there (arXiv 1910.10683, section 3.1.4 and figure 2).

Of n tokens m are noise, in k spans. The spans' lengths are a random partition of m into k parts, those of the gaps one
of n - m into k parts, all partitions equally likely; gaps and spans alternate, a gap first. Shapes are static: n, m and
k may be traced.

    text    a b c d e f g h          source  a b <0> e f <1>
    noise   . . x x . . x x          target  <0> c d <1> g h <2>
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def counts(n: Int[np.ndarray, "..."], density: float, mean: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of noise and spans, int32, of texts of n tokens: round(n * density), at most n - 1, in spans of `mean`
    tokens; None: in one span. A text of less than two tokens has no noise."""
    some = n >= 2
    noise = np.clip(np.round(n * density), 1, np.maximum(n - 1, 1))
    spans = np.clip(np.round(noise / mean) if mean else 1, 1, np.maximum(np.minimum(noise, n - noise), 1))
    return np.where(some, noise, 0).astype(np.int32), np.where(some, spans, 0).astype(np.int32)


def noise_mask(
    draw: Float[Array, "T"], n: Int[Array, ""], noise: Int[Array, ""], spans: Int[Array, ""]
) -> Bool[Array, "T"]:
    """Which of the first n of T places are noise. `draw`: uniform numbers.

    The places are first laid out with all noise in front, cut into parts where the numbers drawn are the smallest, and
    then sorted: by part, the gap before the span.
    """
    place = jnp.arange(draw.shape[0], dtype=jnp.int32)
    is_noise, inside = place < noise, place < n
    begins = inside & ((place == 0) | (place == noise))  # of the two groups; the first part of each begins there

    def cut(group: jax.Array) -> jax.Array:
        """Where the parts 1, 2, ... of a group begin: at spans - 1 of its places but the first."""
        free = group & ~begins
        order = jnp.argsort(jnp.where(free, draw, 2.0))
        rank = jnp.zeros_like(place).at[order].set(place)
        return free & (rank < spans - 1)

    part = jnp.where(is_noise, jnp.cumsum(cut(is_noise)), jnp.cumsum(cut(inside & ~is_noise)))
    last = draw.shape[0]
    order = jnp.lexsort((is_noise, jnp.where(inside, part, last)))
    return (is_noise[order]) & inside


def corrupted(
    tokens: Int[Array, "T"],
    mask: Bool[Array, "T"],
    n: Int[Array, ""],
    sentinel: int,
    sizes: tuple[int, int],
) -> Mapping[str, jax.Array]:
    """`source`, `source_segments` [S] and target `tokens`, `segments` [T'] of a text of n tokens, S and T' in `sizes`.

    Span j has the sentinel id `sentinel` + j, the end of the target one more. A text without noise has no target.
    """
    inside = jnp.arange(tokens.shape[0], dtype=jnp.int32) < n
    begins = mask & ~jnp.pad(mask[:-1], (1, 0))
    number = jnp.cumsum(begins, dtype=jnp.int32) - 1
    marks = (sentinel + number).astype(tokens.dtype)
    source, there = packed(jnp.where(begins, marks, tokens), inside & (~mask | begins), sizes[0])
    both = jnp.stack([marks, tokens], axis=1).reshape(-1)
    kept = jnp.stack([begins, mask], axis=1).reshape(-1)
    both, kept = jnp.append(both, marks[-1] + 1), jnp.append(kept, jnp.any(mask))
    target, told = packed(both, kept, sizes[1])
    return {"source": source, "source_segments": there, "tokens": target, "segments": told}


def packed(tokens: Int[Array, "T"], kept: Bool[Array, "T"], size: int) -> tuple[jax.Array, jax.Array]:
    """The tokens that are kept, without gaps, in a row of `size`, and their segments: 1, and 0 for padding."""
    order = jnp.argsort(~kept, stable=True)[:size]
    order = jnp.pad(order, (0, max(0, size - order.shape[0])))
    there = jnp.arange(size, dtype=jnp.int32) < jnp.sum(kept, dtype=jnp.int32)
    return jnp.where(there, tokens[order], 0), there.astype(jnp.int32)
