"""Pairs of pieces of text: do they come from the same document?

Two-document matching on text that is at hand, for models that the Long Range Arena tests on citations (arXiv
2011.04006, section 2.2.3). Each document gives its first and second `length` tokens. Half of the documents keep their
pieces together, the others swap second pieces, so that every piece stands in exactly one pair and one side alone says
nothing about the label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, UserError, at_least
from train.data import cache
from train.data.bars import bars
from train.data.base import Data, Progress
from train.data.corpus import Source
from train.data.description import Description
from train.data.labelled import Documents, LabelledDataset, token_arrays
from train.data.rows import Batch
from train.data.sources import WikiLeads
from train.data.stream import streams
from train.data.tokenizers import Bytes, TokenizerSpec, Tokens

VERSION = 2  # raise it when the same text gives other pairs
NAMES = ("tokens", "segments", "tokens2", "segments2")


@dataclasses.dataclass(frozen=True)
class SameDocument(Data):
    """Label 1: both pieces are of one document. Documents of less than 2 * `length` tokens are left out.

    `seed` chooses which documents keep their pieces; all seeds of a study see the same pairs.
    """

    source: Source = WikiLeads()
    tokenizer: TokenizerSpec = Bytes()
    length: int = 128
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "length")
        yield from at_least(self, 0, "seed")

    def describe(self) -> Description:
        description = Description(token_arrays(self.length, NAMES), self.source.splits, classes=2)
        return self.tokenizer.describe().into(description)

    def build(self, progress: Progress | None = None) -> LabelledDataset:
        """Raises UserError if a split has fewer than four documents that are long enough."""
        with bars(progress) as report:
            tokenizer = self.tokenizer.build(self.source, report)
            key, found = streams(self.source, tokenizer, report)
        rows = {}
        for index, split in enumerate(self.source.splits):
            documents = Documents(found[split].tokens, found[split].ends)
            try:
                rows[split] = PairRows(documents, self.length, np.random.default_rng((self.seed, index)))
            except UserError as error:
                raise UserError(f"{type(self.source).__name__}, split {split!r}: {error}") from None
        name = cache.digest("pairs", VERSION, key, self.length, self.seed)
        return LabelledDataset(rows, Tokens.of(tokenizer).into(self.describe()), name, tokenizer)


class PairRows:
    """Pairs of first and second pieces of documents that stand as [begin] text [end]."""

    def __init__(self, documents: Documents, length: int, rng: np.random.Generator):
        long_enough = np.flatnonzero(documents.ends - documents.starts - 2 >= 2 * length)
        if len(long_enough) < 4:
            raise UserError(f"{len(long_enough)} documents have {2 * length} tokens; give longer ones or lower length")
        self.documents, self.length = documents, length
        self.first, self.second = long_enough, long_enough.copy()
        apart = rng.permutation(len(long_enough))[: len(long_enough) // 2]
        self.second[apart] = self.second[np.roll(apart, 1)]
        self.labels = (self.first == self.second).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> Batch:
        tokens, segments = self.documents.rows(self.first[indices], self.length, skip=1)
        tokens2, segments2 = self.documents.rows(self.second[indices], self.length, skip=1 + self.length)
        weight = np.ones(len(indices), np.float32)
        values = (tokens, segments, tokens2, segments2)
        return {**dict(zip(NAMES, values, strict=True)), "label": self.labels[indices], "weight": weight}
