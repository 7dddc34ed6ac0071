"""The embedder: a row of tokens to one vector, by an encoder or a decoder and pooling (arXiv 1908.10084, section 3).

Two texts that are to be compared are `inputs` and `inputs.second`; they go through the same network as one batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int

from arch.blocks.base import Block
from arch.layers.heads.pooling import MeanPooling, Pooling
from arch.layers.norms.common import LayerNorm, Norm
from arch.layers.positions import Learned, Position
from arch.models.base import Inputs, Model, Output, TextEmbedding
from arch.models.classifier import ENCODER_BLOCK, side_by_side
from arch.models.trunk import Trunk, TrunkNetwork
from arch.params import ParamFactory
from arch.stacks.base import Pattern


@dataclasses.dataclass(frozen=True)
class Embedder(Trunk, Model, TextEmbedding):
    """Vectors of the model's width. `pooling`: from token vectors to that of a row; `LastPooling` where attention is
    causal."""

    block: Block | Pattern = ENCODER_BLOCK
    position: Position = Learned()
    norm: Norm | None = LayerNorm()
    pooling: Pooling = MeanPooling()

    def build(self, *, rngs: nnx.Rngs) -> EmbedderNetwork:
        """The model with float32 parameters drawn from `rngs.params()`. Raises SpecError for parts that do not fit."""
        return EmbedderNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))


class EmbedderNetwork(TrunkNetwork):
    """Vectors [B, 1, D] of every row, or [B, 2, D] of both rows of every pair, float32.

    Tap sites: those of the trunk and "pooled", of pairs with the two texts of pair b at rows 2b and 2b + 1.
    """

    reads = ("tokens", "segments", "second")

    def __init__(self, spec: Embedder, make: ParamFactory):
        super().__init__(spec, make)
        self.pooling = spec.pooling

    def forward(self, inputs, ctx, cache):
        tokens, segments = inputs.tokens, _segments(inputs)
        rows = tokens.shape[0]
        if inputs.second is not None:
            length = max(tokens.shape[1], inputs.second.tokens.shape[1])
            tokens = side_by_side(*(_padded(one, length) for one in (tokens, inputs.second.tokens)))
            segments = side_by_side(*(_padded(one, length) for one in (segments, _segments(inputs.second))))
        x_BTD, _ = self.hidden(Inputs(tokens=tokens, segments=segments), ctx)
        vectors = ctx.tap("pooled", self.pooling(x_BTD, segments > 0))
        return Output(vectors.astype(jnp.float32).reshape(rows, -1, vectors.shape[-1]), None, x_BTD)


def _segments(inputs: Inputs) -> Any:
    return jnp.ones(inputs.tokens.shape, jnp.int32) if inputs.segments is None else inputs.segments


def _padded(array: Int[Array, "B T"], length: int) -> jax.Array:
    return jnp.pad(array, ((0, 0), (0, length - array.shape[1])))
