"""GNMT (arXiv 1609.08144): a recurrent encoder and a recurrent decoder with attention by its bottom layer.

What bounds the states and the logits while training, so that the network can be quantised after it (`gnmt_int8.py`), is
the clip of the cell and a `ClippedHead`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from arch.context import Context, Memory
from arch.layers.caches import Room
from arch.layers.embeddings import Head, Untied
from arch.models.base import Cache, Inputs, Network, Output
from arch.models.passed_state import begun_from
from arch.models.recurrent import DecoderLayers, EncoderLayers, RecurrentDecoder, RecurrentEncoder
from arch.models.trunk import placed
from arch.models.two_halves import TwoHalves
from arch.spec import Problem, UserError, one_of


@dataclasses.dataclass(frozen=True)
class GNMT(TwoHalves):
    """The two halves, of any depth each, and a head over the decoder's vocabulary.

    `compat` "pass_hidden_state": the decoder begins with the states of the encoder, as tensorflow/nmt has it on request
    (`passed_state.py`); "paper": with zeros.
    """

    encoder: RecurrentEncoder = RecurrentEncoder()
    decoder: RecurrentDecoder = RecurrentDecoder()
    head: Head = Untied()
    compat: Literal["paper", "pass_hidden_state"] = "paper"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from one_of(self, "compat", ("paper", "pass_hidden_state"))
        for name in ("depth", "width") if self.compat == "pass_hidden_state" else ():
            if (own := getattr(self.encoder, name)) != (other := getattr(self.decoder, name)):
                yield Problem(f"encoder.{name}", own, f"must be the decoder's, {other}, to pass it the states")

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
        self.passes = spec.compat == "pass_hidden_state"
        self.head = spec.head.build(spec.decoder.vocab, spec.decoder.width, spec.decoder.maker(key, "head"))

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32, snapshots: int = 0) -> Cache:
        room = Room(batch, length, dtype, snapshots)
        return Cache.empty(self.decoder.init_cache(room), room)

    def forward(self, inputs, ctx, cache):
        memory, states = None, None
        if inputs.source is not None:
            memory, states = self.encode(inputs.source, ctx.scope("encoder"))
        elif cache is None:
            raise UserError("a GNMT needs Inputs(tokens=..., source=Inputs(tokens=...))")
        inner, cache = placed(inputs, ctx.scope("decoder").replace(memory=memory), cache)
        if states is not None:
            tokens: Any = inputs.tokens
            empty = self.decoder.init_cache(Room(tokens.shape[0], 0)) if inner.cache is None else inner.cache
            inner = inner.replace(cache=begun_from(empty, states))
        z_BTD, layers = self.decoder(inputs, inner)
        cache = None if cache is None else dataclasses.replace(cache, layers=layers)
        return Output(ctx.tap("logits", self.head(ctx.asked(z_BTD), self.decoder.embedding)), cache, z_BTD)

    def encode(self, source: Inputs, ctx: Context) -> tuple[Memory, Any]:
        """What the decoder attends to of `source`, and the states that it begins with; None: zeros.

        Raises:
          UserError: states that are to be passed, of rows of several pairs.
        """
        ctx, _ = placed(source, ctx, None)
        table = None if hasattr(self.encoder, "embedding") else self.decoder.embedding
        if self.passes:
            if source.positions is not None:
                raise UserError("GNMT(compat='pass_hidden_state') passes the states of one source a row: the data must "
                                "not pack several pairs into one")  # fmt: skip
            tokens: Any = source.tokens
            ctx = ctx.replace(cache=self.encoder.init_cache(Room(tokens.shape[0], 0)))
        z_BSD, states = self.encoder(source, ctx, table)
        positions = np.arange(z_BSD.shape[1], dtype=np.int32)[None] if source.positions is None else source.positions
        return Memory(z_BSD, source.segments, positions), states
