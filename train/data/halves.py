"""Pairs of halves of texts: do they belong together? A task of two texts on any text, with hard negatives.

The longest document of each row, without special tokens, is cut in the middle; the end of its first half stands before
the beginning of its own second half, or of that of the next row's document, which is near it in the source and may be
of the same text. Both pieces of a pair have as many tokens as the shorter of the two documents allows, whatever the
label, so that neither the length nor one piece alone says anything about it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, SpecError, UserError, at_least
from train.data import cache
from train.data.base import Data, Dataset, Progress
from train.data.description import Description
from train.data.labelled import Documents, token_arrays
from train.data.replaced import BLOCK, COUNTED, no_text
from train.data.rows import Batch, Rows

VERSION = 1  # raise it when the same rows give other pairs
NAMES = ("tokens", "segments", "tokens2", "segments2")
LEAST = 4
"""Tokens of a piece."""


@dataclasses.dataclass(frozen=True)
class Halves(Data):
    """Pairs made of rows of `data`, text: `tokens`, `segments`, `tokens2` and `segments2`, int32 [T // 2] for rows that
    models read T tokens of, and `label`, 1 for what belongs together. `seed` draws the labels."""

    data: Data
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "seed")

    def describe(self) -> Description:
        return described(self.data.describe())

    def conflicts(self) -> Iterator[SpecError]:
        yield from self.data.conflicts()
        if why := no_text(self.data.describe()):
            yield self.invalid("data", why)

    def build(self, progress: Progress | None = None) -> Dataset:
        """Raises UserError for a split of fewer than two texts that are long enough."""
        for error in self.conflicts():
            raise error
        return HalvesDataset(self.data.build(progress), self.seed)


def described(data: Description) -> Description:
    """Of pairs made of `data`."""
    length = (data.arrays["tokens"][0][0] - 1) // 2
    return dataclasses.replace(data, arrays=token_arrays(length, NAMES), classes=2, text=False)


class HalvesDataset(Dataset):
    """Pairs of halves of the texts of `dataset`; of very large splits the first ones."""

    def __init__(self, dataset: Dataset, seed: int = 0):
        self.tokenizer = getattr(dataset, "tokenizer", None)
        description = described(dataset.description)
        length = description.arrays["tokens"][0][0]
        rows = {}
        for split, plain in dataset.rows.items():
            texts = _texts(plain, dataset)
            if len(texts) < 2:
                raise UserError(f"Halves: split {split!r} has {len(texts)} rows with a text of at least "
                                f"{2 * LEAST} tokens; it must have two")  # fmt: skip
            labels = np.random.default_rng((seed, zlib.crc32(split.encode()))).integers(0, 2, len(texts))
            rows[split] = HalvesRows(texts, labels, length)
        key = cache.digest("halves", VERSION, dataset.fingerprint, seed)
        super().__init__(rows, description, key, dataset.order)


class HalvesRows:
    """Pair i: the end of the first half of text i, and the beginning of the second half of text i, or of i + 1."""

    def __init__(self, texts: Documents, labels: np.ndarray, length: int):
        self.texts, self.labels, self.length = texts, labels.astype(np.int32), length

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> Batch:
        indices = np.asarray(indices, np.int64)
        after = (indices + 1) % len(self)
        sizes = self.texts.ends - self.texts.starts
        half = np.minimum(np.minimum(sizes[indices], sizes[after]) // 2, self.length)
        labels = self.labels[indices]
        other = np.where(labels == 1, indices, after)
        middle = self.texts.starts + sizes // 2
        found: Batch = {}
        for names, start in ((NAMES[:2], middle[indices] - half), (NAMES[2:], middle[other])):
            found |= dict(zip(names, self._cut(start, half), strict=True))
        return {**found, "label": labels, "weight": np.ones(len(indices), np.float32)}

    def _cut(self, start: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """tokens and segments [b, length] of `size` tokens from `start` on."""
        place = np.arange(self.length)[None]
        there = place < size[:, None]
        tokens = self.texts.tokens[np.where(there, start[:, None] + place, 0)]
        return np.where(there, tokens, 0).astype(np.int32), there.astype(np.int32)


def _texts(rows: Rows, dataset: Dataset) -> Documents:
    """The longest document of each row without special tokens, of those that are long enough."""
    width = dataset.description.arrays["tokens"][0][0]
    most, step = min(len(rows), max(COUNTED // width, 1)), max(BLOCK // width, 1)
    tokens, sizes = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for first in range(0, most, step):
        batch = rows.gather(np.arange(first, min(first + step, most)))
        own = np.where(np.isin(batch["tokens"], dataset.description.special), 0, batch["segments"])
        own[:, -1] = 0  # models read all tokens but the last
        documents = np.arange(1, own.max(initial=1) + 1)
        longest = documents[np.stack([(own == one).sum(axis=1) for one in documents]).argmax(axis=0)]
        own = own == longest[:, None]
        own &= (own.sum(axis=1) >= 2 * LEAST)[:, None]
        tokens.append(batch["tokens"][own])
        sizes.append(own.sum(axis=1)[own.any(axis=1)])
    return Documents(np.concatenate(tokens), np.cumsum(np.concatenate(sizes)))
