"""Retrieval: the second half of a text found by its first half, among those of all rows (nDCG@10).

An embedding is the mean of the last hidden states over a text's tokens, or that of its last token; similarity is the
cosine. With one relevant document the gain is 1 / log2(1 + rank) up to rank 10, else 0 (Jarvelin and Kekalainen 2002).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float

from arch.models.base import Bidirectional, Causal, Inputs, Seq2Seq
from arch.spec import Problem, UserError, one_of
from experiments.suites.base import Asked, Score
from train.run import Run

Pooled = Literal["family", "mean", "last"]


def ndcg(similarity: Float[np.ndarray, "n n"], at: int = 10) -> float:
    """nDCG@`at` of queries (rows) whose one relevant document is that of the same number. Ties count against it."""
    own = np.diagonal(similarity)[:, None]
    others = ~np.eye(len(similarity), dtype=bool)
    rank = 1 + ((similarity >= own) & others).sum(axis=1)
    return float(np.where(rank <= at, 1.0 / np.log2(1.0 + rank), 0.0).mean())


@dataclasses.dataclass(frozen=True)
class Retrieval(Score):
    """`retrieval_ndcg10_score` without any training for it. `pooled` "family": the mean for an encoder, the last token
    for a decoder, whose last token alone has seen the whole text."""

    kinds: ClassVar[tuple[type, ...]] = (Causal, Bidirectional)

    pooled: Pooled = "family"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from one_of(self, "pooled", get_args(Pooled))

    def refusal(self, run: Run) -> str:
        if isinstance(run.model, Seq2Seq):
            return f"Retrieval embeds a text by itself, and {type(run.model).__name__} reads a source"
        return super().refusal(run)

    def measure(self, asked):
        tokens, segments = asked.rows["tokens"][:, :-1], asked.rows["segments"][:, :-1]
        tokens = tokens[(segments > 0).all(axis=1)]
        if len(tokens) < 2:
            raise UserError(f"Retrieval halves rows that are full of text, which {len(tokens)} of the first "
                            f"{len(segments)} of {asked.split} are: make rows shorter, or pack them")  # fmt: skip
        half = tokens.shape[1] // 2
        queries, documents = (self.embedded(asked, tokens[:, part]) for part in (slice(0, half), slice(half, 2 * half)))
        return {"retrieval_ndcg10_score": ndcg(queries @ documents.T)}

    def embedded(self, asked: Asked, tokens: np.ndarray) -> Float[np.ndarray, "n D"]:
        """Unit vectors of texts [n, T] without padding."""
        last = self.pooled == "last" or (self.pooled == "family" and isinstance(asked.run.model, Causal))
        found = []
        for _, out in asked.outputs(Inputs(tokens, None, np.ones_like(tokens))):
            hidden = np.asarray(out.hidden, np.float64)
            found.append(hidden[:, -1] if last else hidden.mean(axis=1))
        vectors = np.concatenate(found)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
