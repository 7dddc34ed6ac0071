"""Next-token prediction: cross-entropy of each token given what came before it in its document.

Reported as `loss`, nats per target token, and of text `bits_per_byte`, total nats / (ln 2 * UTF-8 bytes of the
targets), which compares across tokenizers. Targets cross neither document borders nor padding; the end-of-document
token is a target of zero bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from arch.models.base import Causal, Inputs, Output
from arch.spec import Problem, at_least
from train.data.ngrams import ngram_baselines
from train.objectives.base import Loss, Objective, Task
from train.objectives.tokens import Targets, token_bytes, token_metrics, token_sums


@dataclasses.dataclass(frozen=True)
class NextToken(Objective):
    """Cross-entropy of the next token.

    A batch has `tokens` and `segments`, int32 [B, T + 1], `positions` if documents are packed, and may have `weights`,
    float32 [B, T + 1], of each token as a target. `z_loss` adds z_loss * logsumexp(logits)^2 (arXiv 2204.02311,
    section 5).
    """

    z_loss: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "z_loss")

    demands: ClassVar[tuple[type, ...]] = (Causal,)
    unit: ClassVar[Literal["tokens", "rows"]] = "tokens"

    def same_targets(self, other):
        return type(self) is type(other) and self == dataclasses.replace(other, z_loss=self.z_loss)

    def build(self, description):
        known = token_bytes(description)
        return Task(prepare, lambda output, targets: self.loss(output, targets, known))

    def loss(self, output: Output, targets: Targets, known: np.ndarray | None) -> Loss:
        """The sums over all targets. `known`: bytes of each token, [V]; None: no text."""
        loss, _, log_z = token_sums(output.logits, targets, known)
        if isinstance(self.z_loss, jax.Array) or self.z_loss:  # traced, it may be any number
            more = self.z_loss * jnp.sum(jnp.square(log_z) * targets.weights)
            loss = dataclasses.replace(loss, total=loss.total + more)
        return loss

    def metrics(self, loss):
        return token_metrics(loss)

    def baselines(self, dataset, split):
        """Unigram, bigram and trigram; the bigram is the bar. None of data that weighs its targets."""
        there = dataset.description.arrays
        if not dataset.vocab or "weights" in there or not {"tokens", "segments"} <= set(there):
            return ()
        return ngram_baselines(dataset.rows["train"], dataset.rows[split], dataset.vocab, dataset.token_bytes)


def prepare(batch: Mapping[str, jax.Array], keys: jax.Array) -> tuple[Inputs, Targets]:
    """Rows of T + 1 tokens as T inputs and the T that follow them."""
    tokens, segments = batch["tokens"], batch["segments"]
    weights = ((segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)).astype(jnp.float32)
    if "weights" in batch:
        weights = weights * batch["weights"][:, 1:]
    positions = batch["positions"][:, :-1] if "positions" in batch else None
    return Inputs(tokens[:, :-1], positions, segments[:, :-1]), Targets(tokens[:, 1:], weights)
