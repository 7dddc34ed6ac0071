"""Initialisers for deep networks without residual connections, and two that fail there.

A ReLU layer of width N keeps the mean square of its signal if its weights have the variance 2 / N (`He`). The mean of
the signal's logarithm still falls from layer to layer, because it walks at random; `SussilloAbbott` makes up for that.
`Zeros` starts a network that no gradient can wake.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.layers.init.initializers import Initializer
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Zeros(Initializer):
    """Zero, whatever the role."""

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        return jnp.zeros(shape, jnp.float32)


@dataclasses.dataclass(frozen=True)
class He(Initializer):
    """N(0, 2 / fan_in), whatever the role (arXiv 1502.01852, eq. 10)."""

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        return math.sqrt(2 / fan_in) * jax.random.normal(key, shape, jnp.float32)


@dataclasses.dataclass(frozen=True)
class SussilloAbbott(Initializer):
    """N(0, g^2 / fan_in) with g = sqrt(2) exp(1.2 / (max(fan_in, 6) - 2.4)), for ReLU (arXiv 1412.6558, section 3).

    `shift` and `scale` are the 2.4 and 1.2, which the paper fitted to simulations.
    """

    shift: float = 2.4
    scale: float = 1.2

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "scale")
        if not 0 <= self.shift < 6:
            yield Problem("shift", self.shift, "must be from 0 to below 6, the smallest width the formula is used for")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        gain = math.sqrt(2) * math.exp(self.scale / (max(fan_in, 6) - self.shift))
        return gain / math.sqrt(fan_in) * jax.random.normal(key, shape, jnp.float32)
