"""Discrete Key-Value Bottleneck (Traeuble et al., ICML 2023, arXiv 2207.11240).

    h_c = R_c z,   i_c = argmin_p |h_c - K_cp|^2,   y = (1/C) sum_c V_c,i_c

z is what a pretrained and frozen encoder says of an input. R and the keys K are buffers: no gradient and no optimiser
reaches them. Of one input only C rows of V get a gradient, 1/C of that of y each, so that training on one class leaves
what was stored of others where their keys differ. Train V with plain SGD, at a rate proportional to C: momentum and
Adam go on moving rows that are hit no more, weight decay forgets them.

The mean of the values as logits (`ValueLogits`, V as wide as there are classes) is the paper's decoder without
parameters; any other head is a parametric one.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.bottlenecks.keys import EmaKeys, Keys
from arch.bottlenecks.lookup import LIMIT, LIMITS, nearest
from arch.context import Context
from arch.layers.heads.class_heads import ClassHead
from arch.params import ParamFactory
from arch.sharding import platform
from arch.spec import Problem, Spec, at_least


@dataclasses.dataclass(frozen=True)
class Projection(Spec, abc.ABC):
    """From an encoder's vector to one for each head."""

    @abc.abstractmethod
    def build(self, inputs: int, heads: int, width: int, make: ParamFactory) -> Any:
        """The map: `projection(z [..., m]) -> h [..., C, K]`, float32."""


@dataclasses.dataclass(frozen=True)
class GaussianProjection(Projection):
    """R_c z with fixed R_c of entries from N(0, 1/m), which are never trained."""

    def build(self, inputs, heads, width, make):
        return GaussianProjectionLayer(inputs, heads, width, make)


class GaussianProjectionLayer(nnx.Module):
    def __init__(self, inputs: int, heads: int, width: int, make: ParamFactory):
        drawn = jax.random.normal(make.at("matrix").key, (heads, inputs, width)) / inputs**0.5
        sizes = [(heads, None), (inputs, None), (width, None)]
        self.matrix = make.buffer(sizes, drawn, "normal(1/sqrt(inputs))", role="projection")

    def __call__(self, z: Float[Array, "*B m"]) -> Float[Array, "*B C K"]:
        return jnp.einsum("...m,cmk->...ck", z.astype(jnp.float32), self.matrix[...].astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class Segments(Projection):
    """z cut into C pieces, for inputs of few dimensions (arXiv 2207.11240) and text (arXiv 2412.08528)."""

    def build(self, inputs, heads, width, make):
        if inputs != heads * width:
            raise ValueError(
                f"Segments cuts {inputs} features into {heads} heads of {width}, which are {heads * width}"
            )
        return SegmentsLayer(heads, width)


class SegmentsLayer(nnx.Module):
    def __init__(self, heads: int, width: int):
        self.heads, self.width = heads, width

    def __call__(self, z: Float[Array, "*B m"]) -> Float[Array, "*B C K"]:
        return z.astype(jnp.float32).reshape(*z.shape[:-1], self.heads, self.width)


@dataclasses.dataclass(frozen=True)
class KeyValueBottleneck(Spec):
    """C codebooks of P key-value pairs each.

    Attributes:
      heads: C.
      pairs: P, key-value pairs of a head.
      key_width: K, the width of a key.
      value_width: of a value; with `ValueLogits` the number of classes.
      projection: from the encoder's vector to the heads.
      keys: how they are learned. In the run that trains values, `FixedKeys` taken from the run that learned them.
    """

    heads: int = 256
    pairs: int = 4096
    key_width: int = 8
    value_width: int = 10
    projection: Projection = GaussianProjection()
    keys: Keys = EmaKeys()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "heads", "pairs", "key_width", "value_width")

    def build(self, width: int, make: ParamFactory) -> KeyValueLayer:
        """The part for vectors of `width`. Raises SpecError for segments that do not fit it."""
        try:
            return KeyValueLayer(self, width, make)
        except ValueError as error:
            raise self.invalid("projection", str(error)) from error


class KeyValueLayer(nnx.Module):
    """z [B, *S, m] to the mean value [B, value_width], float32, over heads and, of a spatial encoder, over places.

    Tap sites: "keys.chosen", int32 [B, *S, C], and "values", [B, value_width]. Values start at zero.
    """

    def __init__(self, spec: KeyValueBottleneck, width: int, make: ParamFactory):
        self.heads, self.pairs = spec.heads, spec.pairs
        self.projection = spec.projection.build(width, spec.heads, spec.key_width, make.at("projection"))
        self.keys = spec.keys.build(spec.heads, spec.pairs, spec.key_width, make.at("keys"))
        sizes = [(spec.heads, None), (spec.pairs, "codes"), (spec.value_width, None)]
        self.values = make.array(sizes, 0.0, "zero", role="codebook")

    def __call__(self, z: Float[Array, "B *S m"], ctx: Context) -> Float[Array, "B V"]:
        h = jax.lax.stop_gradient(self.projection(z))
        h_NCK = h.reshape(-1, *h.shape[-2:])
        ids_NC = chosen(h_NCK, self.keys.table[...].astype(jnp.float32))
        self.keys.note(h_NCK, ids_NC, ctx)
        ids = ctx.tap("keys.chosen", ids_NC.reshape(h.shape[:-1]))
        ids_NC = ids.reshape(ids_NC.shape)
        values_CPV = self.values[...].astype(jnp.float32)
        found_CNV = jax.vmap(lambda values, ids: values[ids])(values_CPV, ids_NC.T)
        pooled_NV = jnp.mean(found_CNV, axis=0)
        return ctx.tap("values", jnp.mean(pooled_NV.reshape(z.shape[0], -1, pooled_NV.shape[-1]), axis=1))


def chosen(h_NCK: Float[Array, "N C K"], keys_CPK: Float[Array, "C P K"]) -> Int[Array, "N C"]:
    """The key of each head that is nearest to its vector; of equally near ones the first."""
    limit = max(LIMITS.get(platform(), LIMIT) // keys_CPK.shape[0], 1)  # all heads are looked up side by side
    return jax.vmap(lambda h, keys: nearest(h, keys, limit=limit)[..., 0], (1, 0), 1)(h_NCK, keys_CPK)


@dataclasses.dataclass(frozen=True)
class ValueLogits(ClassHead):
    """The features are the logits: the decoder without parameters, softmax of the mean value."""

    def build(self, inputs, classes, width, make):
        if inputs != classes:
            raise ValueError(f"ValueLogits needs values as wide as there are classes; they are {inputs} and {classes}")
        return ValueLogitsLayer()


class ValueLogitsLayer(nnx.Module):
    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
        return x.astype(jnp.float32)
