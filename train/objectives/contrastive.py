"""In-batch contrastive learning: the two texts of a pair against all others of the batch.

InfoNCE (arXiv 1807.03748, eq. 4) as used for retrieval (E5, arXiv 2212.03533, eq. 1), with s the cosine of two vectors:

    L_i = -log exp(s(a_i, b_i) / t) / sum_j exp(s(a_i, b_j) / t)

It depends on all rows of a batch together: on the whole batch however many devices share it, and with `accumulate` on
each micro-batch by itself. An evaluation takes batches as large as a micro-batch, and the loss grows with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.models.base import Inputs, Output, TextEmbedding
from arch.sharding import couple_rows
from arch.spec import Problem, above
from train.objectives.base import Loss, Objective, Task


@dataclasses.dataclass(frozen=True)
class Contrastive(Objective):
    """Finds the second text of each pair among those of the batch.

    A batch has `tokens`, `segments`, `tokens2`, `segments2`, int32 [B, T], and may have `weight`, float32 [B], 0 for
    rows that fill up a batch, which are no candidates either, and `label`, int32 [B]: pairs of another label than 1 do
    not belong together; their second texts are candidates, and they themselves are not scored. Reported are `loss`,
    nats a pair, and `accuracy`, the share of pairs whose second text is the nearest.

    `temperature`: t.
    """

    temperature: float = 0.05

    demands: ClassVar[tuple[type, ...]] = (TextEmbedding,)

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "temperature")

    def needs(self, description):
        return {field: told for field, told in super().needs(description).items() if field != "classes"}

    def build(self, description):
        def prepare(batch, keys):
            second = Inputs(batch["tokens2"], segments=batch.get("segments2"))
            there = batch.get("weight", jnp.ones(batch["tokens"].shape[:1], jnp.float32))
            asked = there * (batch["label"] == 1).astype(jnp.float32) if "label" in batch else there
            return Inputs(batch["tokens"], segments=batch.get("segments"), second=second), (asked, there)

        return Task(prepare, self.loss)

    def loss(self, output: Output, targets: tuple[jax.Array, jax.Array]) -> Loss:
        """The sums over all pairs that are scored. Their weight is that of the pair."""
        couple_rows()
        asked, there = targets
        nats, first = in_batch(output.logits, there > 0, self.temperature)
        total, weight = jnp.sum(nats * asked), jnp.sum(asked)
        return Loss(total, weight, {"nats": total, "found": jnp.sum(first * asked), "pairs": weight})

    def metrics(self, loss):
        pairs = jnp.where(loss.sums["pairs"] > 0, loss.sums["pairs"], 1.0)
        return {"loss": loss.sums["nats"] / pairs, "accuracy": loss.sums["found"] / pairs}


def in_batch(
    vectors_B2D: Float[Array, "B 2 D"], candidates_B: jax.Array, temperature: float | jax.Array
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Nats of each pair among the second texts that are `candidates` (bool [B]), and 1 where its score is largest."""
    length = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(vectors_B2D), axis=-1, keepdims=True), 1e-12))
    unit = vectors_B2D / length
    scores_BB = jnp.einsum("id,jd->ij", unit[:, 0], unit[:, 1]) / temperature
    own = jnp.eye(scores_BB.shape[0], dtype=bool)
    scores_BB = jnp.where(candidates_B[None] | own, scores_BB, -jnp.inf)
    right = jnp.sum(jnp.where(own, scores_BB, 0.0), axis=1)
    nats = jax.nn.logsumexp(scores_BB, axis=1) - right
    return nats, (jnp.argmax(scores_BB, axis=1) == jnp.arange(scores_BB.shape[0])).astype(jnp.float32)
