"""Factors that fall with depth, and LayerNorm Scaling as a norm around any norm (arXiv 2502.05795).

  LNS(x) = norm(x) / sqrt(l),   l = 1..L the index of the layer

The factor comes after the gain, and is a number of the program: no parameter that a checkpoint could overwrite. It
follows the layer's original index, also where layers are gated, skipped or cut out (`stacks.LayerSubset`). The norm
before the head is not scaled: leave it as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.layers.norms.common import Norm, RMSNorm
from arch.params import ParamFactory
from arch.spec import Problem, Spec, at_least


def depth_factor(layer: Any, exponent: float) -> jax.Array:
    """1 / (layer + 1)^exponent, float32, of a 0-based index that may be traced. Exactly 1 for the first layer."""
    return (jnp.asarray(layer, jnp.float32) + 1.0) ** -exponent


def times(x: jax.Array, factor: jax.Array) -> jax.Array:
    """x times a scalar, rounded once to the type of x."""
    return (x.astype(jnp.float32) * factor).astype(x.dtype)


def depth_problems(spec: Spec) -> Iterator[Problem]:
    """Problems of the fields `exponent` and `index`."""
    yield from at_least(spec, 0, "exponent")
    yield from at_least(spec, 1, "index")


@dataclasses.dataclass(frozen=True)
class DepthScaled(Norm):
    """norm(x) / l^exponent: LayerNorm Scaling at exponent 1/2, in any block.

    Attributes:
      norm: what is scaled.
      exponent: of the depth.
      index: l, from 1; None: the index of the layer.
    """

    norm: Norm = RMSNorm()
    exponent: float = 0.5
    index: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from depth_problems(self)

    def build(self, width, make, axis="embed"):
        return DepthScaledLayer(self, width, make, axis)


class DepthScaledLayer(nnx.Module):
    def __init__(self, spec: DepthScaled, width: int, make: ParamFactory, axis: str | None):
        self.exponent, self.index = spec.exponent, spec.index
        self.norm = spec.norm.build(width, make.at("norm"), axis)

    def factor(self, ctx: Context) -> jax.Array:
        return depth_factor(ctx.layer if self.index is None else self.index - 1, self.exponent)

    def __call__(self, x: Float[Array, "*b D"], ctx: Context) -> Float[Array, "*b D"]:
        return times(self.norm(x, ctx), self.factor(ctx))


@dataclasses.dataclass(frozen=True)
class DepthScaledInput(DepthScaled):
    """norm(x / l^exponent): the factor before the norm, which takes it away again but for eps ("before LN" there)."""

    def build(self, width, make, axis="embed"):
        return DepthScaledInputLayer(self, width, make, axis)


class DepthScaledInputLayer(DepthScaledLayer):
    def __call__(self, x: Float[Array, "*b D"], ctx: Context) -> Float[Array, "*b D"]:
        return self.norm(times(x, self.factor(ctx)), ctx)
