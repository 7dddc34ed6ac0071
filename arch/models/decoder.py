"""The decoder-only language model: tokens in, logits of the next token out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from arch.layers.caches import Room
from arch.layers.embeddings import Head, Untied
from arch.models.base import Cache, Causal, Model, Output
from arch.models.trunk import Trunk, TrunkNetwork, later_tokens
from arch.params import ParamFactory
from arch.spec import Problem


@dataclasses.dataclass(frozen=True)
class Decoder(Trunk, Model, Causal):
    """A decoder-only transformer: the trunk and a `head`, tied or untied."""

    head: Head = Untied()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from later_tokens(self)

    def build(self, *, rngs: nnx.Rngs) -> DecoderNetwork:
        """The model with float32 parameters drawn from `rngs.params()`.

        Raises:
          SpecError: parts that do not fit each other, such as heads that do not divide the width.
        """
        return DecoderNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))


class DecoderNetwork(TrunkNetwork):
    """Logits of every token, the next token's. Reads tokens, with positions and segments where rows are packed."""

    reads = ("tokens", "positions", "segments", "coordinates", "prefix")

    def __init__(self, spec: Decoder, make: ParamFactory):
        super().__init__(spec, make)
        self.head = spec.head.build(spec.vocab, spec.width, make.at("head"))

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32, snapshots: int = 0) -> Cache:
        return self.empty_cache(Room(batch, length, dtype, snapshots))

    def forward(self, inputs, ctx, cache):
        x_BTD, cache = self.hidden(inputs, ctx, cache)
        return Output(ctx.tap("logits", self.head(ctx.asked(x_BTD), self.embedding)), cache, x_BTD)
