"""Next-token prediction: cross-entropy of each token given what came before it in its document.

Reported as `loss`, nats per target token, and `bits_per_byte`, total nats / (ln 2 * UTF-8 bytes of the targets), which
compares across tokenizers. Targets cross neither document borders nor padding; the end-of-document token is a target
of zero bytes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from arch.models.base import Causal, Inputs, Output
from arch.spec import Problem, at_least
from train.data.ngrams import ngram_baselines
from train.objectives.base import Loss, Objective, Task


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

    def build(self, description):
        # A byte count per token as a constant of the program: V small integers. Zeros where only building tells.
        known = description.token_bytes
        token_bytes = np.zeros(description.vocab or 0) if known is None else np.asarray(known)
        return Task(prepare, lambda output, targets: self.loss(output, targets, token_bytes.astype(np.float32)))

    def loss(self, output: Output, targets: Targets, token_bytes: np.ndarray) -> Loss:
        """The sums over all targets."""
        tokens, weights = targets
        nats, log_z = cross_entropy(output.logits, tokens)
        total, weight = jnp.sum(nats * weights), jnp.sum(weights)
        sums = {"nats": total, "bytes": jnp.sum(jnp.asarray(token_bytes)[tokens] * weights), "targets": weight}
        if isinstance(self.z_loss, jax.Array) or self.z_loss:  # traced, it may be any number
            total = total + self.z_loss * jnp.sum(jnp.square(log_z) * weights)
        return Loss(total, weight, sums)

    def metrics(self, loss):
        nats, targets = loss.sums["nats"], jnp.maximum(loss.sums["targets"], 1.0)
        return {"loss": nats / targets, "bits_per_byte": nats / (math.log(2.0) * jnp.maximum(loss.sums["bytes"], 1.0))}

    def baselines(self, dataset, split):
        """Unigram, bigram and trigram; the bigram is the bar. None of data that weighs its targets."""
        there = dataset.description.arrays
        if not dataset.vocab or "weights" in there or not {"tokens", "segments"} <= set(there):
            return ()
        return ngram_baselines(dataset.rows["train"], dataset.rows[split], dataset.vocab, dataset.token_bytes)


class Targets(NamedTuple):
    """int32 [B, T] tokens, and float32 [B, T] weights."""

    tokens: jax.Array
    weights: jax.Array


def prepare(batch: Mapping[str, jax.Array], keys: jax.Array) -> tuple[Inputs, Targets]:
    """Rows of T + 1 tokens as T inputs and the T that follow them."""
    tokens, segments = batch["tokens"], batch["segments"]
    weights = ((segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)).astype(jnp.float32)
    if "weights" in batch:
        weights = weights * batch["weights"][:, 1:]
    positions = batch["positions"][:, :-1] if "positions" in batch else None
    return Inputs(tokens[:, :-1], positions, segments[:, :-1]), Targets(tokens[:, 1:], weights)


def cross_entropy(
    logits_BTV: Float[Array, "B T V"], targets_BT: Int[Array, "B T"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Nats of each target, and the log partition function. float32.

    The target's logit is picked by comparison rather than by a gather: its gradient is then dense and shards with the
    logits, where a gather's is a scatter.
    """
    logits = logits_BTV.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    picked = targets_BT[..., None] == jnp.arange(logits.shape[-1], dtype=targets_BT.dtype)[None, None]
    return log_z - jnp.sum(jnp.where(picked, logits, 0.0), axis=-1), log_z
