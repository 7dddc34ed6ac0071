"""How T5 starts (arXiv 1910.10683, in its released code): attention that leaves its scores unscaled has small queries.

W_q ~ N(0, 1 / (D K)),   other matrices ~ N(0, 1 / fan-in),   embeddings ~ N(0, 1)
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from arch.layers.init.initializers import Initializer
from arch.layers.linear import Dense, DenseLayer


@dataclasses.dataclass(frozen=True)
class T5Init(Initializer):
    """N(0, 1 / fan_in), and N(0, 1) for embeddings. The fan-in of relative positions is the number of buckets."""

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        std = 1.0 if role == "embedding" else fan_in**-0.5
        return std * jax.random.normal(key, shape, jnp.float32)


@dataclasses.dataclass(frozen=True)
class SmallerBy(Initializer):
    """`base` times `factor`, whatever the role."""

    base: Initializer
    factor: float

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        return self.factor * self.base(key, shape, role=role, fan_in=fan_in, depth=depth, layer=layer)

    def describe(self, role: str) -> str:
        return f"SmallerBy({self.base.describe(role)}, {self.factor:.3g})"


@dataclasses.dataclass(frozen=True)
class SmallQueries(Dense):
    """A dense map; one called "q" starts smaller by the root of its head width, in place of scaling the scores."""

    def build(self, inputs, outputs, make, *, name, role="linear"):
        if name == "q":
            make = dataclasses.replace(make, init=SmallerBy(make.init, 1 / math.sqrt(outputs[-1][0])))
        return DenseLayer(self, inputs, outputs, make.at(name), role)
