"""Masked language modelling (BERT, arXiv 1810.04805, section 3.1): the tokens behind masks, from both sides.

A share of the tokens is chosen; of these 80 % become the mask, 10 % a random token, 10 % stay. Which, and what becomes
of them, is drawn from the key of the row, so that it is the same on any devices, and in every evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from arch.models.base import Bidirectional, Inputs
from arch.spec import Problem, between
from train.objectives.base import Loss, Objective, Task
from train.objectives.next_token import cross_entropy


class Targets(NamedTuple):
    """int32 [B, T] tokens, and float32 [B, T] weights: 1 for the chosen."""

    tokens: jax.Array
    weights: jax.Array


@dataclasses.dataclass(frozen=True)
class MaskedTokens(Objective):
    """Cross-entropy of the chosen tokens, and the share that is found.

    `rate`: of tokens that are chosen. `mask`: the token that hides one; None: that of the data.
    """

    rate: float = 0.15
    mask: int | None = None

    demands: ClassVar[tuple[type, ...]] = (Bidirectional,)
    unit: ClassVar[Literal["tokens", "rows"]] = "tokens"

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 1, "rate")

    def build(self, description):
        mask = description.mask if self.mask is None else self.mask
        if mask is None:
            raise self.refuse("mask", "must be given, for the data has no mask token")

        def hidden(tokens, segments, key):
            """One row [T] with tokens hidden, and which."""
            choice, kind, other = (jax.random.fold_in(key, number) for number in range(3))
            chosen = (jax.random.uniform(choice, tokens.shape) < self.rate) & (segments > 0)
            draw = jax.random.uniform(kind, tokens.shape)
            random = jax.random.randint(other, tokens.shape, 0, description.vocab, tokens.dtype)
            seen = jnp.where(draw < 0.8, jnp.asarray(mask, tokens.dtype), jnp.where(draw < 0.9, random, tokens))
            return jnp.where(chosen, seen, tokens), chosen

        def prepare(batch, keys):
            tokens, segments = batch["tokens"], batch["segments"]
            seen, chosen = jax.vmap(hidden)(tokens, segments, keys)
            return Inputs(seen, batch.get("positions"), segments), Targets(tokens, chosen.astype(jnp.float32))

        return Task(prepare, self.loss)

    def loss(self, output, targets):
        nats, _ = cross_entropy(output.logits, targets.tokens)
        found = (jnp.argmax(output.logits, axis=-1) == targets.tokens).astype(jnp.float32)
        total, weight = jnp.sum(nats * targets.weights), jnp.sum(targets.weights)
        return Loss(total, weight, {"nats": total, "found": jnp.sum(found * targets.weights), "targets": weight})

    def metrics(self, loss):
        targets = jnp.maximum(loss.sums["targets"], 1.0)
        return {"loss": loss.sums["nats"] / targets, "accuracy": loss.sums["found"] / targets}
