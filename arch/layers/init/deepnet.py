"""Initialisers of deep post-norm models: Xavier's, and DeepNet's rule (arXiv 2203.00555, for decoders alone)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from arch.layers.init.initializers import Initializer
from arch.spec import Problem, above, one_of

Compat = Literal["paper", "lns_code"]


@dataclasses.dataclass(frozen=True)
class Xavier(Initializer):
    """N(0, 2 gain^2 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 12, as its normal form)."""

    gain: float = 1.0

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "gain")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        fan_out = math.prod(shape) // fan_in
        return self.gain * (2 / (fan_in + fan_out)) ** 0.5 * jax.random.normal(key, shape, jnp.float32)


@dataclasses.dataclass(frozen=True)
class DeepNormInit(Initializer):
    """`base`, with the weights of values, attention's output and the feed-forward times beta = (8L)^(-1/4).

    `compat` "lns_code": (8L)^(+1/4), as in the released code of arXiv 2502.05795. Its DeepNorm rows are not evidence
    against the rule of DeepNet.
    """

    base: Initializer = Xavier()
    compat: Compat = "paper"

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "compat", get_args(Compat))

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        value = self.base(key, shape, role=role, fan_in=fan_in, depth=depth, layer=layer)
        if role not in ("value", "feed_forward", "residual"):
            return value
        return value * (8 * depth) ** (-0.25 if self.compat == "paper" else 0.25)

    def describe(self, role: str) -> str:
        base = self.base.describe(role)
        if role not in ("value", "feed_forward", "residual"):
            return base
        return f"DeepNormInit({base}{'' if self.compat == 'paper' else ', ' + self.compat})"
