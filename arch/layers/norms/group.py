"""Group normalisation over channels (arXiv 1803.08494), token by token.

Statistics are taken over each of G groups of D / G channels of one token alone, so that it is causal; the "Group-LN" of
arXiv 2502.05795 is this in a pre-norm block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.layers.norms.common import Norm
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Problem, above, at_least


@dataclasses.dataclass(frozen=True)
class GroupNorm(Norm):
    """(x - mean) / sqrt(var + eps) * gain + bias, mean and variance over groups of channels of a token."""

    groups: int = 8
    eps: float = 1e-5

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "groups")
        yield from above(self, 0, "eps")

    def build(self, width, make, axis="embed"):
        if width % self.groups:
            raise self.invalid("groups", f"must divide the width {width}")
        return GroupNormLayer(self, width, make, axis)


class GroupNormLayer(nnx.Module):
    def __init__(self, spec: GroupNorm, width: int, make: ParamFactory, axis: str | None):
        self.groups, self.eps = spec.groups, spec.eps
        self.gain = make.constant([(width, axis)], 1.0)
        self.bias = make.constant([(width, axis)], 0.0)

    def __call__(self, x: Float[Array, "*b D"], ctx: Context) -> Float[Array, "*b D"]:
        x32 = x.astype(jnp.float32).reshape(*x.shape[:-1], self.groups, -1)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + self.eps)
        y = (centred * scale).reshape(x.shape).astype(x.dtype)
        return y * align(self.gain[...], x) + align(self.bias[...], x)
