"""Norms over the model width: RMSNorm (arXiv 1910.07467, eq. 4) and LayerNorm (arXiv 1607.06450, eq. 3).

A norm is called `norm(x, ctx)`: norms that depend on depth read `ctx.layer`. Statistics are taken in float32.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Problem, Spec, above


@dataclasses.dataclass(frozen=True)
class Norm(Spec, abc.ABC):
    """A normalisation over the last axis."""

    @abc.abstractmethod
    def build(self, width: int, make: ParamFactory, axis: str | None = "embed") -> nnx.Module:
        """The norm of vectors of `width` along logical `axis`."""

    def build_heads(self, heads: tuple[int, str], head_dim: int, make: ParamFactory) -> nnx.Module:
        """The norm of queries or keys [..., N, K], `heads` being N and its logical axis: of each head by itself."""
        return self.build(head_dim, make, axis="head_dim")


@dataclasses.dataclass(frozen=True)
class RMSNorm(Norm):
    """x / sqrt(mean(x^2) + eps) * gain."""

    eps: float = 1e-6

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "eps")

    def build(self, width, make, axis="embed"):
        return RMSNormLayer(self, width, make, axis)


class RMSNormLayer(nnx.Module):
    def __init__(self, spec: RMSNorm, width: int, make: ParamFactory, axis: str | None):
        self.eps = spec.eps
        self.gain = make.constant([(width, axis)], 1.0)

    def __call__(self, x: Float[Array, "*b D"], ctx: Context) -> Float[Array, "*b D"]:
        x32 = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.eps)
        return (x32 * scale).astype(x.dtype) * align(self.gain[...], x)


@dataclasses.dataclass(frozen=True)
class LayerNorm(Norm):
    """(x - mean(x)) / sqrt(var(x) + eps) * gain + bias; `bias=False` leaves the bias out."""

    eps: float = 1e-5
    bias: bool = True

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "eps")

    def build(self, width, make, axis="embed"):
        return LayerNormLayer(self, width, make, axis)


class LayerNormLayer(nnx.Module):
    def __init__(self, spec: LayerNorm, width: int, make: ParamFactory, axis: str | None):
        self.eps = spec.eps
        self.gain = make.constant([(width, axis)], 1.0)
        if spec.bias:
            self.bias = make.constant([(width, axis)], 0.0)

    def __call__(self, x: Float[Array, "*b D"], ctx: Context) -> Float[Array, "*b D"]:
        x32 = x.astype(jnp.float32)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + self.eps)
        y = (centred * scale).astype(x.dtype) * align(self.gain[...], x)
        return y + align(self.bias[...], x) if hasattr(self, "bias") else y


@dataclasses.dataclass(frozen=True)
class NoNorm(Norm):
    """The identity, without parameters: for blocks that read the stream as it is."""

    def build(self, width, make, axis="embed"):
        return NoNormLayer()


class NoNormLayer(nnx.Module):
    def __call__(self, x: Float[Array, "*b D"], ctx: Context) -> Float[Array, "*b D"]:
        return x
