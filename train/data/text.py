"""Text for language models: a source of documents, a tokenizer, and rows of one length.

The rows are plain arrays; which loss is taken over them, and over which of their tokens, is the objective's business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from arch.spec import Problem, at_least
from train.data import cache
from train.data.bars import bars
from train.data.base import Data, Dataset, Progress, Tokenizer
from train.data.corpus import Source
from train.data.description import Description
from train.data.packing import PackedRows, Plan, plan_packed, plan_single
from train.data.sources import WikiLeads
from train.data.stream import Stream, streams
from train.data.tokenizers import Bytes, TokenizerSpec, Tokens


@dataclasses.dataclass(frozen=True)
class Text(Data):
    """Documents as [bos] text [eos], packed into rows of `length` + 1 tokens.

    `pack` False gives every document a row of its own, cut off at the end of the row.
    """

    source: Source = WikiLeads()
    tokenizer: TokenizerSpec = Bytes()
    length: int = 256
    pack: bool = True

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "length")

    def describe(self) -> Description:
        arrays = dict.fromkeys(("tokens", "segments", "positions"), ((self.length + 1,), np.int32))
        return self.tokenizer.describe().into(Description(arrays, self.source.splits, text=True))

    def build(self, progress: Progress | None = None) -> TextDataset:
        with bars(progress) as report:
            tokenizer = self.tokenizer.build(self.source, report)
            key, found = streams(self.source, tokenizer, report)
        description = Tokens.of(tokenizer).into(self.describe())
        plan = plan_packed if self.pack else plan_single
        plans = {split: plan(stream.ends, self.length + 1) for split, stream in found.items()}
        return TextDataset(found, plans, tokenizer, description, cache.digest(key, self.length, self.pack))


@dataclasses.dataclass(frozen=True)
class Stats:
    """What a split holds: documents, their text in bytes, tokens with bos and eos, rows, and how full the rows are."""

    documents: int
    text_bytes: int
    tokens: int
    rows: int
    efficiency: float


class TextDataset(Dataset):
    """Rows of tokens. Batches hold int32 [b, length + 1] arrays: tokens, segments (0: padding) and positions."""

    def __init__(
        self,
        found: Mapping[str, Stream],
        plans: Mapping[str, Plan],
        tokenizer: Tokenizer,
        description: Description,
        fingerprint: str,
    ):
        self.tokenizer = tokenizer
        rows = {split: PackedRows(stream.tokens, plans[split]) for split, stream in found.items()}
        self.stats = {
            split: Stats(len(s.ends), s.text_bytes, len(s.tokens), len(rows[split]), plans[split].efficiency)
            for split, s in found.items()
        }
        super().__init__(rows, description, fingerprint)
