"""Linformer (arXiv 2006.04768, eq. 7): softmax(q (E k)^T / sqrt(K)) (F v), keys and values of a row mixed into few.

E and F are [length, rank], learned, one pair a layer for all heads (the paper's headwise sharing).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.context import Context, Result
from arch.layers.attention.attend import Scores, plain
from arch.layers.attention.heads import HeadLayer, HeadMixer, one_document, visible_tokens, zero_padding
from arch.params import ParamFactory
from arch.spec import Problem, at_least


@dataclasses.dataclass(frozen=True)
class Linformer(HeadMixer):
    """Attention to `rank` mixtures of the at most `length` tokens of a row. Padding is left out of the mixtures."""

    length: int = 1024
    rank: int = 64

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "length", "rank")

    def build(self, width, make):
        return LinformerLayer(self, width, make)


class LinformerLayer(HeadLayer):
    def __init__(self, spec: Linformer, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.length = spec.length
        self.scores = Scores(self.head_dim**-0.5)
        self.mix_k = make.weight("mix_k", [(spec.length, "length")], [(spec.rank, None)])
        self.mix_v = make.weight("mix_v", [(spec.length, "length")], [(spec.rank, None)])

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        T = x_BTD.shape[1]
        self.refuse_longer(T, self.length)
        q, k, v = (self.project(name, x_BTD, ctx) for name in ("q", "k", "v"))
        visible = visible_tokens(ctx)
        mixed = [
            jnp.einsum("btnk,tr->brnk", zero_padding(x, visible), mix[...][:T].astype(x.dtype))
            for x, mix in ((k, self.mix_k), (v, self.mix_v))
        ]
        z = plain(q, mixed[0], mixed[1], visible=None, bias=None, scores=self.scores, tap=ctx.tap)
        return Result(self.output(one_document(z, ctx), ctx))
