"""Classifiers of token rows: an encoder, pooling without padding, and a small head; and the same for pairs of rows.

The shape of the Long Range Arena's models (Tay et al., arXiv 2011.04006): `Classifier` labels a document, `Matcher`
reads two documents with one encoder and labels the pair from [a, b, a * b, a - b].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNorm
from arch.context import Context
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.layers.heads.class_heads import ClassHead, MLPHead
from arch.layers.heads.pooling import MeanPooling, Pooling
from arch.layers.norms.common import LayerNorm, Norm
from arch.layers.positions import Learned, NoPosition, Position
from arch.models.base import Classification, Inputs, Model, Output
from arch.models.trunk import Trunk, TrunkNetwork
from arch.params import ParamFactory
from arch.spec import Problem, UserError, at_least
from arch.stacks.base import Pattern

ENCODER_BLOCK = PreNorm(
    mixer=Attention(position=NoPosition(), mask=Bidirectional()), feed_forward=MLP(), norm=LayerNorm()
)


@dataclasses.dataclass(frozen=True)
class Classifier(Trunk, Model, Classification):
    """One label a row.

    Attributes:
      classes: labels to choose from.
      pooling: from token vectors to the vector of a row.
      head: from the vector of a row to logits.
    """

    width: int = 256
    depth: int = 6
    block: Block | Pattern = ENCODER_BLOCK
    position: Position = Learned()
    norm: Norm | None = LayerNorm()
    classes: int = 2
    pooling: Pooling = MeanPooling()
    head: ClassHead = MLPHead()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 2, "classes")

    def build(self, *, rngs: nnx.Rngs) -> ClassifierNetwork:
        """The model with float32 parameters drawn from `rngs.params()`. Raises SpecError for parts that do not fit."""
        return ClassifierNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))


@dataclasses.dataclass(frozen=True)
class Matcher(Classifier):
    """One label a pair of rows, such as whether two documents belong together. Both go through the same encoder."""

    def build(self, *, rngs: nnx.Rngs) -> MatcherNetwork:
        return MatcherNetwork(self, ParamFactory(rngs.params(), self.init, self.depth))


class ClassifierNetwork(TrunkNetwork):
    """Logits [B, classes] of every row. Tap sites: those of the trunk, "pooled" and "logits"."""

    features = 1
    """Vectors of the width that the head reads."""

    def __init__(self, spec: Classifier, make: ParamFactory):
        super().__init__(spec, make)
        self.pooling = spec.pooling
        self.head = spec.head.build(self.features * spec.width, spec.classes, spec.width, make.at("head"))

    def pooled(self, inputs: Inputs, ctx: Context) -> tuple[Float[Array, "B D"], Float[Array, "B T D"]]:
        """The vector of each row, and its tokens' hidden states."""
        x_BTD, _ = self.hidden(inputs, ctx)
        visible = None if inputs.segments is None else inputs.segments > 0
        return ctx.tap("pooled", self.pooling(x_BTD, visible)), x_BTD

    def forward(self, inputs, ctx, cache):
        vectors_BD, x_BTD = self.pooled(inputs, ctx)
        return Output(ctx.tap("logits", self.head(vectors_BD)), None, x_BTD)


class MatcherNetwork(ClassifierNetwork):
    """Logits [B, classes] of every pair, the other row of which is `inputs.second`.

    Both documents of all pairs are encoded as one batch, so that the encoder's taps have 2B rows: the documents of
    pair b are rows 2b and 2b + 1.
    """

    reads = ("second", "tokens", "segments")
    features = 4

    def forward(self, inputs, ctx, cache):
        tokens, tokens2, segments, segments2 = _both(inputs)
        both = None if segments is None else side_by_side(segments, segments2)
        vectors, x_BTD = self.pooled(Inputs(tokens=side_by_side(tokens, tokens2), segments=both), ctx)
        a, b = vectors[0::2], vectors[1::2]
        return Output(ctx.tap("logits", self.head(jnp.concatenate([a, b, a * b, a - b], axis=-1))), None, x_BTD)


def _both(inputs: Inputs) -> tuple[Any, Any, Any, Any]:
    """tokens of both rows, segments of both or of neither."""
    one, two = inputs, inputs.second
    if two is None or two.tokens is None or one.tokens is None:
        raise UserError("a pair of rows needs Inputs(tokens=..., second=Inputs(tokens=...))")
    first, second = one.segments, two.segments
    if first is None and second is not None:
        first = jnp.ones_like(one.tokens)
    if second is None and first is not None:
        second = jnp.ones_like(two.tokens)
    return one.tokens, two.tokens, first, second


def side_by_side(first: Int[Array, "B T"], second: Int[Array, "B T"]) -> Int[Array, "2*B T"]:
    """The rows of both in turn; each device of a mesh that splits the batch keeps its own."""
    return jnp.stack([first, second], axis=1).reshape(-1, first.shape[1])
