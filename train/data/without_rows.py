"""Data that has a tokenizer and no rows: that of a model which was trained elsewhere. Nothing is trained or
evaluated on it: a run with data of its own goes on from it, `Run(start=FromRun(folder), data=...)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from arch.spec import Problem, UserError, at_least
from train.data.base import Data, Dataset, Progress, Tokenizer
from train.data.description import Description
from train.data.tokenizers import TokenizerSpec, Tokens

NOTHING = "holds a model from elsewhere and no data; train from it: Run(start=FromRun(...), data=...)"


@dataclasses.dataclass(frozen=True)
class WithoutRows(Data):
    """Rows of `length` + 1 tokens, of which there are none.

    Attributes:
      vocab: V of the model.
      length: T.
      tokenizer: of prompts; None: none that can be opened here.
      pairs: whether there would be a source.
    """

    vocab: int
    length: int = 2048
    tokenizer: TokenizerSpec | None = None
    pairs: bool = False

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "vocab", "length")

    def describe(self) -> Description:
        names = ["tokens", "segments", *(() if self.pairs else ("positions",))]
        arrays = dict.fromkeys(names, ((self.length + 1,), np.int32))
        if self.pairs:
            arrays |= dict.fromkeys(("source", "source_segments"), ((self.length,), np.int32))
        text = self.tokenizer is not None and not self.pairs
        known = Description(arrays, (), self.vocab, self.vocab if self.pairs else None, text=text)
        return known if self.tokenizer is None else self.tokenizer.describe().into(known)

    def build(self, progress: Progress | None = None) -> DatasetWithoutRows:
        tokenizer = None if self.tokenizer is None else self.tokenizer.build()
        known = self.describe()
        return DatasetWithoutRows(known if tokenizer is None else Tokens.of(tokenizer).into(known), tokenizer)


class DatasetWithoutRows(Dataset):
    """What `WithoutRows` builds."""

    def __init__(self, description: Description, tokenizer: Tokenizer | None):
        super().__init__({}, description, "no rows")
        if tokenizer is not None:
            self.tokenizer = self.source_tokenizer = tokenizer

    def train(self, batch: int, seed: int, process_index: int = 0, process_count: int = 1) -> NoReturn:
        raise UserError(f"this run {NOTHING}")
