"""Shape helpers shared by the layers."""

from __future__ import annotations

import jax


def align(v: jax.Array, like: jax.Array) -> jax.Array:
    """`v`, a parameter of the trailing dimensions of `like`, in its rank and dtype: nothing is promoted silently."""
    return v.reshape((1,) * (like.ndim - v.ndim) + v.shape).astype(like.dtype)
