"""Dynamic Tanh in place of a norm: gain * tanh(alpha * x) + bias (arXiv 2503.10622, eq. 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx

from arch.context import Context
from arch.layers.norms.common import Norm
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Problem, above


@dataclasses.dataclass(frozen=True)
class DynamicTanh(Norm):
    """`alpha`: where the one learned slope of a norm starts."""

    alpha: float = 0.5

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "alpha")

    def build(self, width, make, axis="embed"):
        return DynamicTanhLayer(self, width, make, axis)


class DynamicTanhLayer(nnx.Module):
    def __init__(self, spec: DynamicTanh, width: int, make: ParamFactory, axis: str | None):
        self.alpha = make.constant([(1, None)], spec.alpha)
        self.gain = make.constant([(width, axis)], 1.0)
        self.bias = make.constant([(width, axis)], 0.0)

    def __call__(self, x: jax.Array, ctx: Context) -> jax.Array:
        y = jnp.tanh(align(self.alpha[...], x) * x)
        return y * align(self.gain[...], x) + align(self.bias[...], x)
