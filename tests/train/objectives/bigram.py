"""The smallest Seq2Seq model: the logits of a token are a row of a table, chosen by the token before it; the source
chooses between two tables."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from arch.layers.init.initializers import Normal
from arch.models.base import Cache, Model, Network, Output, Seq2Seq
from arch.params import ParamFactory


@dataclasses.dataclass(frozen=True)
class Bigram(Model, Seq2Seq):
    vocab: int = 3

    @property
    def source_vocab(self):
        return self.vocab

    def build(self, *, rngs):
        return BigramNetwork(self, ParamFactory(rngs.params(), Normal(1.0)))


class BigramNetwork(Network):
    reads = ("tokens", "positions", "segments", "source")

    def __init__(self, spec: Bigram, make: ParamFactory):
        self.table = make.weight("table", [(2, None), (spec.vocab, None)], [(spec.vocab, None)])

    def init_cache(self, batch, length, dtype=jnp.float32, snapshots=0):
        nothing = jnp.zeros((batch, length), jnp.int32)
        return Cache({}, nothing, nothing, jnp.zeros((batch,), jnp.int32), jnp.zeros((batch,), jnp.int32))

    def forward(self, inputs, ctx, cache):
        which = cache.memory if inputs.source is None else inputs.source.tokens[:, 0] % 2
        if cache is not None:
            cache = dataclasses.replace(cache, memory=which, index=cache.index + jnp.int32(inputs.tokens.shape[1]))
        x = self.table[...][which[:, None], inputs.tokens]
        return Output(ctx.tap("logits", x), cache)


def spec_and_params(seed: int = 0):
    """The model without its parameters, and parameters."""
    graphdef, state = nnx.split(Bigram().build(rngs=nnx.Rngs(seed)), nnx.Param)
    return graphdef, jax.tree.map(jnp.asarray, nnx.to_pure_dict(state))
