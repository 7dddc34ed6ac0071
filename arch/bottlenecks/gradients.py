"""What gradient a vector gets that was replaced by its code, a step that has none of its own.

    StraightThrough   dx = dy                              (arXiv 1308.3432; VQ-VAE, arXiv 1711.00937, section 3.2)
    Rotation          dx = lambda R^T dy                   (the rotation trick, arXiv 2410.06424, section 4)

R is the rotation that takes x / |x| to y / |y| in the plane of both, lambda = |y| / |x|; both count as constants:
R = I - 2 r r^T + 2 v u^T with u = x / |x|, v = y / |y|, r = (u + v) / |u + v|.
"""

from __future__ import annotations

import abc
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.spec import Spec

TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class GradientRule(Spec, abc.ABC):
    """Called `rule(x, y)`: the values of `y`, bit for bit, with a gradient to `x`, and the one that `y` has anyway."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*rows N"], y: Float[Array, "*rows N"]) -> Float[Array, "*rows N"]:
        """`y`, as a function of `x` too."""


@dataclasses.dataclass(frozen=True)
class StraightThrough(GradientRule):
    """As if the code were the vector."""

    def __call__(self, x, y):
        return y + (x - jax.lax.stop_gradient(x))


@dataclasses.dataclass(frozen=True)
class Rotation(GradientRule):
    """As if the code were the vector rotated and stretched. A vector or a code of length 0 is let straight through."""

    def __call__(self, x, y):
        x32, code = (jax.lax.stop_gradient(one.astype(jnp.float32)) for one in (x, y))
        far, long = (jnp.linalg.norm(one, axis=-1, keepdims=True) for one in (x32, code))
        u, v = x32 / jnp.maximum(far, TINY), code / jnp.maximum(long, TINY)
        r = (u + v) / jnp.maximum(jnp.linalg.norm(u + v, axis=-1, keepdims=True), TINY)
        some = (far > TINY) & (long > TINY)
        stretch = jnp.where(some, long / jnp.maximum(far, TINY), jnp.ones(()))
        live = x.astype(jnp.float32)
        along = lambda a, b: jnp.sum(a * b, axis=-1, keepdims=True)  # noqa: E731
        turned = stretch * (live - 2 * along(live, r) * r + 2 * along(live, u) * v)
        turned = jnp.where(some, turned, live).astype(x.dtype)
        return y + (turned - jax.lax.stop_gradient(turned))
