"""Classifiers of token rows: an encoder, pooling without padding, and a small head; and the same for pairs of rows.

The shape of the Long Range Arena's models (Tay et al., arXiv 2011.04006): `Classifier` labels a document, `Matcher`
reads two documents with one encoder and labels the pair from [a, b, a * b, a - b].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from arch.blocks import Block, PreNorm
from arch.context import Context, Keep
from arch.layers.attention import Attention
from arch.layers.class_heads import ClassHead, MLPHead
from arch.layers.embeddings import Embedding
from arch.layers.feed_forward import MLP
from arch.layers.initializers import Initializer, Normal
from arch.layers.masks import Bidirectional
from arch.layers.norms import LayerNorm, Norm
from arch.layers.pooling import MeanPooling, Pooling
from arch.layers.positions import Learned, NoPosition, Position
from arch.models.base import Model
from arch.models.decoder import Output
from arch.params import Maker
from arch.sharding import RESIDUAL_AXES, constrain
from arch.spec import Problem, at_least
from arch.stacks import Sequential, Stack
from arch.taps import NoTap, Recorder, Tap

ENCODER_BLOCK = PreNorm(
    mixer=Attention(position=NoPosition(), mask=Bidirectional()), feed_forward=MLP(), norm=LayerNorm()
)


@dataclasses.dataclass(frozen=True)
class Classifier(Model):
    """One label a row.

    Attributes:
      vocab: V.
      width: D.
      depth: L.
      classes: labels to choose from.
      block: what a layer is; its mixer should see both ways.
      stack: how layers make depth.
      embedding: the token table.
      position: positions shared by all layers.
      norm: the norm before pooling, or None.
      pooling: from token vectors to the vector of a row.
      head: from the vector of a row to logits.
      init: how every weight starts.
    """

    vocab: int = 256
    width: int = 256
    depth: int = 6
    classes: int = 2
    block: Block = ENCODER_BLOCK
    stack: Stack = Sequential()
    embedding: Embedding = Embedding()
    position: Position = Learned()
    norm: Norm | None = LayerNorm()
    pooling: Pooling = MeanPooling()
    head: ClassHead = MLPHead()
    init: Initializer = Normal()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "vocab", "width", "depth")
        yield from at_least(self, 2, "classes")
        if not self.position.in_model:
            yield Problem("position", self.position, "belongs to attention: Attention(position=...)")

    def build(self, *, rngs: nnx.Rngs) -> ClassifierModel:
        """The model with float32 parameters drawn from `rngs.params()`. Raises SpecError for parts that do not fit."""
        return ClassifierModel(self, Maker(rngs.params(), self.init, self.depth))


@dataclasses.dataclass(frozen=True)
class Matcher(Classifier):
    """One label a pair of rows, such as whether two documents belong together. Both go through the same encoder."""

    def build(self, *, rngs: nnx.Rngs) -> MatcherModel:
        return MatcherModel(self, Maker(rngs.params(), self.init, self.depth))


class ClassifierModel(nnx.Module):
    features = 1
    """Vectors of the width that the head reads."""

    def __init__(self, spec: Classifier, make: Maker):
        self.embedding = spec.embedding.build(spec.vocab, spec.width, make.at("embedding"))
        heads = getattr(spec.block.mixer, "heads", None)
        self.position = spec.position.build(spec.width, heads, make.at("position"))
        self.stack = spec.stack.build(spec.block, spec.width, spec.depth, make.at("stack"))
        if spec.norm is not None:
            self.norm = spec.norm.build(spec.width, make.at("norm"))
        self.pooling = spec.pooling
        self.head = spec.head.build(self.features * spec.width, spec.classes, spec.width, make.at("head"))

    def __call__(
        self,
        tokens_BT: Int[Array, "B T"],
        *,
        segments: Int[Array, "B T"] | None = None,
        key: jax.Array | None = None,
        keep: Keep = Keep(),
        tap: Tap | None = None,
    ) -> Output:
        """Logits [B, classes] of every row.

        Args:
          tokens_BT: token ids.
          segments: 1 for text, 0 for padding. None: no padding.
          key: dropout key; None: no dropout.
          keep: gates per layer (see `Keep`).
          tap: what to save or edit on the way: the sites of a `Decoder`, and "pooled".

        Raises:
          ValueError: `tap` names a site that this model does not have, or there are more tokens than positions.
        """
        recorder = NoTap() if tap is None else tap.recorder()
        vectors_BD, aux, taps = self.encode(tokens_BT, segments, key, keep, recorder)
        return self.answer(vectors_BD, aux, taps, recorder)

    def encode(
        self,
        tokens_BT: Int[Array, "B T"],
        segments: Int[Array, "B T"] | None,
        key: jax.Array | None,
        keep: Keep,
        tap: NoTap | Recorder,
    ) -> tuple[Float[Array, "B D"], dict[str, jax.Array], dict[str, jax.Array]]:
        """The vector of each row, the layers' aux, and what the stack's taps saved."""
        T, limit = tokens_BT.shape[1], self.position.limit
        if limit is not None and limit < T:
            raise ValueError(f"{T} tokens do not fit the {limit} positions of this model")
        positions = np.arange(T, dtype=np.int32)[None]  # known while tracing
        ctx = Context(positions, segments, positions, segments, key=key, keep=keep, tap=tap)
        ctx = ctx.replace(bias=self.position.bias(positions, positions))
        x_BTD = constrain(self.position.embed(self.embedding(tokens_BT), positions), RESIDUAL_AXES)
        (x_BTD, _, aux), taps = self.stack(tap("embed", x_BTD), ctx)
        if hasattr(self, "norm"):
            x_BTD = tap("final_norm", self.norm(x_BTD, ctx))
        visible = None if segments is None else segments > 0
        return tap("pooled", self.pooling(x_BTD, visible)), dict(aux), taps

    def answer(
        self,
        features_BD: Float[Array, "B D"],
        aux: dict[str, jax.Array],
        taps: dict[str, jax.Array],
        tap: NoTap | Recorder,
    ) -> Output:
        """The head, and everything collected."""
        logits = tap("logits", self.head(features_BD))
        tap.check()
        return Output(logits, None, aux, {**taps, **tap.collect()})


class MatcherModel(ClassifierModel):
    features = 4

    def __call__(  # type: ignore[override]
        self,
        tokens_BT: Int[Array, "B T"],
        *,
        tokens2: Int[Array, "B T"],
        segments: Int[Array, "B T"] | None = None,
        segments2: Int[Array, "B T"] | None = None,
        key: jax.Array | None = None,
        keep: Keep = Keep(),
        tap: Tap | None = None,
    ) -> Output:
        """Logits [B, classes] of every pair; arguments as for a `Classifier`.

        Both documents of all pairs are encoded as one batch, so that the encoder's taps have 2B rows: the documents of
        pair b are rows 2b and 2b + 1.
        """
        if segments is None or segments2 is None:
            segments = jnp.ones_like(tokens_BT) if segments is None and segments2 is not None else segments
            segments2 = jnp.ones_like(tokens2) if segments2 is None and segments is not None else segments2
        recorder = NoTap() if tap is None else tap.recorder()
        both = None if segments is None or segments2 is None else side_by_side(segments, segments2)
        vectors, aux, taps = self.encode(side_by_side(tokens_BT, tokens2), both, key, keep, recorder)
        a, b = vectors[0::2], vectors[1::2]
        return self.answer(jnp.concatenate([a, b, a * b, a - b], axis=-1), aux, taps, recorder)


def side_by_side(first: Int[Array, "B T"], second: Int[Array, "B T"]) -> Int[Array, "2*B T"]:
    """The rows of both in turn; each device of a mesh that splits the batch keeps its own."""
    return jnp.stack([first, second], axis=1).reshape(-1, first.shape[1])
