"""Classification: cross-entropy of one label a row, from softmax over classes. Two-document matching is two classes.

Reported as `loss`, nats a row, and `accuracy`, the share of rows whose largest logit is the label's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.spec import UserError
from train.objectives.base import Loss, Objective

INPUTS = ("tokens", "image")
"""The array that a model is called with; the others of a batch are keywords."""
OWN = ("label", "weight", "row")
"""Arrays of a batch that the model is not handed."""


@dataclasses.dataclass(frozen=True)
class Classification(Objective):
    """Cross-entropy of the label of each row.

    A batch has `label`, int32 [B], `weight`, float32 [B] (0 for the rows that fill up the last batch), and what the
    model reads: `tokens` or `image`, handed to it first, and any others (`segments`, `tokens2`, ...), handed to it by
    name. The model answers an `Output` whose logits are [B, classes].

    Raises:
      UserError: the data has more classes than the model, when a step is first traced.
    """

    def build(self, dataset):
        wanted = getattr(dataset, "classes", 0) or 0

        def loss(model, batch: Mapping[str, jax.Array], key: jax.Array | None) -> Loss:
            inputs = {name: array for name, array in batch.items() if name not in OWN}
            first = next(name for name in INPUTS if name in inputs)
            out = model(inputs.pop(first), **inputs, key=key)
            classes = out.logits.shape[-1]
            if classes < wanted:
                raise UserError(f"model.classes={classes}: must be at least {wanted}, the classes of the data")
            weights = batch["weight"]
            nats = label_nats(out.logits, batch["label"])
            correct = (jnp.argmax(out.logits, axis=-1) == batch["label"]).astype(jnp.float32)
            total, weight = jnp.sum(nats * weights), jnp.sum(weights)
            sums = {"nats": total, "correct": jnp.sum(correct * weights), "rows": weight}
            for name, value in out.aux.items():
                if name.startswith("loss/"):
                    total = total + weight * jnp.sum(value)
                    sums[name] = weight * jnp.sum(value)
            return Loss(total, weight, sums)

        return loss

    def metrics(self, loss):
        rows = jnp.where(loss.sums["rows"] > 0, loss.sums["rows"], 1.0)
        extra = {name: value / rows for name, value in loss.sums.items() if name.startswith("loss/")}
        return {"loss": loss.sums["nats"] / rows, "accuracy": loss.sums["correct"] / rows, **extra}


def label_nats(logits: Float[Array, "B C"], labels: Int[Array, "B"]) -> Float[Array, "B"]:
    """-log softmax(logits)[label], float32. The label's logit is picked by comparison, whose gradient is dense."""
    logits = logits.astype(jnp.float32)
    picked = labels[:, None] == jnp.arange(logits.shape[-1], dtype=labels.dtype)[None]
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(picked, logits, 0.0), axis=-1)
