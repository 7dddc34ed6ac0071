"""Classification: cross-entropy of one label a row, from softmax over classes. Two-document matching is two classes.

Reported as `loss`, nats a row, and `accuracy`, the share of rows whose largest logit is the label's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from arch.models import base as models
from arch.models.base import Inputs, Output
from arch.spec import Problem, UserError, at_least
from train.data.label_counts import majority
from train.data.naive_bayes import naive_bayes
from train.objectives.base import Loss, Objective, Task


@dataclasses.dataclass(frozen=True)
class Classification(Objective):
    """Cross-entropy of the label of each row.

    A batch has `label`, int32 [B], below 0 where there is none, which counts nothing, `weight`, float32 [B] (0 for the
    rows that fill up the last batch), and what the model reads: `tokens` with `segments`, of pairs `tokens2` and
    `segments2` as well, or `image`. The model returns logits [B, classes].

    Raises:
      UserError: the data has more classes than the model, when a step is first traced.
    """

    demands: ClassVar[tuple[type, ...]] = (models.Classification,)

    def build(self, description):
        wanted = description.classes or 0

        def loss(output: Output, targets: tuple[jax.Array, jax.Array]) -> Loss:
            (labels, weights), classes = targets, output.logits.shape[-1]
            if classes < wanted:
                raise UserError(f"model.classes={classes}: must be at least {wanted}, the classes of the data")
            nats = label_nats(output.logits, labels)
            correct = (jnp.argmax(output.logits, axis=-1) == labels).astype(jnp.float32)
            total, weight = jnp.sum(nats * weights), jnp.sum(weights)
            return Loss(total, weight, {"nats": total, "correct": jnp.sum(correct * weights), "rows": weight})

        def prepare(batch: Mapping[str, jax.Array], keys: jax.Array) -> tuple[Inputs, tuple[jax.Array, jax.Array]]:
            there = (batch["label"] >= 0).astype(jnp.float32)
            return inputs_of(batch), (jnp.maximum(batch["label"], 0), batch["weight"] * there)

        return Task(prepare, loss)

    def metrics(self, loss):
        rows = jnp.where(loss.sums["rows"] > 0, loss.sums["rows"], 1.0)
        return {"loss": loss.sums["nats"] / rows, "accuracy": loss.sums["correct"] / rows}

    def baselines(self, dataset, split):
        """The majority, what the data knows of itself, and for single rows of tokens naive Bayes on 1, 2 and 3 tokens.

        The bar is the data's own; without one naive Bayes on single tokens; else the majority.
        """
        if not dataset.classes:
            return ()
        there, own = dataset.description.arrays, dataset.baselines(split)
        tokens = "tokens" in there and "tokens2" not in there
        bayes = [model for n in (1, 2, 3) if tokens and (model := naive_bayes(dataset, split, n))]
        found = (majority(dataset, split), *own, *bayes)
        bar = next((model for model in own if model.bar), bayes[0] if bayes else found[0])
        return tuple(dataclasses.replace(model, bar=model is bar) for model in found)


@dataclasses.dataclass(frozen=True)
class WeightedClassification(Classification):
    """`weight` times the cross-entropy, for models whose parts add losses of a size of their own; the `loss` that is
    reported is the cross-entropy itself."""

    weight: float = 20.0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "weight")

    def build(self, description):
        task = super().build(description)

        def loss(output: Output, targets: tuple[jax.Array, jax.Array]) -> Loss:
            found = task.loss(output, targets)
            return dataclasses.replace(found, total=self.weight * found.total)

        return task._replace(loss=loss)


READ = ("tokens", "positions", "segments", "image", "tokens2", "segments2")
OWN = ("label", "weight")


def inputs_of(batch: Mapping[str, jax.Array]) -> Inputs:
    """What a model of rows reads of a batch. Raises UserError for an array that nobody would read."""
    strange = [name for name in batch if name not in (*READ, *OWN)]
    if strange:
        raise UserError(f"the data has {', '.join(strange)}, which Classification does not read; it reads "
                        f"{', '.join((*READ, *OWN))}")  # fmt: skip
    tokens2, segments2 = batch.get("tokens2"), batch.get("segments2")
    return Inputs(
        tokens=batch.get("tokens"),
        positions=batch.get("positions"),
        segments=batch.get("segments"),
        images=batch.get("image"),
        second=None if tokens2 is None else Inputs(tokens=tokens2, segments=segments2),
    )


def label_nats(logits: Float[Array, "B C"], labels: Int[Array, "B"]) -> Float[Array, "B"]:
    """-log softmax(logits)[label], float32. The label's logit is picked by comparison, whose gradient is dense."""
    logits = logits.astype(jnp.float32)
    picked = labels[:, None] == jnp.arange(logits.shape[-1], dtype=labels.dtype)[None]
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(picked, logits, 0.0), axis=-1)
