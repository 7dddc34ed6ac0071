"""Retrieval of the other rendering of a text, with its neighbours as hard negatives.

Two English Bibles say the same verse by verse in other words (`BibleVerses(target="kjv")`). A verse of the one is to be
found in the other: among all that are asked, and among those of its own chapter, which speak of the same people and
things in the same style, so that neither topic nor genre tells them apart. Vectors are those that MTEB is given
(`mteb.TextEncoder`), similarity is the cosine.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from arch.models.base import Bidirectional, Causal, Seq2Seq, TextEmbedding
from arch.spec import UserError
from experiments.suites.base import Score
from experiments.suites.mteb import TextEncoder
from experiments.suites.retrieval import ndcg
from train.data.baselines import Baseline
from train.data.bible import BibleVerses
from train.data.parallel import ParallelSource
from train.run import Run


@dataclasses.dataclass(frozen=True)
class PairRetrieval(Score):
    """`pair_ndcg10_score` of each first text among the second ones of all `rows` pairs, and `neighbour_accuracy`: how
    often its own is nearer than every other of its document. Both without any training for it.

    `pairs`: of which those of whole documents of the split that is scored are taken, one document after another; the
    last is cut off. The model's tokenizer reads both sides.
    """

    kinds: ClassVar[tuple[type, ...]] = (Causal, Bidirectional, TextEmbedding)

    pairs: ParallelSource = BibleVerses(target="kjv")

    def refusal(self, run: Run) -> str:
        if isinstance(run.model, Seq2Seq):
            return f"PairRetrieval embeds a text by itself, and {type(run.model).__name__} reads a source"
        data = run.data.describe()
        fits = data.text or "tokens2" in data.arrays
        told = f"PairRetrieval reads text by the tokenizer of the data, and {type(run.data).__name__} is no text"
        return super().refusal(run) or ("" if fits else told)

    def measure(self, asked):
        encoder = TextEncoder(asked.opened, asked.batch)
        one, other, documents = self.texts(asked.split)
        return self.scored(unit(encoder.encode(one)), unit(encoder.encode(other)), documents)

    def baselines(self, dataset, split):
        """Counted words of each text as its vector: how far shared words alone lead (0.943 and 0.941 on 1,000 verses of
        the test split)."""
        one, other, documents = self.texts(split)
        sides = [[text.lower().split() for text in side] for side in (one, other)]
        known = {word: place for place, word in enumerate(dict.fromkeys(itertools.chain(*sides[0], *sides[1])))}
        first, second = (
            np.stack([np.bincount([known[word] for word in text], minlength=len(known)) for text in side])
            for side in sides
        )
        return (Baseline("shared words", self.scored(unit(first), unit(second), documents)),)

    def texts(self, split: str) -> tuple[list[str], list[str], list[str]]:
        """Both sides of the pairs, and the document that each is from.

        Raises:
          UserError: a split that they do not have, or pairs that tell of no documents.
        """
        name, corpus = type(self.pairs).__name__, self.pairs.build()
        if split not in self.pairs.splits:
            raise UserError(f"PairRetrieval.pairs: {name} has no split {split!r}, which is scored")
        if "document" not in corpus.corpus.features:
            raise UserError(f"PairRetrieval.pairs: {name} does not say which document a pair is from")
        found: dict[str, list[tuple[str, str, str]]] = {}
        for one, other, document in corpus.corpus.columns(split, corpus.source, corpus.target, "document"):
            found.setdefault(document, []).append((one, other, document))
        first, second, documents = zip(*itertools.islice(itertools.chain(*found.values()), self.rows), strict=True)
        return list(first), list(second), list(documents)

    def scored(self, one: np.ndarray, other: np.ndarray, documents: Sequence[str]) -> dict[str, float]:
        """Of unit vectors [n, D] of both sides."""
        similarity = one @ other.T
        near = nearest(similarity, documents)
        found = {"pair_ndcg10_score": ndcg(similarity)}
        return found if near is None else {**found, "neighbour_accuracy": near}


def nearest(similarity: Float[np.ndarray, "n n"], documents: Sequence[str]) -> float | None:
    """How often a row's own column is larger than each other of the same document, of the rows that have any; None: no
    row has. Ties count against it."""
    same = np.array(documents)[:, None] == np.array(documents)[None]
    rivals = np.where(same & ~np.eye(len(same), dtype=bool), similarity, -np.inf).max(axis=1)
    asked = rivals > -np.inf
    return float((np.diagonal(similarity) > rivals)[asked].mean()) if asked.any() else None


def unit(vectors: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Vectors [n, D] of length 1, float64."""
    found = np.asarray(vectors, np.float64)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
