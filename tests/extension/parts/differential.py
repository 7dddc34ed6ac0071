"""Differential attention: two softmaxes, one subtracted from the other (arXiv 2410.05258, eq. 1-3).

z = (softmax(q1 k1^T / sqrt(K)) - lambda * softmax(q2 k2^T / sqrt(K))) v, with v twice as wide as q and k
lambda = exp(a1 . b1) - exp(a2 . b2) + lambda_init,  lambda_init = 0.8 - 0.6 exp(-0.3 l)
out = W_o concat((1 - lambda_init) * RMSNorm(z))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx

from arch.context import Context, Result
from arch.layers.attention.attend import Scores, Visibility, attend
from arch.layers.attention.masks import Causal, Mask
from arch.layers.attention.softmax import remember
from arch.layers.caches import Growing, Room
from arch.layers.linear import Dense, Linear
from arch.layers.norms.common import Norm, RMSNorm
from arch.layers.positions import Position, Rotary
from arch.layers.sublayer import Mixer
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Differential(Mixer):
    """`heads` pairs of query and key heads of width D / (2 heads), and as many value heads of twice that."""

    heads: int = 4
    position: Position = Rotary()
    mask: Mask = Causal()
    norm: Norm = RMSNorm(eps=1e-5)
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "heads")

    @property
    def causal(self):
        return self.mask.causal

    def build(self, width, make):
        if width % (2 * self.heads):
            raise self.invalid("heads", f"must divide half the width {width}")
        return DifferentialLayer(self, width, make)


class DifferentialLayer(nnx.Module):
    def __init__(self, spec: Differential, width: int, make: ParamFactory):
        self.heads, self.head_dim = spec.heads, width // (2 * spec.heads)
        self.mask, self.scores = spec.mask, Scores(self.head_dim**-0.5)
        embed, pairs, wide = (width, "embed"), (2 * self.heads, "heads"), (2 * self.head_dim, "head_dim")
        narrow, values = (self.head_dim, "head_dim"), (self.heads, "heads")
        self.q = spec.linear.build([embed], [pairs, narrow], make, name="q")
        self.k = spec.linear.build([embed], [pairs, narrow], make, name="k")
        self.v = spec.linear.build([embed], [values, wide], make, name="v", role="value")
        self.o = spec.linear.build([values, wide], [embed], make, name="o", role="residual")
        self.position = spec.position.build(self.head_dim, 2 * self.heads, make.at("position"))
        self.norm = spec.norm.build(2 * self.head_dim, make.at("norm"), axis="head_dim")
        # a1, b1, a2, b2; N(0, 0.1^2) in the released code whatever the model's initialiser.
        start = 0.1 * jax.random.normal(make.at("lambdas").key, (4, self.head_dim))
        self.lambdas = make.array([(4, None), narrow], start, "normal(0.1)")

    def init_cache(self, room: Room) -> Growing:
        """Room for keys [B, 2N, S, K] and values [B, N, S, 2K]."""
        return Growing.empty(room, {"k": (2 * self.heads, self.head_dim), "v": (self.heads, 2 * self.head_dim)})

    def __call__(self, x_BTD: jax.Array, ctx: Context) -> Result:
        q = ctx.tap("attn.q", self.position.rotate(self.q(x_BTD), ctx.positions))
        k = ctx.tap("attn.k", self.position.rotate(self.k(x_BTD), ctx.positions))
        cache, k, v, ctx = remember(k, ctx.tap("attn.v", self.v(x_BTD)), ctx)
        bias = self.position.bias(ctx.positions, ctx.key_positions)
        if ctx.bias is not None:
            bias = ctx.bias if bias is None else bias + ctx.bias
        visibility = Visibility(
            self.mask, ctx.positions, ctx.key_positions, ctx.segments, ctx.key_segments, cache is not None
        )
        # Heads 2n and 2n + 1 of queries and keys are the two of pair n; both read value head n.
        z = attend(q, k, jnp.repeat(v, 2, axis=2), visibility=visibility, bias=bias, scores=self.scores, tap=ctx.tap)
        a1, b1, a2, b2 = self.lambdas[...].astype(jnp.float32)
        first = 0.8 - 0.6 * jnp.exp(-0.3 * jnp.asarray(ctx.layer, jnp.float32))
        balance = ctx.tap("attn.lambda", jnp.exp(jnp.dot(a1, b1)) - jnp.exp(jnp.dot(a2, b2)) + first)
        z = self.norm(z[:, :, 0::2] - balance.astype(z.dtype) * z[:, :, 1::2], ctx) * (1 - first).astype(z.dtype)
        return Result(self.o(ctx.tap("attn.z", z)), cache)
