"""Quantising fewer numbers than a vector has: linear maps down to them and up again, or none where there are as
many."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from arch.layers.linear import Dense
from arch.params import ParamFactory


class Projected(nnx.Module):
    """`down` [..., width] -> [..., inner] and `up` back, in float32, each with a bias."""

    def __init__(self, width: int, inner: int, make: ParamFactory):
        if width != inner:
            outside, inside, kind = (width, "embed"), (inner, None), Dense(bias=True)
            self.to = kind.build([outside], [inside], make, name="to")
            self.back = kind.build([inside], [outside], make, name="back")

    def down(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        return self.to(x) if hasattr(self, "to") else x

    def up(self, z: jax.Array) -> jax.Array:
        return self.back(z) if hasattr(self, "back") else z
