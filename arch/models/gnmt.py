"""GNMT (arXiv 1609.08144): a recurrent encoder and a recurrent decoder with attention by its bottom layer.

What bounds the states and the logits while training, so that the network can be quantised after it (`gnmt_int8.py`), is
the clip of the cell and a `ClippedHead`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch.context import Context, Memory
from arch.layers.caches import Room
from arch.layers.embeddings import Head, Untied
from arch.models.base import Cache, Inputs, Network, Output
from arch.models.recurrent import DecoderLayers, EncoderLayers, RecurrentDecoder, RecurrentEncoder
from arch.models.trunk import placed
from arch.models.two_halves import TwoHalves
from arch.spec import UserError


@dataclasses.dataclass(frozen=True)
class GNMT(TwoHalves):
    """The two halves, of any depth each, and a head over the decoder's vocabulary."""

    encoder: RecurrentEncoder = RecurrentEncoder()
    decoder: RecurrentDecoder = RecurrentDecoder()
    head: Head = Untied()

    def build(self, *, rngs):
        """The model with float32 parameters drawn from `rngs.params()`. Raises SpecError for parts that do not fit."""
        return GNMTNetwork(self, rngs.params())


class GNMTNetwork(Network):
    """Logits of the next token of the target. The source is read by the first call of a cached generation."""

    reads = ("tokens", "positions", "segments", "source")
    source_limit: int | None = None

    def __init__(self, spec: GNMT, key: jax.Array):
        self.encoder = EncoderLayers(spec.encoder, spec.encoder.maker(key, "encoder"))
        self.decoder = DecoderLayers(spec.decoder, spec.encoder.memory, spec.decoder.maker(key, "decoder"))
        self.head = spec.head.build(spec.decoder.vocab, spec.decoder.width, spec.decoder.maker(key, "head"))

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32, snapshots: int = 0) -> Cache:
        room = Room(batch, length, dtype, snapshots)
        return Cache.empty(self.decoder.init_cache(room), room)

    def forward(self, inputs, ctx, cache):
        memory = None
        if inputs.source is not None:
            memory = self.encode(inputs.source, ctx.scope("encoder"))
        elif cache is None:
            raise UserError("a GNMT needs Inputs(tokens=..., source=Inputs(tokens=...))")
        inner, cache = placed(inputs, ctx.scope("decoder").replace(memory=memory), cache)
        z_BTD, layers = self.decoder(inputs, inner)
        cache = None if cache is None else dataclasses.replace(cache, layers=layers)
        return Output(ctx.tap("logits", self.head(ctx.asked(z_BTD), self.decoder.embedding)), cache, z_BTD)

    def encode(self, source: Inputs, ctx: Context) -> Memory:
        """What the decoder attends to of `source`."""
        ctx, _ = placed(source, ctx, None)
        table = None if hasattr(self.encoder, "embedding") else self.decoder.embedding
        z_BSD = self.encoder(source, ctx, table)
        positions = np.arange(z_BSD.shape[1], dtype=np.int32)[None] if source.positions is None else source.positions
        return Memory(z_BSD, source.segments, positions)
