"""The trunk that models of tokens share: embedding, positions, a stack of blocks, a final norm.

Decoder, encoder and classifier are the trunk with a head; an encoder-decoder has two of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNorm
from arch.context import Context
from arch.layers.caches import Room, write
from arch.layers.embeddings import Embedding, EmbeddingLayer
from arch.layers.init.initializers import Initializer, Normal
from arch.layers.norms.common import Norm, RMSNorm
from arch.layers.positions import NoPosition, Position
from arch.models.base import Cache, Inputs, Model, Network, Output
from arch.params import ParamFactory
from arch.sharding import RESIDUAL_AXES, constrain
from arch.spec import COUNTED, DEEPEST, Problem, Spec, UserError, at_least, at_most
from arch.stacks.base import Pattern, Stack
from arch.stacks.sequential import Sequential


@dataclasses.dataclass(frozen=True)
class Trunk(Spec):
    """Tokens to hidden states.

    Attributes:
      vocab: V.
      width: D.
      depth: L.
      block: what a layer is, or a pattern of such blocks.
      stack: how layers make depth.
      embedding: the token table; None: that of the other half of a pair.
      position: positions shared by all layers (learned, sinusoidal, ALiBi, T5 relative).
      norm: the norm after the last layer, or None.
      init: how every weight starts.
    """

    vocab: int = 256
    width: int = 512
    depth: int = 8
    block: Block | Pattern = PreNorm()
    stack: Stack = Sequential()
    embedding: Embedding | None = Embedding()
    position: Position = NoPosition()
    norm: Norm | None = RMSNorm()
    init: Initializer = Normal()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "vocab", "width", "depth")
        yield from at_most(self, DEEPEST, "depth")
        yield from at_most(self, COUNTED, "vocab", "width")
        if not self.position.in_model:
            yield Problem("position", self.position, "belongs to attention: Attention(position=...)")
        if self.embedding is None and isinstance(self, Model):
            yield Problem("embedding", None, "must be an Embedding; only half of a pair can look up in the other's")

    def first_block(self) -> Block:
        """The block, or the first of a pattern."""
        return self.block.blocks[0] if isinstance(self.block, Pattern) else self.block


class TrunkNetwork(Network):
    """The parts of a trunk, and the way of tokens through them. As it is, it is a half of a model of several."""

    def __init__(self, spec: Trunk, make: ParamFactory):
        self.prefix_blind = prefix_blind(spec)
        if spec.embedding is not None:
            self.embedding = spec.embedding.build(spec.vocab, spec.width, make.at("embedding"))
        heads = getattr(spec.first_block().mixer, "heads", None)
        self.position = spec.position.build(spec.width, heads, make.at("position"))
        self.stack = spec.stack.build(spec.block, spec.width, spec.depth, make.at("stack"))
        if spec.norm is not None:
            self.norm = spec.norm.build(spec.width, make.at("norm"))

    @property
    def limit(self) -> int | None:  # type: ignore[override]
        return self.position.limit

    def empty_cache(self, room: Room, memory: Any = None) -> Cache:
        """The cache of the trunk before the first token."""
        return Cache.empty(self.stack.init_cache(room), room, memory)

    def apart(self, cache: Cache) -> Cache:
        of_stack = getattr(self.stack, "apart", None)
        return cache if of_stack is None else dataclasses.replace(cache, layers=of_stack(cache.layers))

    def forward(self, inputs: Inputs, ctx: Context, cache: Cache | None) -> Output:
        raise UserError(f"{type(self).__name__} has no head and no logits; a model that it is a half of calls hidden")

    def hidden(
        self, inputs: Inputs, ctx: Context, cache: Cache | None = None, embedding: EmbeddingLayer | None = None
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """The hidden states of `inputs.tokens`, and the cache after them. `embedding`: the table of the other half,
        for a trunk that has none.

        Raises:
          ValueError: more tokens than positions.
          UserError: coordinates that no part reads; a prefix that a mixer does not know of.
        """
        tokens: Any = inputs.tokens
        if inputs.positions is None and cache is None and self.limit is not None and tokens.shape[1] > self.limit:
            raise ValueError(f"{tokens.shape[1]} tokens do not fit the {self.limit} positions of this model")
        if inputs.coordinates is not None and not any(
            getattr(part, "reads_coordinates", False) for _, part in nnx.iter_graph(self)
        ):
            raise UserError("coordinates were given, and no part of the model reads them; AxialRotary does")
        if inputs.prefix is not None and self.prefix_blind:
            raise UserError(f"a prefix was given, and {self.prefix_blind} does not know of prefixes; {PREFIX_READERS}")
        ctx, cache = placed(inputs, ctx, cache)
        ctx = ctx.replace(bias=self.position.bias(ctx.positions, ctx.key_positions))
        x_BTD = self.position.embed((embedding or self.embedding)(tokens), self.position.places(ctx))
        x_BTD = constrain(x_BTD, RESIDUAL_AXES)
        x_BTD, layers = self.stack(ctx.tap("embed", x_BTD), ctx)
        if hasattr(self, "norm"):
            x_BTD = ctx.tap("final_norm", self.norm(x_BTD, ctx))
        return x_BTD, None if cache is None else dataclasses.replace(cache, layers=layers)


def placed(inputs: Inputs, ctx: Context, cache: Cache | None) -> tuple[Context, Cache | None]:
    """The context with the positions and segments of the tokens and of the keys; the cache with these tokens entered
    and moved on."""
    tokens: Any = inputs.tokens
    (B, T), positions, segments = tokens.shape, inputs.positions, inputs.segments
    if cache is None:
        if positions is None:
            positions = np.arange(T, dtype=np.int32)[None]  # known while tracing
        known = {"positions": positions, "key_positions": positions, "coordinates": inputs.coordinates}
        return ctx.replace(segments=segments, key_segments=segments, key_prefix=inputs.prefix, **known), None
    if segments is None:
        segments = jnp.ones((B, T), jnp.int32)
    if positions is None:
        positions = cache.index[:, None] + jnp.arange(T, dtype=jnp.int32)[None]
    key_positions = write(cache.positions, jnp.broadcast_to(positions, (B, T)), cache.index)
    key_segments = write(cache.segments, segments, cache.index)
    key_prefix = cache.prefix
    if key_prefix is not None or inputs.prefix is not None:
        old = jnp.zeros(cache.segments.shape, bool) if key_prefix is None else key_prefix
        new = jnp.zeros((B, T), bool) if inputs.prefix is None else jnp.broadcast_to(inputs.prefix, (B, T))
        key_prefix = write(old, new, cache.index)
    ctx = ctx.replace(
        positions=positions,
        segments=segments,
        key_positions=key_positions,
        key_segments=key_segments,
        key_prefix=key_prefix,
        coordinates=inputs.coordinates,
        index=cache.index,
        cache=cache.layers,
    )
    now: dict[str, Any] = {"positions": key_positions, "segments": key_segments, "prefix": key_prefix}
    return ctx, dataclasses.replace(cache, **now, index=cache.index + jnp.int32(T))


PREFIX_READERS = "Attention with mask=Causal() does"


def prefix_blind(spec: Trunk) -> str:
    """The first part of a block that would not let a prefix be seen, as "mixer=LSTM"; "" if there is none."""
    parts = (item for block in _blocks(spec) for item in block.sublayers.items())
    return next((f"{name}={type(part).__name__}" for name, part in parts if not part.reads_prefix), "")


def later_tokens(spec: Trunk) -> Iterator[Problem]:
    """A problem if a layer of a causal model sees later tokens."""
    if spec.block.causal is False:
        seen = next(one for one in _blocks(spec) if one.causal is False)
        told = next((f"{name}={part!r}" for name, part in seen.sublayers.items() if part.causal is False), "")
        yield Problem("block", type(spec.block).__name__, f"must not see later tokens ({told}); a model of whole rows "
                      "is an Encoder")  # fmt: skip


def _blocks(spec: Trunk) -> tuple[Block, ...]:
    return spec.block.blocks if isinstance(spec.block, Pattern) else (spec.block,)
