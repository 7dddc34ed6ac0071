"""Additive attention (arXiv 1409.0473, appendix A.1.2): e_t = v . tanh(W_q q + W_h h_t), a = sum_t softmax(e)_t h_t.

W_h h_t, the keys, do not depend on the query and are made once. One head, whose values are the memory itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.layers.attention.masks import MASKED
from arch.layers.linear import Dense, Linear
from arch.layers.shapes import align
from arch.params import ParamFactory
from arch.spec import Problem, Spec, at_least
from arch.taps import NoTap, Recorder


class Keys(NamedTuple):
    """What is attended to.

    Attributes:
      k: W_h h, [B, S, U].
      x: the memory h, [B, S, D].
      segments: int32 [B, S], documents, 0 for padding.
    """

    k: jax.Array
    x: jax.Array
    segments: jax.Array


@dataclasses.dataclass(frozen=True)
class AdditiveAttention(Spec):
    """Attention by a network of one hidden layer; `units` is U, None: the width of the query."""

    units: int | None = None
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "units")

    def build(self, query: int, memory: int, make: ParamFactory) -> AdditiveAttentionLayer:
        """The part for queries and a memory of these widths."""
        return AdditiveAttentionLayer(self, query, memory, make)


class AdditiveAttentionLayer(nnx.Module):
    def __init__(self, spec: AdditiveAttention, query: int, memory: int, make: ParamFactory):
        self.units = spec.units or query
        units = (self.units, "mlp")
        self.q = spec.linear.build([(query, "embed")], [units], make, name="q")
        self.k = spec.linear.build([(memory, "embed")], [units], make, name="k")
        self.v = make.weight("v", [units], [])

    def keys(self, x_BSD: Float[Array, "B S D"], segments_BS: Int[Array, "B S"]) -> Keys:
        """The keys of a memory."""
        return Keys(self.k(x_BSD), x_BSD, segments_BS)

    def energies(self, sums_BSU: Float[Array, "B S U"]) -> Float[Array, "B S"]:
        """e of W_q q + W_h h, float32."""
        return _dot(jnp.tanh(sums_BSU), self.v[...])

    def __call__(
        self, q_BD: Float[Array, "B D"], keys: Keys, document_B: Int[Array, "B"], tap: NoTap | Recorder = NoTap()
    ) -> Float[Array, "B M"]:
        """The context of a query of each row, over the memory of its document alone.

        A query that may see nothing (padding) gets the mean of all. Tap sites, each of one query: attn.scores and
        attn.pattern [B, 1, 1, S].
        """
        e_BS = self.energies(self.q(q_BD)[:, None] + keys.k)
        seen_BS = (keys.segments == document_B[:, None]) & (keys.segments > 0)
        e_BS = tap("attn.scores", jnp.where(seen_BS, e_BS, MASKED)[:, None, None])[:, 0, 0]
        p_BS = tap("attn.pattern", jax.nn.softmax(e_BS, axis=-1).astype(q_BD.dtype)[:, None, None])[:, 0, 0]
        return jnp.einsum("bs,bsd->bd", p_BS, keys.x)


@dataclasses.dataclass(frozen=True)
class NormedAdditiveAttention(AdditiveAttention):
    """With e_t = g (v / |v|) . tanh(W_q q + W_h h_t + b) (weight normalisation, arXiv 1602.07868), as tensorflow/nmt's
    `normed_bahdanau`: g starts at sqrt(1 / U), b at 0."""

    def build(self, query, memory, make):
        return NormedAdditiveAttentionLayer(self, query, memory, make)


class NormedAdditiveAttentionLayer(AdditiveAttentionLayer):
    def __init__(self, spec: AdditiveAttention, query: int, memory: int, make: ParamFactory):
        super().__init__(spec, query, memory, make)
        self.gain = make.constant([], self.units**-0.5)
        self.bias = make.constant([(self.units, "mlp")], 0.0)

    def energies(self, sums_BSU):
        v = self.v[...].astype(jnp.float32)
        direction = v * (self.gain[...].astype(jnp.float32) / jnp.sqrt(jnp.sum(jnp.square(v))))
        return _dot(jnp.tanh(sums_BSU + align(self.bias[...], sums_BSU)), direction)


def _dot(x_BSU: jax.Array, v_U: jax.Array) -> jax.Array:
    return jnp.einsum("bsu,u->bs", x_BSU, v_U.astype(x_BSU.dtype), preferred_element_type=jnp.float32)
