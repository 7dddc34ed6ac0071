"""What each layer does to the residual stream, from tapped activations (arXiv 2505.13898, section 3; arXiv 2502.05795).

All functions take arrays with the layers first, [L, B, ..., D], and return one number a layer: the mean over tokens,
each counted by its weight [B, ...] (None: all alike). What is small is not rescaled for a picture: values are raw.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.layers.shapes import Known

SMALLEST = 1e-12
"""Lower bound of norms that are divided by."""

Stream = Float[Known, "L B *T D"]
Weight = Float[Known, "B *T"] | None
PerLayer = Float[Array, "L"]


def residual_rms(x: Stream, weight: Weight = None) -> PerLayer:
    """Root of the mean square of the stream."""
    return jnp.sqrt(token_mean(jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1), weight))


def variance(x: Stream, weight: Weight = None) -> PerLayer:
    """Variance of all entries of a layer's stream, over tokens and channels together."""
    x = x.astype(jnp.float32)
    mean = token_mean(jnp.mean(x, axis=-1), weight)
    centred = x - mean.reshape(-1, *(1,) * (x.ndim - 1))
    return token_mean(jnp.mean(jnp.square(centred), axis=-1), weight)


def relative_contribution(write: Stream, stream: Stream, weight: Weight = None) -> PerLayer:
    """|write| / |stream|, the stream as it was before the write."""
    return token_mean(_norm(write) / jnp.maximum(_norm(stream), SMALLEST), weight)


def cosine(write: Stream, stream: Stream, weight: Weight = None) -> PerLayer:
    """Cosine of a write and the stream before it: 0 a new direction, positive strengthens, negative erases."""
    return token_mean(jnp.sum(_unit(write) * _unit(stream), axis=-1), weight)


def angular_distance(x: Stream, y: Stream, weight: Weight = None) -> PerLayer:
    """arccos(cos(x, y)) / pi: 0 in one direction, 1/2 orthogonal, 1 opposite.

    As 2 atan2(|u - v|, |u + v|) of the unit vectors, which needs no clipping, and is exact where arccos loses half of
    its digits: at nearly equal vectors.
    """
    u, v = _unit(x), _unit(y)
    return token_mean(2 / jnp.pi * jnp.arctan2(_norm(u - v), _norm(u + v)), weight)


def attention_entropy(pattern: Float[Known, "L B N T S"], weight: Float[Known, "B T"] | None = None) -> PerLayer:
    """Entropy of the attention of a query in nats, mean over heads. From 0 (one key) to log(keys seen)."""
    p = jnp.asarray(pattern, jnp.float32)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0), axis=-1)
    return token_mean(jnp.mean(entropy, axis=2), weight)


def token_mean(value: Float[Known, "L B *T"], weight: Weight) -> PerLayer:
    """The mean over tokens, weighted; 0 where all weights are."""
    axes = tuple(range(1, value.ndim))
    if weight is None:
        return jnp.mean(value, axis=axes)
    total = jnp.sum(weight)
    return jnp.sum(value * weight[None], axis=axes) / jnp.where(total > 0, total, 1.0)


def _norm(x: Known) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1))


def _unit(x: Known) -> jax.Array:
    return jnp.asarray(x, jnp.float32) / jnp.maximum(_norm(x), SMALLEST)[..., None]
