"""The halves of a recurrent translator (arXiv 1609.08144, sec. 3): stacks of LSTMs that read and that write.

Encoder: the first layer in both directions, all others forward. Decoder: the bottom layer with the attention
(`AttentiveLSTM`), whose context every layer reads. z^l = LSTM_l(...) + z^{l-1} from layer 3 on, in both: layer 2 of the
encoder reads twice the width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args

import jax
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context, Memory, dropout, named_key
from arch.layers.attention.additive import AdditiveAttention
from arch.layers.caches import Room
from arch.layers.embeddings import Embedding, EmbeddingLayer
from arch.layers.init.initializers import Initializer
from arch.layers.init.uniform import Uniform
from arch.layers.recurrent.attentive_lstm import AttentiveLSTM, Compat
from arch.layers.recurrent.lstm import BothDirections
from arch.layers.recurrent.lstm_cell import Cell, LSTMCell
from arch.layers.recurrent.recurrence import Recurrence
from arch.models.base import Inputs
from arch.params import ParamFactory
from arch.sharding import RESIDUAL_AXES, constrain
from arch.spec import COUNTED, DEEPEST, Problem, Spec, at_least, at_most, between, one_of
from arch.stacks.base import Remat
from arch.stacks.recurrent import RecurrentStack


@dataclasses.dataclass(frozen=True)
class Recurrences(Spec):
    """What both halves have.

    Attributes:
      vocab: V.
      width: D, of the embedding, of every layer and of both directions each.
      depth: L.
      residual_from: the first layer with a residual connection, counted from 1; None: there are none.
      cell: of every layer.
      dropout: rate at which what a layer reads from below is dropped, while training with a key.
      embedding: the token table; None, of the encoder alone: that of the decoder.
      init: how every weight starts.
      remat: what the backward pass recomputes of the layers above the first (`Sequential.remat`).
    """

    vocab: int = 32_000
    width: int = 1024
    depth: int = 8
    residual_from: int | None = 3
    cell: Cell = LSTMCell()
    dropout: float = 0.0
    embedding: Embedding | None = Embedding()
    init: Initializer = Uniform()
    remat: Remat = "none"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "vocab", "width", "depth")
        yield from at_most(self, DEEPEST, "depth")
        yield from at_most(self, COUNTED, "vocab", "width")
        yield from at_least(self, 2, "residual_from")
        yield from between(self, 0, 0.999, "dropout")
        yield from one_of(self, "remat", get_args(Remat))

    def maker(self, key: jax.Array, name: str) -> ParamFactory:
        """Of the parameters below `name`."""
        return ParamFactory(key, self.init, self.depth).at(name)


@dataclasses.dataclass(frozen=True)
class RecurrentEncoder(Recurrences):
    """LSTMs over the source; `first`: whether the first layer goes in both directions, its outputs concatenated."""

    first: Literal["bidirectional", "forward"] = "bidirectional"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from one_of(self, "first", ("bidirectional", "forward"))
        if self.residual_from == 2 and self.first == "bidirectional":
            yield Problem("residual_from", 2, "must be at least 3: the second layer reads twice what it writes")

    @property
    def reads(self) -> list[dict[str, int]]:
        """Widths that the layers above the first read."""
        twice = 2 if self.first == "bidirectional" else 1
        return [{"x": self.width * (twice if layer == 1 else 1)} for layer in range(1, self.depth)]

    @property
    def memory(self) -> int:
        """Width of what the decoder attends to."""
        return 2 * self.width if self.depth == 1 and self.first == "bidirectional" else self.width


@dataclasses.dataclass(frozen=True)
class RecurrentDecoder(Recurrences):
    """LSTMs over the target; `attention` is bound to the bottom layer as `compat` says (`AttentiveLSTM`)."""

    attention: AdditiveAttention = AdditiveAttention()
    compat: Compat = "paper"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from one_of(self, "compat", get_args(Compat))
        if self.embedding is None:
            yield Problem("embedding", None, "must be an Embedding; the encoder's may be None, the decoder's")


class EncoderLayers(nnx.Module):
    """The encoder: `first.*`, then `layers.*`. Tap sites: embed, memory; those of `first` and of `RecurrentStack`."""

    def __init__(self, spec: RecurrentEncoder, make: ParamFactory):
        if spec.embedding is not None:
            self.embedding = spec.embedding.build(spec.vocab, spec.width, make.at("embedding"))
        first = BothDirections if spec.first == "bidirectional" else Recurrence
        self.first = first(spec.cell, {"x": spec.width}, spec.width, make.at("first"))
        self.rate = spec.dropout
        self.layers = _layers(spec, spec.reads, make)

    def init_cache(self, room: Room) -> dict[str, Any]:
        """For the states that it ends in."""
        return {"first": self.first.init_cache(room), "layers": self.layers.init_cache(room)}

    def __call__(
        self, source: Inputs, ctx: Context, embedding: EmbeddingLayer | None = None
    ) -> tuple[Float[Array, "B S M"], Any]:
        """The last layer's output, and the caches with the states that all layers end in; None without caches."""
        x_BSD = _embedded(embedding or self.embedding, source, ctx, self.rate)
        own, cache = ctx.tap.at(0), ctx.cache or {"first": None, "layers": None}
        z, first = self.first(ctx.replace(tap=own, cache=cache["first"]), {"x": x_BSD})
        z = constrain(own("resid_post", z), RESIDUAL_AXES)
        z, layers = self.layers(z, ctx.replace(cache=cache["layers"]), own.collect())
        return ctx.tap("memory", z), None if ctx.cache is None else {"first": first, "layers": layers}


class DecoderLayers(nnx.Module):
    """The decoder: `first.*` with the attention, then `layers.*`. Tap sites: embed; those of `AttentiveLSTM`, `context`
    [B, T, M], and those of `RecurrentStack`."""

    def __init__(self, spec: RecurrentDecoder, memory: int, make: ParamFactory):
        assert spec.embedding is not None
        self.embedding = spec.embedding.build(spec.vocab, spec.width, make.at("embedding"))
        self.first = AttentiveLSTM(spec.cell, spec.attention, spec.width, memory, spec.compat, make.at("first"))
        self.rate = spec.dropout
        self.layers = _layers(spec, [{"x": spec.width, "context": memory}] * (spec.depth - 1), make)

    def init_cache(self, room: Room) -> dict[str, Any]:
        """Every leaf with a leading axis of layers."""
        first = jax.tree.map(lambda leaf: leaf[None], self.first.init_cache(room))
        return {"first": first, "layers": self.layers.init_cache(room)}

    def __call__(self, inputs: Inputs, ctx: Context) -> tuple[Float[Array, "B T D"], Any]:
        """The last layer's output, and the caches."""
        x_BTD = _embedded(self.embedding, inputs, ctx, self.rate)
        cache = {"first": None, "layers": None}
        if ctx.cache is not None:
            cache = {**ctx.cache, "first": jax.tree.map(lambda leaf: leaf[0], ctx.cache["first"])}
        found = self.first(x_BTD, ctx.replace(cache=cache["first"]))
        context = ctx.tap("context", found.context)
        above = ctx.replace(cache=cache["layers"], memory=Memory(context, ctx.segments, ctx.positions))
        z_BTD, layers = self.layers(constrain(found.x, RESIDUAL_AXES), above, found.taps)
        if ctx.cache is None:
            return z_BTD, None
        return z_BTD, {"first": jax.tree.map(lambda leaf: leaf[None], found.cache), "layers": layers}


def _layers(spec: Recurrences, reads: list[dict[str, int]], make: ParamFactory) -> RecurrentStack:
    return RecurrentStack(spec.cell, reads, spec.width, spec.residual_from, spec.dropout, spec.remat, make)


def _embedded(embedding: EmbeddingLayer, inputs: Inputs, ctx: Context, rate: float) -> Float[Array, "B T D"]:
    tokens: Any = inputs.tokens
    key = named_key(ctx.key, "embed")
    x_BTD = ctx.tap("embed", constrain(embedding(tokens), RESIDUAL_AXES))
    return dropout(x_BTD, rate, ctx.replace(key=key).dropout_key)
