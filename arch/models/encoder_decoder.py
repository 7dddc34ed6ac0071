"""The encoder-decoder (arXiv 1706.03762): an encoder reads the source, a decoder writes the target and looks at it.

Two trunks, of any depth each. The decoder's blocks hold `CrossAttention` as a further sublayer. A decoder or an encoder
by itself has the same parameters, at the paths that are here below `decoder.` and `encoder.`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch.blocks.base import Block
from arch.blocks.pre_norm import PreNorm
from arch.context import Memory
from arch.layers.attention import masks
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.softmax import Attention
from arch.layers.caches import Room
from arch.layers.embeddings import Head, Tied
from arch.models.base import Cache, Inputs, Network, Output
from arch.models.trunk import Trunk, TrunkNetwork, later_tokens
from arch.models.two_halves import TwoHalves
from arch.params import ParamFactory
from arch.spec import Problem, UserError
from arch.stacks.base import Pattern


def reading(block: Block, cross: CrossAttention = CrossAttention(), name: str = "cross") -> Block:
    """`block` with a sublayer `name` that reads the memory, behind its mixer: the decoder block of a pair."""
    return dataclasses.replace(block, extra=((name, cross), *block.extra))


@dataclasses.dataclass(frozen=True)
class EncoderDecoder(TwoHalves):
    """Two trunks and a head over the decoder's vocabulary.

    Attributes:
      encoder: what reads the source. Its `embedding` None: it looks tokens up in the decoder's table (T5, Mu).
      decoder: what writes the target; its blocks hold a `CrossAttention` (`reading`).
      head: over the decoder's vocabulary; `Tied` to its table.
    """

    encoder: Trunk = Trunk(block=PreNorm(mixer=Attention(mask=masks.Bidirectional())))
    decoder: Trunk = Trunk(block=reading(PreNorm()))
    head: Head = Tied()

    def problems(self) -> Iterator[Problem]:
        yield from later_tokens(self.decoder)
        if self.decoder.embedding is None:
            yield Problem("decoder.embedding", None, "must be an Embedding; the encoder's may be None, the decoder's")
        parts = [part for block in _blocks(self.decoder.block) for part in block.sublayers.values()]
        crosses = [part for part in parts if isinstance(part, CrossAttention)]
        if not crosses:
            allowed = "must hold a CrossAttention to read the encoder by: extra=((cross,CrossAttention),)"
            yield Problem("decoder.block", type(self.decoder.block).__name__, allowed)
        for cross in crosses:
            if (cross.memory_width or self.decoder.width) != self.encoder.width:
                yield Problem("encoder.width", self.encoder.width, "must be what the decoder's CrossAttention reads, "
                              f"memory_width={cross.memory_width or self.decoder.width}")  # fmt: skip
        yield from super().problems()

    def build(self, *, rngs):
        """The model with float32 parameters drawn from `rngs.params()`. Raises SpecError for parts that do not fit."""
        return EncoderDecoderNetwork(self, rngs.params())


class EncoderDecoderNetwork(Network):
    """Logits of the next token of the target. The source is read by the first call of a cached generation."""

    reads = ("tokens", "positions", "segments", "source")

    def __init__(self, spec: EncoderDecoder, key: jax.Array):
        self.encoder = TrunkNetwork(
            spec.encoder, ParamFactory(key, spec.encoder.init, spec.encoder.depth).at("encoder")
        )
        make = ParamFactory(key, spec.decoder.init, spec.decoder.depth)
        self.decoder = TrunkNetwork(spec.decoder, make.at("decoder"))
        self.head = spec.head.build(spec.decoder.vocab, spec.decoder.width, make.at("head"))

    @property
    def limit(self) -> int | None:  # type: ignore[override]
        return self.decoder.limit

    @property
    def source_limit(self) -> int | None:
        """How many positions of a source the encoder knows; None: no bound."""
        return self.encoder.limit

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32, snapshots: int = 0) -> Cache:
        return self.decoder.empty_cache(Room(batch, length, dtype, snapshots))

    def apart(self, cache: Cache) -> Cache:
        return self.decoder.apart(cache)

    def forward(self, inputs, ctx, cache):
        memory = None
        if inputs.source is not None:
            memory = self.encode(inputs.source, ctx.scope("encoder"))
        elif cache is None:
            raise UserError("an EncoderDecoder needs Inputs(tokens=..., source=Inputs(tokens=...))")
        x_BTD, cache = self.decoder.hidden(inputs, ctx.scope("decoder").replace(memory=memory), cache)
        return Output(ctx.tap("logits", self.head(ctx.asked(x_BTD), self.decoder.embedding)), cache, x_BTD)

    def encode(self, source: Inputs, ctx: Any) -> Memory:
        """What the decoder reads of `source`."""
        table = None if hasattr(self.encoder, "embedding") else self.decoder.embedding
        x_BSD, _ = self.encoder.hidden(source, ctx, embedding=table)
        positions = source.positions
        if positions is None:
            positions = np.arange(x_BSD.shape[1], dtype=np.int32)[None]
        return Memory(x_BSD, source.segments, positions)


def _blocks(block: Block | Pattern) -> tuple[Block, ...]:
    return block.blocks if isinstance(block, Pattern) else (block,)
