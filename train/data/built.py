"""A data set that is there already, as data: for runs that a program makes of what it holds in memory."""

from __future__ import annotations

import dataclasses

from train.data.base import Data, Dataset, Progress
from train.data.description import Description


@dataclasses.dataclass(frozen=True)
class Built(Data):
    """`dataset` as it is. Two of them are one data set if their fingerprints are. It cannot be written to a file."""

    dataset: Dataset

    def identity(self) -> str:
        """A name of the content."""
        return self.dataset.fingerprint

    def describe(self) -> Description:
        return self.dataset.description

    def build(self, progress: Progress | None = None) -> Dataset:
        return self.dataset
