"""Masked language modelling: the tokens behind masks, from what is left of the row.

`MaskedLM` predicts each chosen token from its own place (BERT, arXiv 1810.04805, section 3.1), `MaskedNextToken` from
the place before it (MNTP, arXiv 2404.05961, section 2.1), which turns a decoder into an encoder step by step.

One uniform draw u a token decides: [0, 0.8 r) becomes the mask, [0.8 r, 0.9 r) a random token, [0.9 r, r) stays and is
a target all the same. It comes from the key of the row, so that it is the same on any devices, and in every evaluation.
Padding is never chosen, and neither are special tokens (`Description.special`), though released packers do choose them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from arch.models.base import Bidirectional, Causal, Inputs, Output
from arch.spec import Problem, between
from train.data.description import Description
from train.objectives.base import Loss, Objective, Task
from train.objectives.tokens import Targets, token_bytes, token_metrics, token_sums

MASK, RANDOM = 0.8, 0.9
"""Of the chosen: the share that becomes the mask, and that with the share that becomes a random token."""


class Hidden(NamedTuple):
    """int32 [B, T] tokens with some hidden, and bool [B, T] which are to be predicted."""

    tokens: jax.Array
    chosen: jax.Array


@dataclasses.dataclass(frozen=True)
class MaskedLM(Objective):
    """Cross-entropy of the chosen tokens in nats a token (`loss`) and bits a byte of them, and the share that is found.

    A batch is as for `NextToken`, int32 [B, T + 1], of which the model reads the first T. Data without a mask token
    get one, the first id above their vocabulary.

    `rate`: r, the share of the tokens that is chosen; BERT has 0.15, ModernBERT and Ettin 0.3 before their last phase.
    """

    rate: float = 0.15

    demands: ClassVar[tuple[type, ...]] = (Bidirectional,)
    unit: ClassVar[Literal["tokens", "rows"]] = "tokens"

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 1, "rate")

    def extra_tokens(self, description):
        return int(description.mask is None)

    def mask_token(self, description):
        return description.vocab if description.mask is None else description.mask

    def build(self, description):
        known = token_bytes(description, self.extra_tokens(description))
        return Task(
            lambda batch, keys: self.prepare(batch, self.hide(batch, keys, description)),
            lambda output, targets: self.loss(output, targets, known),
        )

    def hide(self, batch: Mapping[str, jax.Array], keys: jax.Array, description: Description) -> Hidden:
        """The rows of a batch [B, T + 1] with some tokens hidden."""
        tokens, vocab = batch["tokens"], description.vocab or 0
        mask = self.mask_token(description)
        draw = lambda tokens, open_, key: hide(  # noqa: E731
            tokens, open_, key, rate=self.rate, mask=mask, vocab=vocab
        )
        return jax.vmap(draw)(tokens, self.eligible(batch, description), keys)

    def eligible(self, batch: Mapping[str, jax.Array], description: Description) -> Bool[Array, "B T"]:
        """The tokens that may be chosen."""
        special = jnp.asarray(description.special, batch["tokens"].dtype)
        return (batch["segments"] > 0) & ~jnp.isin(batch["tokens"], special)

    def prepare(self, batch: Mapping[str, jax.Array], hidden: Hidden) -> tuple[Inputs, Targets]:
        """The first T of T + 1 tokens, each predicted at its own place."""
        return _read(batch, hidden), Targets(batch["tokens"][:, :-1], hidden.chosen[:, :-1].astype(jnp.float32))

    def loss(self, output: Output, targets: Targets, known: np.ndarray | None) -> Loss:
        """The sums over all targets."""
        found = (jnp.argmax(output.logits, axis=-1) == targets.tokens).astype(jnp.float32)
        one, _, _ = token_sums(output.logits, targets, known)
        return dataclasses.replace(one, sums={**one.sums, "found": jnp.sum(found * targets.weights)})

    def metrics(self, loss):
        return {**token_metrics(loss), "accuracy": loss.sums["found"] / jnp.maximum(loss.sums["targets"], 1.0)}


@dataclasses.dataclass(frozen=True)
class MaskedNextToken(MaskedLM):
    """Masked next-token prediction: each chosen token from the hidden state of the token before it.

    For causal models, and for encoders that are made of one. The first token of a document is never chosen.
    """

    demands: ClassVar[tuple[type, ...]] = (Causal, Bidirectional)
    lag: ClassVar[int] = 1

    def eligible(self, batch, description):
        before = jnp.pad(batch["segments"][:, :-1], ((0, 0), (1, 0)))
        return super().eligible(batch, description) & (batch["segments"] == before)

    def prepare(self, batch, hidden):
        return _read(batch, hidden), Targets(batch["tokens"][:, 1:], hidden.chosen[:, 1:].astype(jnp.float32))


def _read(batch: Mapping[str, jax.Array], hidden: Hidden) -> Inputs:
    positions = batch["positions"][:, :-1] if "positions" in batch else None
    return Inputs(hidden.tokens[:, :-1], positions, batch["segments"][:, :-1])


def hide(
    tokens: Int[Array, "T"], eligible: Bool[Array, "T"], key: jax.Array, *, rate: float, mask: int, vocab: int
) -> Hidden:
    """One row with some of its `eligible` tokens hidden. Random tokens are uniform over [0, vocab)."""
    choice, other = jax.random.split(key)
    draw = jnp.where(eligible, jax.random.uniform(choice, tokens.shape), 1.0)
    random = jax.random.randint(other, tokens.shape, 0, vocab, tokens.dtype)
    seen = jnp.where(draw < RANDOM * rate, random, tokens)
    seen = jnp.where(draw < MASK * rate, jnp.asarray(mask, tokens.dtype), seen)
    return Hidden(seen, (draw < rate) & eligible)
