"""An encoder-decoder (arXiv 1706.03762): two trunks, and cross-attention from one to the other as a third sublayer.

With it the task that it is tried on: a row of random tokens, to be repeated from its end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch.blocks import PreNorm
from arch.context import Context, Memory, Result
from arch.layers.attend import Scores, Sight, attend
from arch.layers.attention import Attention
from arch.layers.caches import Fixed, Room
from arch.layers.embeddings import Head, Untied
from arch.layers.linear import Dense, Linear
from arch.layers.masks import Bidirectional
from arch.layers.sublayer import Sublayer
from arch.models.base import Cache, EncoderDecoder, Inputs, Model, Network, Output
from arch.models.trunk import Trunk, TrunkNetwork
from arch.params import Maker
from arch.spec import Problem, UserError, at_least
from train.data.base import Data, Dataset
from train.data.description import Description
from train.objectives.base import Loss, Objective, Task
from train.objectives.next_token import Targets, cross_entropy, prepare


@dataclasses.dataclass(frozen=True)
class CrossAttention(Sublayer):
    """Attention of a target to `ctx.memory`: a document of the target sees that of the same number in the source."""

    heads: int = 2
    linear: Linear = Dense()

    @property
    def causal(self):
        return True  # of the target it sees nothing but the token itself

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "heads")

    def build(self, width, make):
        if width % self.heads:
            raise self.refuse("heads", f"must divide the width {width}")
        return CrossAttentionLayer(self, width, make)


class CrossAttentionLayer(nnx.Module):
    def __init__(self, spec: CrossAttention, width: int, make: Maker):
        self.heads, self.head_dim = spec.heads, width // spec.heads
        embed, heads, head = (width, "embed"), (self.heads, "heads"), (self.head_dim, "head_dim")
        for name in ("q", "k", "v"):
            role = "value" if name == "v" else "linear"
            setattr(self, name, spec.linear.build([embed], [heads, head], make, name=name, role=role))
        self.o = spec.linear.build([heads, head], [embed], make, name="o", role="residual")

    def init_cache(self, room: Room) -> Fixed:
        """Of no length: the first call brings the source."""
        head = (room.batch, 0, self.heads, self.head_dim)
        nothing = jnp.zeros((room.batch, 0), jnp.int32)
        return Fixed({"k": jnp.zeros(head, room.dtype), "v": jnp.zeros(head, room.dtype), "segments": nothing})

    def __call__(self, x_BTD: jax.Array, ctx: Context) -> Result:
        q_BTNK = ctx.tap("attn.q", self.q(x_BTD))
        if ctx.memory is not None:
            x_BSD = ctx.memory.x
            segments = ctx.memory.segments
            segments = jnp.ones(x_BSD.shape[:2], jnp.int32) if segments is None else segments
            made = {"k": self.k(x_BSD), "v": self.v(x_BSD), "segments": segments}
        else:
            made = ctx.cache.entries
        k, v, source = made["k"], made["v"], made["segments"]
        own = jnp.ones(x_BTD.shape[:2], jnp.int32) if ctx.segments is None else ctx.segments
        places = jnp.arange(k.shape[1], dtype=jnp.int32)[None]
        sight = Sight(Bidirectional(), ctx.positions, places, own, source, cached=True)
        scores = Scores(self.head_dim**-0.5)
        z_BTNK = attend(q_BTNK, k, v, sight=sight, bias=None, scores=scores, tap=ctx.tap)
        return Result(self.o(ctx.tap("attn.z", z_BTNK)), None if ctx.cache is None else Fixed(made))


@dataclasses.dataclass(frozen=True)
class Seq2Seq(Model, EncoderDecoder):
    """`encoder` and `decoder` have one width; the blocks of the decoder hold a sublayer that reads the memory."""

    encoder: Trunk = Trunk(depth=1, block=PreNorm(mixer=Attention(mask=Bidirectional())))
    decoder: Trunk = Trunk(depth=1, block=PreNorm(extra=(("cross", CrossAttention()),)))
    head: Head = Untied()

    def problems(self) -> Iterator[Problem]:
        if self.encoder.width != self.decoder.width:
            yield Problem("encoder", self.encoder.width, f"must have the width of the decoder, {self.decoder.width}")
        if self.decoder.block.causal is False:
            yield Problem("decoder", type(self.decoder.block).__name__, "must not see later tokens")

    @property
    def vocab(self) -> int:
        return self.decoder.vocab

    def build(self, *, rngs):
        return Seq2SeqNetwork(self, rngs.params())


class Seq2SeqNetwork(Network):
    """Logits of the next token of the target. The source is read by the first call of a cached generation."""

    reads = ("tokens", "positions", "segments", "source")

    def __init__(self, spec: Seq2Seq, key: jax.Array):
        for name, trunk in (("encoder", spec.encoder), ("decoder", spec.decoder)):
            setattr(self, name, TrunkNetwork(trunk, Maker(key, trunk.init, trunk.depth).at(name)))
        make = Maker(key, spec.decoder.init, spec.decoder.depth).at("head")
        self.head = spec.head.build(spec.decoder.vocab, spec.decoder.width, make)

    @property
    def limit(self) -> int | None:  # type: ignore[override]
        return self.decoder.limit

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32, snapshots: int = 0) -> Cache:
        return self.decoder.empty_cache(Room(batch, length, dtype, snapshots))

    def forward(self, inputs, ctx, cache):
        memory = None
        if inputs.source is not None:
            source = inputs.source
            x_BSD, _ = self.encoder.hidden(source, ctx.scope("encoder"))
            memory = Memory(x_BSD, source.segments, np.arange(x_BSD.shape[1], dtype=np.int32)[None])
        elif cache is None:
            raise UserError("an encoder-decoder needs Inputs(tokens=..., source=Inputs(tokens=...))")
        x_BTD, cache = self.decoder.hidden(inputs, ctx.scope("decoder").replace(memory=memory), cache)
        return Output(ctx.tap("logits", self.head(x_BTD, self.decoder.embedding)), cache, x_BTD)


@dataclasses.dataclass(frozen=True)
class NextOfTarget(Objective):
    """Cross-entropy of the next token of the target. A batch has `source` and `source_segments` [B, S], `tokens` and
    `segments` [B, T + 1]."""

    demands: ClassVar[tuple[type, ...]] = (EncoderDecoder,)
    unit: ClassVar[Literal["tokens", "rows"]] = "tokens"

    def build(self, description):
        def make(batch, keys):
            inputs, targets = prepare(batch, keys)
            source = Inputs(tokens=batch["source"], segments=batch["source_segments"])
            return dataclasses.replace(inputs, source=source), targets

        return Task(make, self.loss)

    def loss(self, output: Output, targets: Targets) -> Loss:
        nats, _ = cross_entropy(output.logits, targets.tokens)
        total, weight = jnp.sum(nats * targets.weights), jnp.sum(targets.weights)
        return Loss(total, weight, {"nats": total, "targets": weight})

    def metrics(self, loss):
        return {"loss": loss.sums["nats"] / jnp.maximum(loss.sums["targets"], 1.0)}


@dataclasses.dataclass(frozen=True)
class Reversed(Data):
    """Sources of 2 to `length` random tokens below `vocab`; the target is token 0, then the source from its end."""

    length: int = 8
    vocab: int = 16
    rows: int = 32
    held_out: int = 10

    def describe(self):
        source, target = ((self.length,), np.int32), ((self.length + 1,), np.int32)
        arrays = {"source": source, "source_segments": source, "tokens": target, "segments": target}
        return Description(arrays, vocab=self.vocab)

    def build(self, progress=None):
        splits = {"train": self.rows, "validation": self.held_out}
        rows = {split: Pairs(self, count, seed) for seed, (split, count) in enumerate(splits.items())}
        return Dataset(rows, self.describe(), f"reversed {self}")


class Pairs:
    """The rows of a `Reversed`."""

    def __init__(self, spec: Reversed, count: int, seed: int):
        rng = np.random.default_rng(seed)
        length = rng.integers(2, spec.length + 1, (count, 1))
        there = np.arange(spec.length)[None] < length
        source = rng.integers(1, spec.vocab, (count, spec.length)) * there
        back = np.take_along_axis(source, np.maximum(length - 1 - np.arange(spec.length)[None], 0), axis=1) * there
        first = np.ones((count, 1))
        arrays = {
            "source": source,
            "source_segments": there,
            "tokens": np.concatenate([0 * first, back], axis=1),
            "segments": np.concatenate([first, there], axis=1),
        }
        self.arrays = {name: array.astype(np.int32) for name, array in arrays.items()}

    def __len__(self) -> int:
        return len(self.arrays["tokens"])

    def gather(self, indices):
        return {name: array[indices] for name, array in self.arrays.items()}
