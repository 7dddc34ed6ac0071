"""Pairs for decoder-only models: source and target in one row, the loss on the target alone.

The batches are those of `SequenceToSequence`, and so are the targets, one by one: a decoder-only model and an
encoder-decoder are compared on the same tokens. The target follows its source directly, whatever padding stood between
them; its positions go on from the true length of the source. Packed pairs stay apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from arch.models.base import Causal, Inputs
from arch.spec import one_of
from train.objectives.base import Task
from train.objectives.prefixes import without_prefixes
from train.objectives.rows import places
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.tokens import Targets, token_bytes

Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Concatenated(SequenceToSequence):
    """Cross-entropy of the target's tokens, by a causal model of source and target in one row.

    `source_ids`: "shared": an id means the same on both sides; "separate": the source's ids follow the target's, id s
    becomes V + s, so that the model's vocabulary has both.
    """

    source_ids: Literal["shared", "separate"] = "shared"

    demands: ClassVar[tuple[type, ...]] = (Causal,)

    def problems(self):
        yield from super().problems()
        yield from one_of(self, "source_ids", ("shared", "separate"))

    def needs(self, description):
        told = super().needs(description)
        source, _ = told.pop("source_vocab", (0, ""))
        target, what = told.get("vocab", (0, ""))
        if self.source_ids == "separate":
            told["vocab"] = target + source, f"{what}, source and target"
        elif source > target:
            told["vocab"] = source, "the source tokens of the data"
        return told

    def build(self, description):
        offset = (description.vocab or 0) if self.source_ids == "separate" else 0
        extra = max(self.needs(description).get("vocab", (0, ""))[0] - (description.vocab or 0), 0)
        known = token_bytes(description, extra)
        return Task(
            lambda batch, keys: self.prepare(batch, keys, offset),
            lambda output, targets: self.loss(output, targets, known),
        )

    def prepare(self, batch: Batch, keys: jax.Array, offset: int) -> tuple[Inputs, Targets]:
        """Rows of S + T tokens, and what follows each. `offset` is added to the source's ids."""
        return one_row(batch, offset)[:2]


@dataclasses.dataclass(frozen=True)
class PrefixConcatenated(Concatenated):
    """`Concatenated`, with the source as a prefix: its tokens are read from both sides, as an encoder reads them."""

    def refusals(self, model):
        yield from without_prefixes(model)

    def prepare(self, batch, keys, offset):
        inputs, targets, of_source = one_row(batch, offset)
        return dataclasses.replace(inputs, prefix=of_source), targets


def one_row(batch: Batch, offset: int = 0) -> tuple[Inputs, Targets, jax.Array]:
    """Inputs and targets [B, S + T] of a batch of pairs, and which of the inputs are of a source, bool."""
    sizes = batch["source"].shape[1], batch["tokens"].shape[1]

    def both(source: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.concatenate([source, target.astype(source.dtype)], axis=1)

    segments = both(batch["source_segments"], batch["segments"])
    side = jnp.repeat(jnp.arange(2, dtype=jnp.int32), jnp.asarray(sizes), total_repeat_length=sum(sizes))
    last = jnp.iinfo(jnp.int32).max
    order = jnp.argsort(jnp.where(segments > 0, 2 * segments + side[None], last), axis=1, stable=True)

    def sorted_(array: jax.Array) -> jax.Array:
        return jnp.take_along_axis(array, order, axis=1)

    tokens = sorted_(both(batch["source"] + jnp.asarray(offset, batch["source"].dtype), batch["tokens"]))
    segments, of_target = sorted_(segments), sorted_(jnp.broadcast_to(side[None] == 1, order.shape))
    there = segments > 0
    tokens = jnp.where(there, tokens, 0)
    told = of_target[:, 1:] & of_target[:, :-1] & (segments[:, 1:] == segments[:, :-1]) & there[:, 1:]
    weights = told.astype(jnp.float32)
    if "weights" in batch:
        own = both(jnp.zeros(batch["source"].shape, jnp.float32), batch["weights"])
        weights = weights * sorted_(own)[:, 1:]
    positions = jnp.where(there, places(segments).place, 0)
    inputs = Inputs(tokens[:, :-1], positions[:, :-1], segments[:, :-1])
    return inputs, Targets(tokens[:, 1:], weights), ~of_target[:, :-1] & there[:, :-1]
