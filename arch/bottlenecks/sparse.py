"""What sparse autoencoders share: a vector becomes a sum of few of C directions, each with an amplitude.

    z = (x - b) W_enc + b_enc,  amplitudes f(z) of few,  y = sum_c a_c d_c + b,  |d_c| = 1
    L = weight |y - x|^2,  the mean over features, of sg(x)

The directions start at random and W_enc as their transpose (arXiv 2406.04093, section 2 and appendix A). Vectors get
the gradient that the autoencoder has; of L they get none. Codes are the ids of the directions, the largest amplitude
first.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.answers import Sum
from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer
from arch.bottlenecks.bits import AMPLITUDE, sparse_bits
from arch.bottlenecks.lookup import read
from arch.params import ParamFactory
from arch.spec import Problem, at_least, one_of

Precision = Literal[32, 16, 8]
TYPES = {16: jnp.bfloat16, 8: jnp.float8_e4m3fn}
"""What amplitudes of fewer than 32 bits are rounded to."""


@dataclasses.dataclass(frozen=True)
class Sparse(Bottleneck):
    """What sparse codes have.

    Attributes:
      codes: C.
      k: how many of them a vector becomes.
      weight: of the squared error.
      precision: bits of an amplitude: 32, or 16 or 8, to which amplitudes are then rounded (bfloat16, float8_e4m3fn)
        with the gradient straight through; what is above the largest finite number (448 in 8 bits) becomes that.
    """

    codes: int = 1024
    k: int = 32
    weight: float = 1.0
    precision: Precision = AMPLITUDE

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "codes", "k")
        yield from at_least(self, 0, "weight")
        yield from one_of(self, "precision", get_args(Precision))
        if self.k > self.codes:
            yield Problem("k", self.k, f"must be at most codes={self.codes}")


class SparseLayer(Quantizer):
    """Subclasses say which amplitudes a vector has, and add losses."""

    def __init__(self, spec: Sparse, width: int, make: ParamFactory):
        self.k, self.weight, self.precision = spec.k, spec.weight, spec.precision
        ways = jax.random.normal(make.at("decoder").key, (spec.codes, width))
        ways = ways / jnp.linalg.norm(ways, axis=-1, keepdims=True)
        codes, embed = (spec.codes, "codes"), (width, "embed")
        self.decoder = make.array([codes, embed], ways, "unit rows", role="codebook")
        self.encoder = make.array([embed, codes], ways.T, "decoder transposed", role="linear")
        self.encoder_bias, self.bias = make.constant([codes], 0.0), make.constant([embed], 0.0)
        self.counts = usage.counter(make, spec.codes)

    @abc.abstractmethod
    def chosen(self, x: jax.Array, weights: jax.Array | None, training: bool) -> tuple[jax.Array, jax.Array]:
        """Ids int32 [..., m] and their amplitudes, 0 for those that are not there, of vectors that are float32."""

    def told(self, x: jax.Array, weights: jax.Array | None, training: bool) -> tuple[jax.Array, jax.Array]:
        """`chosen`, the amplitudes rounded."""
        ids, sizes = self.chosen(x, weights, training)
        return ids, rounded(sizes, self.precision)

    def further(self, x: jax.Array, y: jax.Array, weights: jax.Array | None) -> dict[str, Sum]:
        """Losses beside the squared error; `x` without a gradient, `y` what the autoencoder makes of it."""
        return {}

    def before(self, x: jax.Array) -> jax.Array:
        """z [..., C]."""
        inner = (x - _row(self.bias[...], x)) @ self.encoder[...]
        return inner + _row(self.encoder_bias[...], inner)

    def directions(self) -> jax.Array:
        """d [C, N], of length 1."""
        ways = self.decoder[...].astype(jnp.float32)
        return ways / jnp.maximum(jnp.linalg.norm(ways, axis=-1, keepdims=True), 1e-12)

    def made(self, ids: jax.Array, amplitudes: jax.Array) -> jax.Array:
        """The sum of the directions. Few are read; where they are many, all are multiplied."""
        ways = self.directions()
        if 4 * ids.shape[-1] <= len(ways):
            y = jnp.einsum("...k,...kn->...n", amplitudes, read(ways, ids))
        else:
            y = _dense(ids, amplitudes, len(ways)) @ ways
        return y + _row(self.bias[...], y)

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        x32 = x.astype(jnp.float32)
        ids, sizes = self.told(x32, weights, training)
        ids, sizes = ids if codes is None else codes, sizes if amplitudes is None else amplitudes
        y = self.made(ids, sizes)
        target = jax.lax.stop_gradient(x32)
        own = self.made(*self.told(target, weights, training))
        counts, there = self.counts[...], jnp.ones(x.shape[:-1], jnp.float32) if weights is None else weights
        active = (sizes > 0).astype(jnp.float32) * there[..., None]
        metrics = usage.health(counts, x32, y, weights, self.bits(counts))
        return Quantized(
            y.astype(x.dtype),
            ids,
            sizes,
            {"reconstruction": usage.apart(own, target, weights, self.weight), **self.further(target, own, weights)},
            {**metrics, "active": Sum(jnp.sum(active), jnp.sum(there))},
            self.statistics(ids, sizes, active, there),
        )

    def statistics(self, ids: jax.Array, sizes: jax.Array, active: jax.Array, there: jax.Array) -> dict[str, jax.Array]:
        """Sums over rows for `advance`; `active` is the weight of each choice."""
        counts = jnp.zeros(self.counts.shape[-1], jnp.float32).at[ids.reshape(-1)].add(active.reshape(-1))
        return {"counts": counts}

    def advance(self, buffers, sums):
        return {"counts": usage.moved(buffers["counts"], sums["counts"])}

    def bits(self, counts=None):
        return sparse_bits(counts, self.counts.shape[-1], self.k, self.precision)


def rounded(amplitudes: Float[Array, "*s"], precision: Precision) -> Float[Array, "*s"]:
    """Amplitudes that so many bits hold, with the gradient of the amplitudes."""
    if precision not in TYPES:
        return amplitudes
    largest = float(jnp.finfo(TYPES[precision]).max)
    fixed = jax.lax.stop_gradient(amplitudes)
    return jnp.clip(fixed, -largest, largest).astype(TYPES[precision]).astype(jnp.float32) + (amplitudes - fixed)


def strongest(z: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The ids of the `k` largest of z [..., C], and their positive parts."""
    ids = jax.lax.top_k(jax.lax.stop_gradient(z), k)[1]
    return ids, jax.nn.relu(jnp.take_along_axis(z, ids, axis=-1))


def _dense(ids: jax.Array, amplitudes: jax.Array, codes: int) -> jax.Array:
    """Amplitudes [..., C] of all codes."""
    flat = ids.reshape(-1, ids.shape[-1])
    rows = jnp.arange(len(flat), dtype=jnp.int32)[:, None]
    dense = jnp.zeros((len(flat), codes), amplitudes.dtype).at[rows, flat].add(amplitudes.reshape(flat.shape))
    return dense.reshape(*ids.shape[:-1], codes)


def _row(value: jax.Array, like: jax.Array) -> jax.Array:
    return value.reshape((1,) * (like.ndim - 1) + (-1,))
