"""Token labels: cross-entropy of one label a token, from softmax over classes (BERT, arXiv 1810.04805, section 4.3).

Reported as `loss`, nats a labelled token, and `accuracy`, the share of them whose largest logit is the label's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from arch.models.base import Inputs, Output, Tagging
from arch.spec import UserError
from train.objectives.base import Loss, Objective, Task
from train.objectives.tokens import Targets, cross_entropy

READ = ("tokens", "segments", "positions", "labels", "weights")


@dataclasses.dataclass(frozen=True)
class TokenLabels(Objective):
    """Cross-entropy of the label of each token.

    A batch has `tokens`, `segments` and `labels`, int32 [B, T], `positions` if documents are packed, and may have
    `weights`, float32 [B, T], of each token's label. Padding (segment 0) and labels below 0 count nothing. The model
    returns logits [B, T, classes].

    Raises:
      UserError: the data has an array that is none of these, when a step is first traced.
    """

    demands: ClassVar[tuple[type, ...]] = (Tagging,)
    unit: ClassVar[Literal["tokens", "rows"]] = "tokens"

    def build(self, description):
        return Task(lambda batch, keys: prepare(batch), self.loss)

    def loss(self, output: Output, targets: Targets) -> Loss:
        """The sums over all labelled tokens."""
        nats, _ = cross_entropy(output.logits, targets.tokens)
        correct = (jnp.argmax(output.logits, axis=-1) == targets.tokens).astype(jnp.float32)
        total, weight = jnp.sum(nats * targets.weights), jnp.sum(targets.weights)
        return Loss(total, weight, {"nats": total, "correct": jnp.sum(correct * targets.weights), "labels": weight})

    def metrics(self, loss):
        labels = jnp.where(loss.sums["labels"] > 0, loss.sums["labels"], 1.0)
        return {"loss": loss.sums["nats"] / labels, "accuracy": loss.sums["correct"] / labels}


def prepare(batch: Mapping[str, jax.Array]) -> tuple[Inputs, Targets]:
    """What the model reads, and the labels. Raises UserError for an array that nobody would read."""
    strange = [name for name in batch if name not in READ]
    if strange:
        raise UserError(f"the data has {', '.join(strange)}, which TokenLabels does not read; it reads "
                        f"{', '.join(READ)}")  # fmt: skip
    weights = ((batch["segments"] > 0) & (batch["labels"] >= 0)).astype(jnp.float32)
    if "weights" in batch:
        weights = weights * batch["weights"]
    return Inputs(batch["tokens"], batch.get("positions"), batch["segments"]), Targets(
        jnp.maximum(batch["labels"], 0), weights
    )
