"""Sparse Sinkhorn attention (arXiv 2002.11296): blocks of a row are sorted softly, then each attends to itself and to
the block sorted to its place.

A sorting net (section 3.1) reads the sum of each block and scores where it should go; Gumbel noise (while training) and
Sinkhorn's iteration in the log domain (eq. 3-5) make the scores a doubly stochastic matrix R [blocks, blocks], and
sorted keys and values are R times blocks of keys and values. Blocks of nothing but padding are sorted among themselves;
a sorted place counts for as much as there is text in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from arch.context import Context, Result
from arch.layers.attention.heads import HeadLayer, HeadMixer, one_document, visible_tokens
from arch.layers.attention.masks import MASKED
from arch.layers.linear import Dense
from arch.params import ParamFactory
from arch.spec import Problem, above, at_least

TINY = 1e-9
"""Text in a place below which it is not read."""
NOISE = 0x51
"""Folded into the key of the layer, so that the noise is not the dropout's."""


@dataclasses.dataclass(frozen=True)
class Sinkhorn(HeadMixer):
    """Attention within sorted blocks.

    Attributes:
      length: tokens of a row, at most.
      block: tokens of a block.
      iterations: of Sinkhorn's normalisation of rows and columns.
      temperature: scores are divided by it.
      noise: scale of the Gumbel noise that scores get while training with a key.
    """

    length: int = 1024
    block: int = 64
    iterations: int = 8
    temperature: float = 0.75
    noise: float = 1.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "length", "block", "iterations")
        yield from above(self, 0, "temperature")
        yield from at_least(self, 0, "noise")

    def build(self, width, make):
        return SinkhornLayer(self, width, make)


class SinkhornLayer(HeadLayer):
    def __init__(self, spec: Sinkhorn, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.length, self.block, self.iterations = spec.length, spec.block, spec.iterations
        self.temperature, self.noise = spec.temperature, spec.noise
        places = (-(-spec.length // spec.block), None)
        self.sort = Dense().build([(width, "embed")], [(self.heads, "heads"), places], make, name="sort")

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        B, T = x_BTD.shape[:2]
        self.refuse_longer(T, self.length)
        q, k, v = (self.project(name, x_BTD, ctx) for name in ("q", "k", "v"))
        visible = visible_tokens(ctx)
        there = jnp.ones((B, T), jnp.bool_) if visible is None else visible

        cut = lambda x: _blocks(x, self.block)  # noqa: E731
        there_BUS = cut(there)
        text = there_BUS[..., None, None].astype(x_BTD.dtype)
        q_BUSNK, k_BUSNK, v_BUSNK = cut(q), cut(k) * text, cut(v) * text
        order_BNUW = self.order(cut(x_BTD) * text[..., 0], jnp.any(there_BUS, axis=2), ctx)

        sort = order_BNUW.astype(x_BTD.dtype)
        k_sorted = jnp.einsum("bnuw,bwsnk->busnk", sort, k_BUSNK)
        v_sorted = jnp.einsum("bnuw,bwsnk->busnk", sort, v_BUSNK)
        mass = jnp.einsum("bnuw,bws->bnus", order_BNUW, there_BUS.astype(jnp.float32))
        mass = mass / jnp.sum(order_BNUW, axis=-1, keepdims=True)  # the part of a place that is text

        scale = self.head_dim**-0.5
        dots = lambda keys: jnp.einsum(  # noqa: E731
            "butnk,busnk->bnuts", q_BUSNK, keys, preferred_element_type=jnp.float32
        )
        own = jnp.where(there_BUS[:, None, :, None, :], dots(k_BUSNK) * scale, MASKED)
        # Keys and values sorted to a place are divided by how much of it is text, and count for as much.
        full = jnp.maximum(mass, TINY)
        moved = dots(k_sorted) * scale / full[:, :, :, None, :] + jnp.log(full)[:, :, :, None, :]
        moved = jnp.where((mass > TINY)[:, :, :, None, :], moved, MASKED)
        pattern = jax.nn.softmax(jnp.concatenate([own, moved], axis=-1), axis=-1)
        pattern_own, pattern_moved = jnp.split(pattern, 2, axis=-1)
        z = jnp.einsum("bnuts,busnk->butnk", pattern_own.astype(v.dtype), v_BUSNK)
        weights = (pattern_moved / full[:, :, :, None, :]).astype(v.dtype)
        z = z + jnp.einsum("bnuts,busnk->butnk", weights, v_sorted)
        z_BTNK = z.reshape(B, -1, self.heads, self.head_dim)[:, :T]
        return Result(self.output(one_document(z_BTNK, ctx), ctx))

    def order(
        self, x_BUSD: Float[Array, "B U S D"], text_BU: Bool[Array, "B U"], ctx: Context
    ) -> Float[Array, "B N U U"]:
        """R: how much of each block (last axis) goes to each place, float32; tapped as "attn.order"."""
        blocks = x_BUSD.shape[1]
        # The net's score of block w at place u; a row of fewer blocks has fewer places.
        scores_BNUW = jnp.einsum("bwnu->bnuw", self.sort(jnp.sum(x_BUSD, axis=2))[..., :blocks]).astype(jnp.float32)
        if ctx.dropout_key is not None and self.noise > 0:
            key = jax.random.fold_in(ctx.dropout_key, NOISE)
            scores_BNUW = scores_BNUW + self.noise * jax.random.gumbel(key, scores_BNUW.shape)
        alike = text_BU[:, None, :, None] == text_BU[:, None, None, :]
        order = sinkhorn(jnp.where(alike, scores_BNUW / self.temperature, MASKED), self.iterations)
        return ctx.tap("attn.order", order)


def sinkhorn(scores: Float[Array, "*b U U"], iterations: int) -> Float[Array, "*b U U"]:
    """exp(scores) with rows and columns normalised in turn: in the limit, both sum to one."""

    def once(_: int | jax.Array, scores: jax.Array) -> jax.Array:
        scores = scores - jax.nn.logsumexp(scores, axis=-1, keepdims=True)
        return scores - jax.nn.logsumexp(scores, axis=-2, keepdims=True)

    return jnp.exp(jax.lax.fori_loop(0, iterations, once, scores))


def _blocks(x: jax.Array, size: int) -> jax.Array:
    """`x` [B, T, ...] as [B, U, size, ...], filled up with zeros."""
    x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % size)] + [(0, 0)] * (x.ndim - 2))
    return x.reshape(x.shape[0], -1, size, *x.shape[2:])
