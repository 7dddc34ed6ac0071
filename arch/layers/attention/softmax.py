"""Multi-head attention with free heads, head width and grouped key-value heads.

arXiv 1706.03762 (eq. 1 and section 3.2.2), grouped heads arXiv 2305.13245, QK-norm arXiv 2302.05442,
soft-capping arXiv 2408.00118 (section 2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.context import Context, Result
from arch.layers.attention.attend import Visibility, attend
from arch.layers.attention.grouped import GroupedHeads, grouped_problems
from arch.layers.attention.masks import Causal, Mask
from arch.layers.caches import Growing, Room, Window
from arch.layers.linear import Dense, Linear
from arch.layers.norms.common import Norm
from arch.layers.positions import Position, Rotary
from arch.layers.sublayer import Mixer
from arch.params import ParamFactory
from arch.spec import Problem


@dataclasses.dataclass(frozen=True)
class Attention(Mixer):
    """Multi-head attention. Heads and head width are free of the model width.

    Attributes:
      heads: N, query heads.
      head_dim: K; None: width // heads.
      kv_heads: H, key-value heads, a divisor of `heads`; None: as many as heads.
      position: how queries and keys know where they are.
      mask: who may see whom.
      qk_norm: a norm on each query and key head, or None.
      softcap: scores become softcap * tanh(scores / softcap), or None.
      scale: what scores are multiplied by; None: 1 / sqrt(head_dim).
      linear: the kind of all four projections.
    """

    heads: int = 8
    head_dim: int | None = None
    kv_heads: int | None = None
    position: Position = Rotary()
    mask: Mask = Causal()
    qk_norm: Norm | None = None
    softcap: float | None = None
    scale: float | None = None
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from grouped_problems(self)
        if not self.position.in_attention:
            yield Problem("position", self.position, "belongs to the model: Decoder(position=...)")

    @property
    def causal(self):
        return self.mask.causal

    @property
    def reads_prefix(self):
        return self.mask.span is not None and self.mask.span[0] is None  # a window would forget it

    def build(self, width, make):
        return AttentionLayer(self, width, make)


class AttentionLayer(GroupedHeads):
    def __init__(self, spec: Attention, width: int, make: ParamFactory):
        super().__init__(spec, width, width, make)
        self.mask = spec.mask
        self.position = spec.position.build(self.head_dim, self.heads, make.at("position"))

    def init_cache(self, room: Room) -> Growing | Window:
        """Room for keys and values, each `[B, H, S, K]`: of all tokens, or of those that a window leaves in sight."""
        shapes = dict.fromkeys(("k", "v"), (self.kv_heads, self.head_dim))
        before, after = self.mask.span or (None, None)
        if before is not None and after == 0 and before + 1 + room.snapshots < room.length:
            return Window.empty(room, before + 1, shapes)
        return Growing.empty(room, shapes)

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        """Keys enter the cache after position and norm, so that a cached step rotates only its own tokens."""
        tap = ctx.tap
        q_BTNK, k_BTHK, v_BTHK = self.q(x_BTD), self.k(x_BTD), self.v(x_BTD)
        if hasattr(self, "q_norm"):
            q_BTNK, k_BTHK = self.q_norm(q_BTNK, ctx), self.k_norm(k_BTHK, ctx)
        places = self.position.places(ctx)
        q_BTNK = tap("attn.q", self.position.rotate(q_BTNK, places))
        k_BTHK = tap("attn.k", self.position.rotate(k_BTHK, places))
        v_BTHK = tap("attn.v", v_BTHK)

        cache, k_BSHK, v_BSHK, ctx = remember(k_BTHK, v_BTHK, ctx)
        bias = self.position.bias(ctx.positions, ctx.key_positions)
        if ctx.bias is not None:
            bias = ctx.bias if bias is None else bias + ctx.bias
        known: dict[str, Any] = {"cached": cache is not None, "key_prefix": ctx.key_prefix}
        visibility = Visibility(self.mask, ctx.positions, ctx.key_positions, ctx.segments, ctx.key_segments, **known)
        z_BTNK = attend(q_BTNK, k_BSHK, v_BSHK, visibility=visibility, bias=bias, scores=self.scores, tap=tap)
        return Result(self.o(tap("attn.z", z_BTNK)), cache)


def remember(
    k_BTHK: Float[Array, "B T H K"], v_BTHV: Float[Array, "B T H V"], ctx: Context
) -> tuple[Growing | Window | None, jax.Array, jax.Array, Context]:
    """The keys and values to attend to, those in the cache included: (cache after these tokens, keys, values, context
    with the positions and segments of the keys). Without a cache they are the tokens' own."""
    if ctx.cache is None:
        return None, k_BTHK, v_BTHV, ctx
    new = {"k": k_BTHK, "v": v_BTHV}
    if isinstance(ctx.cache, Growing):
        cache = ctx.cache.written(new, ctx.index)
        return cache, cache.tokens("k"), cache.tokens("v"), ctx
    old, (B, T) = ctx.cache, k_BTHK.shape[:2]
    positions = jnp.broadcast_to(jnp.asarray(ctx.positions), (B, T))
    segments = jnp.ones((B, T), jnp.int32) if ctx.segments is None else ctx.segments
    k, v = (old.tokens(name, one) for name, one in new.items())
    keys = ctx.replace(
        key_positions=jnp.concatenate([old.positions, positions], axis=1),
        key_segments=jnp.concatenate([old.segments, segments], axis=1),
        segments=segments,
        bias=None if ctx.bias is None else window_bias(ctx.bias, old, T, ctx),
    )
    return old.written(new, ctx.index, positions, segments), k, v, keys


def window_bias(bias_BNTS: Float[Array, "#B N T S"], old: Window, tokens: int, ctx: Context) -> Float[Array, "B N T R"]:
    """Of a bias over all S places, that of the entries of a window and of the T new tokens behind them."""
    B = old.places.shape[0]
    own = ctx.index[:, None] + jnp.arange(tokens, dtype=jnp.int32)[None]
    places = jnp.concatenate([jnp.maximum(old.places, 0), own], axis=1)
    whole = jnp.broadcast_to(bias_BNTS, (B, *bias_BNTS.shape[1:]))
    return jnp.take_along_axis(whole, places[:, None, None], axis=3)
