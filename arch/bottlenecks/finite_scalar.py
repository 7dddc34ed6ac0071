"""Finite scalar quantisation (FSQ, arXiv 2309.15505): d numbers, each rounded to one of a few levels; no codebook.

    h = (L - 1)(1 - eps) / 2,  o = 1/2 for even L, 0 for odd
    b(z) = h tanh(z + tan(o / h)) - o,  y = round(b(z)) / floor(L / 2)

with the gradient of b(z) / floor(L / 2) (appendix A.1). With an even L, b(0) is not quite 0; a public implementation
(vector-quantize-pytorch) has h = (L - 1)(1 + eps) / 2 and b(z) = h tanh(z + artanh(o / h)) - o, so that it is. A vector
is mapped to the d numbers and back by linear maps, unless its width is d. There are no losses.
Code = sum_i (round(b_i) + floor(L_i / 2)) prod_{j < i} L_j.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer
from arch.bottlenecks.bits import chosen_bits
from arch.bottlenecks.projected import Projected
from arch.params import ParamFactory
from arch.spec import Problem, between, one_of

Compat = Literal["paper", "artanh"]

MOST = 2**24
"""Codes that are counted."""


@dataclasses.dataclass(frozen=True)
class FiniteScalar(Bottleneck):
    """Numbers rounded to levels.

    Attributes:
      levels: of each of the d numbers, at least 2; the product of all is the number of codes.
      eps: how far the bound stays inside the outermost level, relatively; with compat=artanh how far it goes beyond.
      compat: "artanh" is the bound of public implementations.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    eps: float = 1e-3
    compat: Compat = "paper"

    def problems(self) -> Iterator[Problem]:
        if not self.levels or min(self.levels) < 2 or math.prod(self.levels) > MOST:
            yield Problem("levels", self.levels, f"must be numbers of at least 2, their product at most {MOST}")
        yield from between(self, 0, 0.5, "eps")
        yield from one_of(self, "compat", get_args(Compat))
        if self.compat == "artanh" and not 0 < (max(self.levels, default=2) - 1) * self.eps < 1:
            yield Problem("eps", self.eps, "must be above 0 and below 1 / (levels - 1) with compat=artanh")

    def build(self, width, make):
        return FiniteScalarLayer(self, width, make)


class FiniteScalarLayer(Quantizer):
    def __init__(self, spec: FiniteScalar, width: int, make: ParamFactory):
        self.levels, self.eps, self.compat = spec.levels, spec.eps, spec.compat
        self.projected = Projected(width, len(spec.levels), make)
        self.counts = usage.counter(make, math.prod(spec.levels))

    def bounded(self, z: jax.Array) -> jax.Array:
        """The numbers [..., d] squashed into the range of their levels."""
        levels = np.asarray(self.levels, np.float32)
        eps, bend = (-self.eps, np.tan) if self.compat == "paper" else (self.eps, np.arctanh)
        half, offset = (levels - 1) * (1 + eps) / 2, np.where(levels % 2 == 1, 0.0, 0.5)
        return jnp.tanh(z + _row(bend(offset / half), z)) * _row(half, z) - _row(offset, z)

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        middle = _row(np.asarray(self.levels) // 2, x[..., :1])
        basis = np.cumprod((1, *self.levels[:-1])).astype(np.int32)
        bounded = self.bounded(self.projected.down(x))
        if codes is None:
            digits = (jnp.round(bounded) + middle).astype(jnp.int32)
            codes = jnp.sum(digits * _row(basis, digits), axis=-1, keepdims=True)
        levels = _row(np.asarray(self.levels, np.int32), codes)
        rounded = ((codes // _row(basis, codes)) % levels).astype(jnp.float32) - middle
        y = (rounded + (bounded - jax.lax.stop_gradient(bounded))) / middle
        y = self.projected.up(y).astype(x.dtype)
        counts = self.counts[...]
        metrics = usage.health(counts, x, y, weights, self.bits(counts))
        return Quantized(y, codes, None, {}, metrics, {"counts": usage.count(codes, weights, len(counts))})

    def advance(self, buffers, sums):
        return {"counts": usage.moved(buffers["counts"], sums["counts"])}

    def bits(self, counts=None):
        return chosen_bits(counts, math.prod(self.levels), 1)


def _row(values: np.ndarray, like: jax.Array) -> jax.Array:
    """One value a column, in the rank of `like`: integers stay, others are float32."""
    kind = jnp.int32 if jnp.issubdtype(like.dtype, jnp.integer) else jnp.float32
    return jnp.asarray(values, kind).reshape((1,) * (like.ndim - 1) + (-1,))
