"""Feature maps for linear attention: positive features phi with phi(q) . phi(k) in the place of exp(q . k / sqrt(K)).

`EluPlusOne`              elu(x) + 1 (Katharopoulos et al., arXiv 2006.16236, eq. 7)
`PositiveOrthogonal`      exp(w_r . x - |x|^2 / 2) / sqrt(R), x scaled by K^(-1/4): FAVOR+ of the Performer (arXiv
                          2009.14794, eq. 5 and section 2.4), whose expected product is the softmax kernel itself
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from arch.spec import Problem, Spec, at_least

FLOOR = 1e-6
"""Added to random features, so that no query is without any key: that of the Performer's published code."""


@dataclasses.dataclass(frozen=True)
class FeatureMap(Spec, abc.ABC):
    """Positive features of queries and keys, float32, over the last axis."""

    @abc.abstractmethod
    def size(self, head_dim: int) -> int:
        """R, the number of features of a head of `head_dim`."""

    @abc.abstractmethod
    def query(self, x_BTNK: Float[Array, "B T N K"]) -> Float[Array, "B T N R"]:
        """Features of queries; a factor of their own for each query cancels."""

    @abc.abstractmethod
    def key(
        self, x_BTNK: Float[Array, "B T N K"], visible: Bool[Array, "B T"] | None, whole: bool
    ) -> Float[Array, "B T N R"]:
        """Features of keys. `whole`: all keys of a row are seen together, so a factor common to them cancels."""


@dataclasses.dataclass(frozen=True)
class EluPlusOne(FeatureMap):
    """elu(x) + 1: as many features as the head is wide."""

    def size(self, head_dim):
        return head_dim

    def query(self, x_BTNK):
        return jax.nn.elu(x_BTNK.astype(jnp.float32)) + 1.0

    def key(self, x_BTNK, visible, whole):
        return self.query(x_BTNK)


@dataclasses.dataclass(frozen=True)
class PositiveOrthogonal(FeatureMap):
    """`count` positive random features whose directions are orthogonal in groups of K, drawn once from `seed`.

    The largest exponent of a query, and of all keys of a row where they are seen together, is subtracted.
    """

    count: int = 256
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "count")
        yield from at_least(self, 0, "seed")

    def size(self, head_dim):
        return self.count

    def exponents(self, x_BTNK: Float[Array, "B T N K"]) -> Float[Array, "B T N R"]:
        """w_r . x - |x|^2 / 2."""
        K = x_BTNK.shape[-1]
        x = x_BTNK.astype(jnp.float32) * K**-0.25
        half_square = 0.5 * jnp.sum(jnp.square(x), axis=-1, keepdims=True)
        return jnp.einsum("btnk,rk->btnr", x, jnp.asarray(directions(self.count, K, self.seed))) - half_square

    def _features(self, exponents: jax.Array) -> jax.Array:
        return (jnp.exp(exponents) + FLOOR) / math.sqrt(self.count)

    def query(self, x_BTNK):
        exponents = self.exponents(x_BTNK)
        largest = jnp.max(exponents, axis=-1, keepdims=True)
        return self._features(exponents - jax.lax.stop_gradient(largest))

    def key(self, x_BTNK, visible, whole):
        exponents = self.exponents(x_BTNK)
        if not whole:
            return self._features(exponents)
        if visible is not None:
            exponents = jnp.where(visible[:, :, None, None], exponents, -jnp.inf)
        largest = jax.lax.stop_gradient(jnp.max(exponents, axis=(1, 3), keepdims=True))
        return self._features(exponents - jnp.where(jnp.isfinite(largest), largest, 0.0))


@functools.cache
def directions(count: int, width: int, seed: int) -> np.ndarray:
    """float32 [count, width]: rows orthogonal in groups of `width`, with the lengths of Gaussian vectors."""
    rng = np.random.default_rng(seed)
    q, r = np.linalg.qr(rng.standard_normal((-(-count // width), width, width)))
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]  # without the signs, directions are not uniform
    lengths = np.linalg.norm(rng.standard_normal((count, width)), axis=1, keepdims=True)
    return (q.swapaxes(1, 2).reshape(-1, width)[:count] * lengths).astype(np.float32)
