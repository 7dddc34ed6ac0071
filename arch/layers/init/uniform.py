"""U(-limit, limit), whatever the role: how GNMT (arXiv 1609.08144, sec. 8.3) and its relatives start."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.layers.init.initializers import Initializer
from arch.spec import Problem, above


@dataclasses.dataclass(frozen=True)
class Uniform(Initializer):
    """U(-limit, limit)."""

    limit: float = 0.04

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "limit")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        return jax.random.uniform(key, shape, jnp.float32, -self.limit, self.limit)
