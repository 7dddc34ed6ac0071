"""The decoder-only language model: tokens in, logits of the next token out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from arch.blocks import Block, PreNorm
from arch.context import Context, Keep
from arch.layers.embeddings import Embedding, Head, Untied
from arch.layers.initializers import Initializer, Normal
from arch.layers.norms import Norm, RMSNorm
from arch.layers.positions import NoPosition, Position
from arch.models.base import Model
from arch.params import Maker
from arch.sharding import RESIDUAL_AXES, constrain
from arch.spec import Problem, at_least
from arch.stacks import Sequential, Stack
from arch.taps import NoTap, Tap


@dataclasses.dataclass(frozen=True)
class Decoder(Model):
    """A decoder-only transformer.

    Attributes:
      vocab: V.
      width: D.
      depth: L.
      block: what a layer is.
      stack: how layers make depth.
      embedding: the token table.
      position: positions shared by all layers (learned, sinusoidal, ALiBi, T5 relative).
      norm: the norm before the head, or None.
      head: tied or untied.
      init: how every weight starts.
    """

    vocab: int = 256
    width: int = 512
    depth: int = 8
    block: Block = PreNorm()
    stack: Stack = Sequential()
    embedding: Embedding = Embedding()
    position: Position = NoPosition()
    norm: Norm | None = RMSNorm()
    head: Head = Untied()
    init: Initializer = Normal()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "vocab", "width", "depth")
        if not self.position.in_model:
            yield Problem("position", self.position, "belongs to attention: Attention(position=...)")

    def build(self, *, rngs: nnx.Rngs) -> DecoderModel:
        """The model with float32 parameters drawn from `rngs.params()`.

        Raises:
          SpecError: parts that do not fit each other, such as heads that do not divide the width.
        """
        return DecoderModel(self, Maker(rngs.params(), self.init, self.depth))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """What a decoder remembers between calls. Made by `init_cache`, handed to a call, answered by it.

    Attributes:
      layers: the caches of all layers, each leaf `[L, B, ...]`.
      positions: int32 [B, S], position of each remembered token.
      segments: int32 [B, S], its document; 0: nothing there.
      index: int32 scalar, where the next token goes.
    """

    layers: Any
    positions: jax.Array
    segments: jax.Array
    index: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Output:
    """What a call of a model answers.

    Attributes:
      logits: float32 [B, T, V].
      cache: the cache after these tokens; None without one.
      aux: name -> [L], extra losses and statistics of the layers.
      taps: site -> saved value, `(layer, ...)` for sites inside the stack.
    """

    logits: jax.Array
    cache: Cache | None
    aux: dict[str, jax.Array]
    taps: dict[str, jax.Array]


class DecoderModel(nnx.Module):
    def __init__(self, spec: Decoder, make: Maker):
        self.embedding = spec.embedding.build(spec.vocab, spec.width, make.at("embedding"))
        heads = getattr(spec.block.mixer, "heads", None)
        self.position = spec.position.build(spec.width, heads, make.at("position"))
        self.stack = spec.stack.build(spec.block, spec.width, spec.depth, make.at("stack"))
        if spec.norm is not None:
            self.norm = spec.norm.build(spec.width, make.at("norm"))
        self.head = spec.head.build(spec.vocab, spec.width, make.at("head"))

    @property
    def limit(self) -> int | None:
        """How many positions the model knows; None: no bound."""
        return self.position.limit

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32) -> Cache:
        """An empty cache for `batch` sequences of at most `length` tokens."""
        empty = jnp.zeros((batch, length), jnp.int32)
        return Cache(self.stack.init_cache(batch, length, dtype), empty, empty, jnp.zeros((), jnp.int32))

    def __call__(
        self,
        tokens_BT: Int[Array, "B T"],
        *,
        positions: Int[Array, "P T"] | None = None,
        segments: Int[Array, "B T"] | None = None,
        cache: Cache | None = None,
        key: jax.Array | None = None,
        keep: Keep = Keep(),
        tap: Tap | None = None,
    ) -> Output:
        """Logits for every token.

        Args:
          tokens_BT: token ids.
          positions: position of each token in its document; P is 1 or B. None: counting from 0, or from what the
            cache holds.
          segments: document of each token, 0 for padding. None: one document without padding.
          cache: what came before; the answer holds the cache after these tokens.
          key: dropout key; None: no dropout.
          keep: gates per layer (see `Keep`).
          tap: what to save or edit on the way (see `Tap`).

        Raises:
          ValueError: `tap` names a site that this model does not have, or there are more tokens than positions.
        """
        if positions is None and cache is None and self.limit is not None and tokens_BT.shape[1] > self.limit:
            raise ValueError(f"{tokens_BT.shape[1]} tokens do not fit the {self.limit} positions of this model")
        tap_or_none = NoTap() if tap is None else tap.recorder()
        ctx, cache = _context(tokens_BT, positions, segments, cache)
        ctx = ctx.replace(key=key, keep=keep, tap=tap_or_none)
        ctx = ctx.replace(bias=self.position.bias(ctx.positions, ctx.key_positions))
        x_BTD = self.position.embed(self.embedding(tokens_BT), ctx.positions)
        x_BTD = constrain(x_BTD, RESIDUAL_AXES)
        (x_BTD, layer_caches, aux), taps = self.stack(tap_or_none("embed", x_BTD), ctx)
        if hasattr(self, "norm"):
            x_BTD = tap_or_none("final_norm", self.norm(x_BTD, ctx))
        logits = tap_or_none("logits", self.head(x_BTD, self.embedding))
        tap_or_none.check()
        if cache is not None:
            cache = dataclasses.replace(cache, layers=layer_caches)
        return Output(logits, cache, dict(aux), {**taps, **tap_or_none.collect()})


def _context(tokens, positions, segments, cache: Cache | None) -> tuple[Context, Cache | None]:
    """Positions and segments of the tokens and of the keys; the cache with these tokens entered and moved on."""
    B, T = tokens.shape
    if cache is None:
        if positions is None:
            positions = np.arange(T, dtype=np.int32)[None]  # known while tracing
        return Context(positions, segments, positions, segments), None
    if segments is None:
        segments = jnp.ones((B, T), jnp.int32)
    if positions is None:
        positions = jnp.broadcast_to(cache.index + jnp.arange(T, dtype=jnp.int32)[None], (B, T))
    start = (jnp.zeros((), jnp.int32), cache.index)
    key_positions = jax.lax.dynamic_update_slice(cache.positions, jnp.broadcast_to(positions, (B, T)), start)
    key_segments = jax.lax.dynamic_update_slice(cache.segments, segments, start)
    ctx = Context(positions, segments, key_positions, key_segments, index=cache.index, cache=cache.layers)
    return ctx, Cache(cache.layers, key_positions, key_segments, cache.index + T)
