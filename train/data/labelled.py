"""Labelled token rows: documents of any length as padded rows, one a row, and pairs of them.

A batch has `tokens` and `segments`, int32 [b, T] (segment 1 is text, 0 is padding), for pairs also `tokens2` and
`segments2`, `label`, int32 [b], and `weight`, float32 [b]: 1, and 0 for rows that fill up a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from train.data.base import Dataset, Tokenizer
from train.data.description import Description, Shape
from train.data.rows import Batch, Rows


class Documents:
    """Token sequences, flat in one array: document i is `tokens[ends[i - 1]:ends[i]]`."""

    def __init__(self, tokens: np.ndarray, ends: np.ndarray):
        self.tokens, self.ends = tokens, ends
        self.starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1]])

    def chosen(self, which: np.ndarray) -> Documents:
        """Those numbered `which` [n]."""
        some = copy.copy(self)
        some.starts, some.ends = self.starts[which], self.ends[which]
        return some

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int] | np.ndarray], vocab: int) -> Documents:
        """The documents that hold `sequences` of tokens below `vocab`."""
        arrays = [np.asarray(sequence, np.min_scalar_type(vocab - 1)) for sequence in sequences]
        ends = np.cumsum([len(array) for array in arrays], dtype=np.int64)
        return cls(np.concatenate(arrays), ends)

    def rows(self, indices: np.ndarray, length: int, skip: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """tokens and segments, int32 [b, length], of what follows the first `skip` tokens of documents `indices`."""
        start = self.starts[indices] + skip
        place = np.arange(length)[None]
        there = place < (self.ends[indices] - start)[:, None]
        tokens = np.asarray(self.tokens)[np.where(there, start[:, None] + place, 0)]
        return np.where(there, tokens, 0).astype(np.int32), there.astype(np.int32)

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.tokens.npy", self.tokens)
        np.save(folder / f"{name}.ends.npy", self.ends)

    @classmethod
    def load(cls, folder: Path, name: str) -> Documents:
        """What `save` wrote; the tokens through a memory map."""
        return cls(np.load(folder / f"{name}.tokens.npy", mmap_mode="r"), np.load(folder / f"{name}.ends.npy"))


class LabelledRows:
    """Documents with their labels, cut off at `length` tokens."""

    def __init__(self, documents: Documents, labels: np.ndarray, length: int):
        self.documents, self.labels, self.length = documents, labels.astype(np.int32), length

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> Batch:
        tokens, segments = self.documents.rows(indices, self.length)
        weight = np.ones(len(indices), np.float32)
        return {"tokens": tokens, "segments": segments, "label": self.labels[indices], "weight": weight}


class LabelledDataset(Dataset):
    """Rows with labels. `tokenizer` made their tokens; None where none did."""

    def __init__(
        self, rows: Mapping[str, Rows], description: Description, fingerprint: str, tokenizer: Tokenizer | None = None
    ):
        super().__init__(rows, description, fingerprint)
        self.tokenizer = tokenizer


def token_arrays(length: int, names: Sequence[str] = ("tokens", "segments")) -> dict[str, tuple[Shape, type]]:
    """Name -> (shape of a row, dtype) of the arrays in a batch of labelled rows."""
    arrays: dict[str, tuple[Shape, type]] = dict.fromkeys(names, ((length,), np.int32))
    return {**arrays, "label": ((), np.int32), "weight": ((), np.float32)}
