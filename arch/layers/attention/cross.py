"""Cross-attention: a target reads a memory, such as an encoder's output (arXiv 1706.03762, section 3.2.3).

Keys and values are made of the memory once; a cached generation keeps them as they are (`Fixed`), beside the growing
keys and values of self-attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.context import Context, Memory, Result
from arch.layers.attention.attend import Visibility, attend
from arch.layers.attention.grouped import GroupedHeads, grouped_problems
from arch.layers.attention.masks import Bidirectional
from arch.layers.caches import Fixed, Room, kept, seen
from arch.layers.linear import Dense, Linear
from arch.layers.norms.common import Norm
from arch.layers.sublayer import Sublayer
from arch.params import ParamFactory
from arch.spec import Problem, UserError, at_least


@dataclasses.dataclass(frozen=True)
class CrossAttention(Sublayer):
    """Attention to `ctx.memory`, without positions. Heads, head width and key-value heads are its own.

    A document of the target sees the document of the same number in the memory, and never padding.

    Attributes:
      heads: N, query heads.
      head_dim: K; None: width // heads.
      kv_heads: H, key-value heads, a divisor of `heads`; None: as many as heads.
      memory_width: width of the memory; None: that of the model.
      qk_norm: a norm on each query and key head, or None.
      softcap: scores become softcap * tanh(scores / softcap), or None.
      scale: what scores are multiplied by; None: 1 / sqrt(head_dim).
      linear: the kind of all four projections.
    """

    heads: int = 8
    head_dim: int | None = None
    kv_heads: int | None = None
    memory_width: int | None = None
    qk_norm: Norm | None = None
    softcap: float | None = None
    scale: float | None = None
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from grouped_problems(self)
        yield from at_least(self, 1, "memory_width")

    @property
    def causal(self):
        return True  # of the target, a token sees itself alone

    def build(self, width, make):
        return CrossAttentionLayer(self, width, make)


class CrossAttentionLayer(GroupedHeads):
    def __init__(self, spec: CrossAttention, width: int, make: ParamFactory):
        super().__init__(spec, width, spec.memory_width or width, make)

    def init_cache(self, room: Room) -> Fixed:
        """Of no length: the first call brings the memory."""
        head = (room.batch, self.kv_heads, 0, self.head_dim)
        nothing = jnp.zeros((room.batch, 0), jnp.int32)
        return Fixed({"k": jnp.zeros(head, room.dtype), "v": jnp.zeros(head, room.dtype), "segments": nothing})

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        """Raises UserError where there is neither a memory nor a cache that holds one."""
        q_BTNK = self.q(x_BTD)
        if hasattr(self, "q_norm"):
            q_BTNK = self.q_norm(q_BTNK, ctx)
        q_BTNK = ctx.tap("attn.q", q_BTNK)
        made = self.made(ctx)
        own = jnp.ones(x_BTD.shape[:2], jnp.int32) if ctx.segments is None else ctx.segments
        places = jnp.arange(made["segments"].shape[1], dtype=jnp.int32)[None]
        visibility = Visibility(Bidirectional(), ctx.positions, places, own, made["segments"], cached=True)
        k_BSHK, v_BSHK = seen(made["k"]), seen(made["v"])
        z_BTNK = attend(q_BTNK, k_BSHK, v_BSHK, visibility=visibility, bias=None, scores=self.scores, tap=ctx.tap)
        return Result(self.o(ctx.tap("attn.z", z_BTNK)), None if ctx.cache is None else Fixed(made))

    def made(self, ctx: Context) -> dict[str, jax.Array]:
        """Keys, values [B, H, S, K] and segments [B, S]: of the memory, or those in the cache."""
        memory: Memory | None = ctx.memory
        if memory is None:
            if ctx.cache is None:
                raise UserError("CrossAttention has nothing to read: it belongs into the decoder of an EncoderDecoder")
            return dict(ctx.cache.entries)
        k_BSHK, v_BSHK = self.k(memory.x), self.v(memory.x)
        if hasattr(self, "k_norm"):
            k_BSHK = self.k_norm(k_BSHK, ctx)
        segments = jnp.ones(memory.x.shape[:2], jnp.int32) if memory.segments is None else memory.segments
        return {"k": kept(ctx.tap("attn.k", k_BSHK)), "v": kept(ctx.tap("attn.v", v_BSHK)), "segments": segments}
