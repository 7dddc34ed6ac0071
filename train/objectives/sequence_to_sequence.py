"""Sequence to sequence: cross-entropy of each token of the target, given the source and what came before it.

A batch has `source` and `source_segments`, int32 [B, S], and `tokens` and `segments`, int32 [B, T + 1]: the target with
the tokens that begin and end it. Packed rows hold several pairs, a document of the target and that of the same number
in the source, and have `positions` [B, T + 1] and `source_positions` [B, S] as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from arch.models.base import Inputs, Output, Seq2Seq
from arch.spec import Problem, between
from train.data.ngrams import ngram_baselines
from train.objectives.base import Loss, Objective, Task
from train.objectives.next_token import prepare as of_target
from train.objectives.tokens import Targets, token_bytes, token_metrics, token_sums


@dataclasses.dataclass(frozen=True)
class SequenceToSequence(Objective):
    """Cross-entropy of the target's tokens, in nats a token (`loss`), and in bits a byte of the target.

    `label_smoothing`: share of each target's probability that is spread over the whole vocabulary in what is
    minimised (arXiv 1706.03762, section 5.4); `loss` is reported without it.
    """

    label_smoothing: float = 0.0

    demands: ClassVar[tuple[type, ...]] = (Seq2Seq,)
    unit: ClassVar[Literal["tokens", "rows"]] = "tokens"

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 0.999, "label_smoothing")

    def same_targets(self, other):
        return isinstance(other, SequenceToSequence)

    def build(self, description):
        known = token_bytes(description)
        return Task(prepare, lambda output, targets: self.loss(output, targets, known))

    def loss(self, output: Output, targets: Targets, known: np.ndarray | None) -> Loss:
        """The sums over all targets. `known`: bytes of each token, [V]; None: no text."""
        loss, nats, log_z = token_sums(output.logits, targets, known)
        if isinstance(self.label_smoothing, jax.Array) or self.label_smoothing:  # traced, it may be any number
            even = log_z - jnp.mean(output.logits.astype(jnp.float32), axis=-1)
            more = self.label_smoothing * jnp.sum((even - nats) * targets.weights)
            loss = dataclasses.replace(loss, total=loss.total + more)
        return loss

    def metrics(self, loss):
        return token_metrics(loss)

    def baselines(self, dataset, split):
        """Unigram, bigram and trigram of the target, which know nothing of the source; the trigram is the bar."""
        if not dataset.vocab or not {"tokens", "segments"} <= set(dataset.description.arrays):
            return ()
        found = ngram_baselines(dataset.rows["train"], dataset.rows[split], dataset.vocab, dataset.token_bytes)
        return tuple(dataclasses.replace(one, bar=one is found[-1]) for one in found)


def prepare(batch: Mapping[str, jax.Array], keys: jax.Array) -> tuple[Inputs, Targets]:
    """Target rows of T + 1 tokens as T inputs and the T that follow them, and the source."""
    inputs, targets = of_target(batch, keys)
    source = Inputs(batch["source"], batch.get("source_positions"), batch["source_segments"])
    return dataclasses.replace(inputs, source=source), targets
