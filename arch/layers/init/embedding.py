"""Another start for the embeddings alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from arch.layers.init.initializers import Initializer, Normal
from arch.spec import Problem, above

RELEASED_STD = 0.4**0.5
"""Of the code of arXiv 2502.05795 until 2 January 2026; its authors say that the paper's runs had 0.02."""


@dataclasses.dataclass(frozen=True)
class EmbeddingInit(Initializer):
    """`base`, with embeddings and learned positions from N(0, std^2)."""

    base: Initializer = Normal()
    std: float = 0.02

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "std")

    def __call__(self, key, shape, *, role, fan_in, depth, layer):
        if role in ("embedding", "position"):
            return self.std * jax.random.normal(key, shape, jnp.float32)
        return self.base(key, shape, role=role, fan_in=fan_in, depth=depth, layer=layer)

    def describe(self, role: str) -> str:
        return f"EmbeddingInit({self.std})" if role in ("embedding", "position") else self.base.describe(role)
