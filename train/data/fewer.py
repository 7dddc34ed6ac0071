"""A share of the training rows: how much a model learns from less, with everything else as it was."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, SpecError, above
from train.data import cache
from train.data.base import Data, Dataset, Progress
from train.data.description import Description
from train.data.rows import Batch, Rows

VERSION = 2  # raise it when the same data give other rows


@dataclasses.dataclass(frozen=True)
class Fewer(Data):
    """`data` with a `share` of its training rows, one at least, evenly spread: labelled rows often lie class by class.
    Tokenizer and the other splits are those of all of it."""

    data: Data
    share: float

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "share")
        if self.share > 1:
            yield Problem("share", self.share, "must be at most 1")

    def describe(self) -> Description:
        return self.data.describe()

    def conflicts(self) -> Iterator[SpecError]:
        yield from self.data.conflicts()

    def build(self, progress: Progress | None = None) -> Dataset:
        whole = self.data.build(progress)
        fewer = copy.copy(whole)
        rows = whole.rows["train"]
        fewer.rows = {**whole.rows, "train": Spread(rows, max(round(self.share * len(rows)), 1))}
        fewer.fingerprint = cache.digest("fewer", VERSION, whole.fingerprint, self.share)
        return fewer


class Spread:
    """`count` of `rows`, at equal distances, or all if there are fewer."""

    def __init__(self, rows: Rows, count: int):
        self.rows, self.count = rows, min(count, len(rows))

    def __len__(self) -> int:
        return self.count

    def gather(self, indices: np.ndarray) -> Batch:
        return self.rows.gather(np.asarray(indices, np.int64) * len(self.rows) // self.count)
