"""Multi-head attention with free heads, head width and grouped key-value heads.

arXiv 1706.03762 (eq. 1 and section 3.2.2), grouped heads arXiv 2305.13245, QK-norm arXiv 2302.05442,
soft-capping arXiv 2408.00118 (section 2).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context, Result
from arch.layers.attend import Scores, Sight, attend
from arch.layers.linear import Dense, Linear
from arch.layers.masks import Causal, Mask
from arch.layers.norms import Norm
from arch.layers.positions import Position, Rotary
from arch.params import Maker
from arch.spec import Problem, Spec, above, at_least


@dataclasses.dataclass(frozen=True)
class Mixer(Spec, abc.ABC):
    """A part that moves information between tokens: `mixer(x, ctx) -> Result`."""

    @abc.abstractmethod
    def build(self, width: int, make: Maker) -> Any:
        """The part for a model of `width`. It has `__call__(x_BTD, ctx)` and `init_cache(batch, length, dtype)`."""


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
        yield from at_least(self, 1, "heads", "head_dim", "kv_heads")
        yield from above(self, 0, "softcap", "scale")
        if self.kv_heads and self.heads > 0 and self.kv_heads > 0 and self.heads % self.kv_heads:
            yield Problem("kv_heads", self.kv_heads, f"must divide heads={self.heads}")
        if not self.position.in_attention:
            yield Problem("position", self.position, "belongs to the model: Decoder(position=...)")

    def build(self, width, make):
        if self.head_dim is None and width % self.heads:
            divisors = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
            raise self.refuse("heads", f"must divide the width {width} ({divisors}), or give head_dim")
        return AttentionLayer(self, width, make)


class AttentionLayer(nnx.Module):
    def __init__(self, spec: Attention, width: int, make: Maker):
        self.heads = spec.heads
        self.kv_heads = spec.kv_heads or spec.heads
        self.head_dim = spec.head_dim or width // spec.heads
        self.mask = spec.mask
        self.scores = Scores(spec.scale or self.head_dim**-0.5, spec.softcap)
        embed, head = (width, "embed"), (self.head_dim, "head_dim")
        heads, kv_heads = (self.heads, "heads"), (self.kv_heads, "kv")
        self.q = spec.linear.build([embed], [heads, head], make, name="q")
        self.k = spec.linear.build([embed], [kv_heads, head], make, name="k")
        self.v = spec.linear.build([embed], [kv_heads, head], make, name="v", role="value")
        self.o = spec.linear.build([heads, head], [embed], make, name="o", role="residual")
        self.position = spec.position.build(self.head_dim, self.heads, make.at("position"))
        if spec.qk_norm is not None:
            self.q_norm = spec.qk_norm.build(self.head_dim, make.at("q_norm"), axis="head_dim")
            self.k_norm = spec.qk_norm.build(self.head_dim, make.at("k_norm"), axis="head_dim")

    def init_cache(self, batch: int, length: int, dtype: Any) -> dict[str, jax.Array]:
        """Room for the keys and values of `length` tokens, each `[B, S, H, K]`."""
        shape = (batch, length, self.kv_heads, self.head_dim)
        return {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)}

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        """Keys enter the cache after position and norm, so that a cached step rotates only its own tokens."""
        tap = ctx.tap
        q_BTNK, k_BTHK, v_BTHK = self.q(x_BTD), self.k(x_BTD), self.v(x_BTD)
        if hasattr(self, "q_norm"):
            q_BTNK, k_BTHK = self.q_norm(q_BTNK, ctx), self.k_norm(k_BTHK, ctx)
        q_BTNK = tap("attn.q", self.position.rotate(q_BTNK, ctx.positions))
        k_BTHK = tap("attn.k", self.position.rotate(k_BTHK, ctx.positions))
        v_BTHK = tap("attn.v", v_BTHK)

        cache = None
        k_BSHK, v_BSHK = k_BTHK, v_BTHK
        if ctx.cache is not None:
            start = (0, ctx.index, 0, 0)
            k_BSHK = jax.lax.dynamic_update_slice(ctx.cache["k"], k_BTHK.astype(ctx.cache["k"].dtype), start)
            v_BSHK = jax.lax.dynamic_update_slice(ctx.cache["v"], v_BTHK.astype(ctx.cache["v"].dtype), start)
            cache = {"k": k_BSHK, "v": v_BSHK}

        bias = self.position.bias(ctx.positions, ctx.key_positions)
        if ctx.bias is not None:
            bias = ctx.bias if bias is None else bias + ctx.bias
        sight = Sight(
            self.mask, ctx.positions, ctx.key_positions, ctx.segments, ctx.key_segments, ctx.cache is not None
        )
        z_BTNK = attend(q_BTNK, k_BSHK, v_BSHK, sight=sight, bias=bias, scores=self.scores, tap=tap)
        return Result(self.o(tap("attn.z", z_BTNK)), cache)
