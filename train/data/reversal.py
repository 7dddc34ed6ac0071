"""A task for encoder-decoders that needs no text: a row of random tokens, to be repeated from its end.

It can be learnt to the last token, and only through the source: a first check of any sequence-to-sequence model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, at_least
from train.data.base import Data, Dataset
from train.data.description import Description


@dataclasses.dataclass(frozen=True)
class Reversed(Data):
    """Sources of 2 to `length` random tokens, 1 to `vocab` - 1; the target is token 0, then the source from its end.

    `rows` to train on and `held_out` to validate on; rows are one pair each.
    """

    length: int = 8
    vocab: int = 16
    rows: int = 32
    held_out: int = 10

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 2, "length", "vocab")
        yield from at_least(self, 1, "rows", "held_out")

    def describe(self):
        source, target = ((self.length,), np.int32), ((self.length + 1,), np.int32)
        arrays = {"source": source, "source_segments": source, "tokens": target, "segments": target}
        return Description(arrays, vocab=self.vocab, source_vocab=self.vocab)

    def build(self, progress=None):
        splits = {"train": self.rows, "validation": self.held_out}
        rows = {split: Pairs(self, count, seed) for seed, (split, count) in enumerate(splits.items())}
        return Dataset(rows, self.describe(), f"reversed {self}")


class Pairs:
    """The rows of a `Reversed`."""

    def __init__(self, spec: Reversed, count: int, seed: int):
        rng = np.random.default_rng(seed)
        length = rng.integers(2, spec.length + 1, (count, 1))
        there = np.arange(spec.length)[None] < length
        source = rng.integers(1, spec.vocab, (count, spec.length)) * there
        back = np.take_along_axis(source, np.maximum(length - 1 - np.arange(spec.length)[None], 0), axis=1) * there
        first = np.ones((count, 1))
        arrays = {
            "source": source,
            "source_segments": there,
            "tokens": np.concatenate([0 * first, back], axis=1),
            "segments": np.concatenate([first, there], axis=1),
        }
        self.arrays = {name: array.astype(np.int32) for name, array in arrays.items()}

    def __len__(self) -> int:
        return len(self.arrays["tokens"])

    def gather(self, indices):
        return {name: array[indices] for name, array in self.arrays.items()}
