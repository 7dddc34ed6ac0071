"""What a block is told besides its input, and what it answers besides its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arch.taps import NoTap, Recorder


class Keep(NamedTuple):
    """Gates on what a layer writes: None (no gate in the program), or per layer `[L]` or per position `[L, B, T]`.

    Booleans choose exactly (a skipped layer is the identity, a kept one is untouched); floats scale. In a layer's
    context the leading L is gone. Skipping a layer, pruning it and a closed gate are this one thing.
    """

    block: Any = None
    mixer: Any = None
    feed_forward: Any = None


@dataclasses.dataclass(frozen=True)
class Context:
    """The surroundings of a block call. Frozen; stacks and blocks hand down narrowed copies.

    Attributes:
      positions: int32 [1 or B, T], position of each token in its document; a numpy array where known while tracing.
      segments: int32 [B, T], document of each token, 0 for padding; None: one document, no padding.
      key_positions, key_segments: the same for the S places attended to; equal to the above without a cache.
      index: scalar, the place in the cache where these T tokens are written; None without a cache.
      cache: this part's own cache, from `init_cache`; None without.
      bias: float [1 or B, N, T, S] added to attention scores, from a position part shared by all layers.
      layer: 0-based index of this layer; traced under scan.
      key: PRNG key for dropout; None: no dropout.
      keep: gates of this layer.
      memory: what cross-attention reads.
      tap: called as `tap(site, x)` at named sites.
    """

    positions: jax.Array | np.ndarray
    segments: jax.Array | None
    key_positions: jax.Array | np.ndarray
    key_segments: jax.Array | None
    index: Any = None
    cache: Any = None
    bias: jax.Array | None = None
    layer: int | jax.Array = 0
    key: jax.Array | None = None
    keep: Keep = Keep()
    memory: Any = None
    tap: NoTap | Recorder = dataclasses.field(default_factory=NoTap)

    def replace(self, **changes: Any) -> Context:
        return dataclasses.replace(self, **changes)


class Result(NamedTuple):
    """What a sublayer, block or stack answers.

    Attributes:
      x: the output.
      cache: its cache after this call, in the structure it was given; None without.
      aux: name -> scalar, extra losses ("loss/...") and statistics; stacked over layers by a stack.
    """

    x: jax.Array
    cache: Any = None
    aux: Mapping[str, jax.Array] = {}


def gate(keep: Any, new: jax.Array, old: jax.Array | float) -> jax.Array:
    """`new` where kept, `old` where not. `keep` is None, scalar or [B, T]; boolean (exact) or float (mixing)."""
    if keep is None:
        return new
    keep = jnp.asarray(keep)
    keep = keep.reshape(keep.shape + (1,) * (new.ndim - keep.ndim)) if keep.ndim else keep
    if keep.dtype == jnp.bool_:
        return jnp.where(keep, new, jnp.asarray(old, new.dtype))
    keep = keep.astype(new.dtype)
    return keep * new + (1 - keep) * old


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout; the identity without a key or at rate 0."""
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros((), x.dtype))
