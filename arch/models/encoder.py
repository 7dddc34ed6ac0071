"""The encoder: tokens in, logits of every token out, each from the whole row (BERT, arXiv 1810.04805)."""

from __future__ import annotations

import dataclasses

from flax import nnx

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNorm
from arch.layers.attention import masks
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Head, Untied
from arch.models.base import Bidirectional, Model, Output
from arch.models.trunk import Trunk, TrunkNetwork
from arch.params import ParamFactory
from arch.stacks.base import Pattern


@dataclasses.dataclass(frozen=True)
class Encoder(Trunk, Model, Bidirectional):
    """A transformer encoder: the trunk of a decoder with attention to both sides, and a `head` over the vocabulary."""

    block: Block | Pattern = PreNorm(mixer=Attention(mask=masks.Bidirectional()))
    head: Head = Untied()

    def build(self, *, rngs: nnx.Rngs) -> EncoderNetwork:
        """The model with float32 parameters drawn from `rngs.params()`. Raises SpecError for parts that do not fit."""
        return EncoderNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))


class EncoderNetwork(TrunkNetwork):
    """Logits of every token."""

    reads = ("tokens", "positions", "segments", "coordinates")

    def __init__(self, spec: Encoder, make: ParamFactory):
        super().__init__(spec, make)
        self.head = spec.head.build(spec.vocab, spec.width, make.at("head"))

    def forward(self, inputs, ctx, cache):
        x_BTD, _ = self.hidden(inputs, ctx)
        return Output(ctx.tap("logits", self.head(x_BTD, self.embedding)), None, x_BTD)
