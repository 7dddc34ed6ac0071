"""A class-incremental stream with rehearsal: one class after another, and of every class some rows all along.

With it the labelled rows that it is tried on: the label says which tokens are frequent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, between
from train.data.base import Data, Dataset
from train.data.description import Description
from train.data.order import Label, Order, sorted_by, values


@dataclasses.dataclass(frozen=True)
class Rehearsed(Order):
    """All rows of a class, then those of the next; a share of all rows, drawn at random, is spread evenly among them.

    `share` 0 is a class-incremental stream without rehearsal.
    """

    share: float = 0.25

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 0.9, "share")

    @property
    def needs(self):
        return Label.needs

    def indices(self, rows, epoch, seed):
        order = sorted_by(values(rows, Label()), epoch, seed)
        rng = np.random.default_rng((seed, epoch, 1))
        apart = rng.random(len(order)) < self.share
        spread, stream = rng.permutation(order[apart]), order[~apart]
        places = np.concatenate([np.linspace(0, 1, len(part), endpoint=False) for part in (stream, spread)])
        return np.concatenate([stream, spread])[np.argsort(places, kind="stable")]


@dataclasses.dataclass(frozen=True)
class Frequencies(Data):
    """Rows of `length` tokens below `classes`: half are the label, the others any."""

    classes: int = 4
    length: int = 8
    rows: int = 48
    held_out: int = 20

    def describe(self):
        row, one = ((self.length,), np.int32), ()
        arrays = {"tokens": row, "segments": row, "label": (one, np.int32), "weight": (one, np.float32)}
        return Description(arrays, vocab=self.classes, classes=self.classes)

    def build(self, progress=None):
        splits = {"train": self.rows, "validation": self.held_out}
        rows = {split: Labelled(self, count, seed) for seed, (split, count) in enumerate(splits.items())}
        return Dataset(rows, self.describe(), f"frequencies {self}")


class Labelled:
    """The rows of a `Frequencies`."""

    def __init__(self, spec: Frequencies, count: int, seed: int):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, spec.classes, count).astype(np.int32)
        any_token = rng.integers(0, spec.classes, (count, spec.length))
        own = rng.random((count, spec.length)) < 0.5
        self.tokens = np.where(own, self.labels[:, None], any_token).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices):
        tokens = self.tokens[indices]
        ones = np.ones(len(indices), np.float32)
        return {"tokens": tokens, "segments": np.ones_like(tokens), "label": self.labels[indices], "weight": ones}
