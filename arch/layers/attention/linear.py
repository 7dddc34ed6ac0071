"""Linear attention: z_t = phi(q_t) S / (phi(q_t) . s), S = sum_s phi(k_s) v_s^T, s = sum_s phi(k_s).

arXiv 2006.16236, eq. 5 (all keys) and 9-12 (causal); with `PositiveOrthogonal` features it is the Performer (arXiv
2009.14794). Time and memory are linear in the length of a row; the causal form is worked in chunks and, for decoding,
keeps S and s alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.context import Context, Result
from arch.layers.attention.feature_maps import EluPlusOne, FeatureMap
from arch.layers.attention.heads import HeadLayer, HeadMixer, one_document, visible_tokens, zero_padding
from arch.layers.attention.masks import Bidirectional, Causal, Mask
from arch.layers.caches import Recurrent, Room
from arch.params import ParamFactory
from arch.spec import Problem

CHUNK = 64
"""Tokens that the causal form compares with each other at once."""


@dataclasses.dataclass(frozen=True)
class LinearAttention(HeadMixer):
    """Attention through the features of `features`; `mask` is `Bidirectional()` or `Causal()`.

    The causal form keeps packed documents apart and decodes with a cache.
    """

    features: FeatureMap = EluPlusOne()
    mask: Mask = Bidirectional()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if not isinstance(self.mask, (Bidirectional, Causal)):
            yield Problem("mask", self.mask, "must be Bidirectional() or Causal()")

    @property
    def causal(self):
        return self.mask.causal

    def build(self, width, make):
        return LinearAttentionLayer(self, width, make)


class LinearAttentionLayer(HeadLayer):
    def __init__(self, spec: LinearAttention, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.features = spec.features
        self.causal = isinstance(spec.mask, Causal)

    def init_cache(self, room: Room) -> Any:
        """The state before the first token, whatever the length. Raises ValueError unless the mask is causal."""
        if not self.causal:
            return super().init_cache(room)
        return Recurrent.empty(empty(room.batch, self.heads, self.features.size(self.head_dim), self.head_dim), room)

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        q, k, v = (self.project(name, x_BTD, ctx) for name in ("q", "k", "v"))
        visible = visible_tokens(ctx)
        q_BTNR = self.features.query(q)
        k_BTNR = zero_padding(self.features.key(k, visible, not self.causal), visible)
        v_BTNK = zero_padding(v.astype(jnp.float32), visible)
        if not self.causal:
            z_BTNK = one_document(everything(q_BTNR, k_BTNR, v_BTNK), ctx)
            return Result(self.output(z_BTNK.astype(x_BTD.dtype), ctx))
        B, T = x_BTD.shape[:2]
        segments = jnp.ones((B, T), jnp.int32) if ctx.segments is None else ctx.segments
        state = empty(B, self.heads, q_BTNR.shape[-1], self.head_dim) if ctx.cache is None else ctx.cache.state
        cache: Recurrent | None
        if ctx.cache is not None and ctx.cache.past is not None:
            z_BTNK, cache = self.one_by_one(q_BTNR, k_BTNR, v_BTNK, segments, ctx)
        else:
            z_BTNK, state = so_far(q_BTNR, k_BTNR, v_BTNK, segments, state)
            cache = None if ctx.cache is None else Recurrent(state)
        return Result(self.output(z_BTNK.astype(x_BTD.dtype), ctx), cache)

    @staticmethod
    def one_by_one(
        q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, ctx: Context
    ) -> tuple[jax.Array, Recurrent]:
        """As `so_far`, token by token, for a cache that keeps the state after each."""

        def step(state: State, token: tuple[jax.Array, ...]) -> tuple[State, tuple[jax.Array, State]]:
            state, z = _chunk(state, tuple(x[:, None] for x in token))
            return state, (z[:, 0], state)

        tokens = tuple(jnp.moveaxis(x, 1, 0) for x in (q, k, v, segments))
        _, (z, states) = jax.lax.scan(step, ctx.cache.state, tokens)
        z_BTNK, states = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), (z, states))
        return z_BTNK, ctx.cache.after(states, ctx.index)


def everything(
    q_BTNR: Float[Array, "B T N R"], k_BTNR: Float[Array, "B T N R"], v_BTNK: Float[Array, "B T N K"]
) -> Float[Array, "B T N K"]:
    """Every query over all keys. Padding has features and values of zero."""
    sum_BNRK = jnp.einsum("bsnr,bsnk->bnrk", k_BTNR, v_BTNK)
    top = jnp.einsum("btnr,bnrk->btnk", q_BTNR, sum_BNRK)
    return divide(top, jnp.einsum("btnr,bnr->btn", q_BTNR, jnp.sum(k_BTNR, axis=1)))


class State(NamedTuple):
    """What the causal form remembers: S [B, N, R, K], s [B, N, R], and the document [B] they are of; 0: none yet."""

    values: jax.Array
    keys: jax.Array
    document: jax.Array


def empty(batch: int, heads: int, features: int, head_dim: int) -> State:
    """The state before any token."""
    values, keys = jnp.zeros((batch, heads, features, head_dim)), jnp.zeros((batch, heads, features))
    return State(values, keys, jnp.zeros((batch,), jnp.int32))


def so_far(
    q_BTNR: Float[Array, "B T N R"],
    k_BTNR: Float[Array, "B T N R"],
    v_BTNK: Float[Array, "B T N K"],
    segments: Int[Array, "B T"],
    state: State,
) -> tuple[Float[Array, "B T N K"], State]:
    """Every query over the keys of its document up to itself. Document numbers rise along a row."""
    T = q_BTNR.shape[1]
    size = min(CHUNK, T)
    missing = -T % size

    def chunks(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    state, z = jax.lax.scan(_chunk, state, tuple(chunks(x) for x in (q_BTNR, k_BTNR, v_BTNK, segments)))
    return jnp.moveaxis(z, 0, 1).reshape(v_BTNK.shape[0], T + missing, *v_BTNK.shape[2:])[:, :T], state


def _chunk(state: State, inputs: tuple[jax.Array, ...]) -> tuple[State, jax.Array]:
    q, k, v, segments = inputs
    places = jnp.arange(q.shape[1])
    seen = (segments[:, :, None] == segments[:, None, :]) & (places[:, None] >= places[None])[None]
    pattern_BNTS = jnp.einsum("btnr,bsnr->bnts", q, k) * seen[:, None].astype(q.dtype)
    goes_on = (segments == state.document[:, None]).astype(q.dtype)
    top = jnp.einsum("bnts,bsnk->btnk", pattern_BNTS, v)
    top = top + goes_on[:, :, None, None] * jnp.einsum("btnr,bnrk->btnk", q, state.values)
    bottom = jnp.moveaxis(jnp.sum(pattern_BNTS, axis=-1), 1, 2)
    bottom = bottom + goes_on[:, :, None] * jnp.einsum("btnr,bnr->btn", q, state.keys)

    document = jnp.maximum(state.document, jnp.max(segments, axis=1))
    kept = (document == state.document).astype(q.dtype)
    k = k * (segments == document[:, None])[:, :, None, None].astype(q.dtype)
    values = kept[:, None, None, None] * state.values + jnp.einsum("bsnr,bsnk->bnrk", k, v)
    keys = kept[:, None, None] * state.keys + jnp.sum(k, axis=1)
    return State(values, keys, document), divide(top, bottom)


def divide(top: Float[Array, "B T N K"], bottom: Float[Array, "B T N"]) -> Float[Array, "B T N K"]:
    """top / bottom; zero for queries that see nothing."""
    return top / jnp.where(bottom > 0, bottom, 1.0)[..., None]
