"""Replaced-token detection: text of which some tokens are others, and each token's label says which (arXiv 2003.10555).

ELECTRA's generator is here the unigram distribution of the training rows (its section 3.1 has that, too): nothing is to
be learned from a token alone, all from whether it suits those around it. A replacement that is the token itself counts
as not replaced. What is drawn depends on the row of the split and the seed alone.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from arch.spec import Problem, SpecError, UserError, at_least, between
from train.data import cache
from train.data.base import Data, Dataset, Progress
from train.data.description import Description
from train.data.rows import Batch, Rows

VERSION = 1  # raise it when the same rows are replaced otherwise
COUNTED = 1 << 25
"""Tokens of the training rows that the distribution is counted on, at most: the first ones."""
BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Replaced(Data):
    """Rows of `data`, text, with a share `rate` of their tokens replaced.

    A row is what language models read of it, the first T of its T + 1 tokens, with `labels`, int32 [T], 1 where
    replaced, and `weights`, float32 [T], 1 for the tokens that may be: neither padding nor special tokens
    (`Description.special`).
    """

    data: Data
    rate: float = 0.15
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 1, "rate")
        yield from at_least(self, 0, "seed")

    def describe(self) -> Description:
        return described(self.data.describe())

    def conflicts(self) -> Iterator[SpecError]:
        yield from self.data.conflicts()
        if why := no_text(self.data.describe()):
            yield self.invalid("data", why)

    def build(self, progress: Progress | None = None) -> Dataset:
        """Raises UserError for training rows without a token that may be replaced."""
        for error in self.conflicts():
            raise error
        return ReplacedDataset(self.data.build(progress), self.rate, self.seed)


def no_text(data: Description) -> str:
    """Why such data are no rows of text, in one line; "" if they are."""
    there = data.arrays
    if {"source", "label"} & set(there) or not {"tokens", "segments"} <= set(there):
        return f"must have rows of text: tokens and segments without source or label; it has {', '.join(there)}"
    return ""


def described(data: Description) -> Description:
    """Of `data` with tokens replaced."""
    (length,) = data.arrays["tokens"][0]
    shape = (length - 1,)
    names = ("tokens", "segments", *(["positions"] if "positions" in data.arrays else []), "labels")
    arrays = {**dict.fromkeys(names, (shape, np.int32)), "weights": (shape, np.float32)}
    return dataclasses.replace(data, arrays=arrays, classes=2, text=False)


class ReplacedDataset(Dataset):
    """`dataset` with tokens replaced. `unigram`: float64 [V], what replacements are drawn from."""

    def __init__(self, dataset: Dataset, rate: float, seed: int = 0):
        self.unigram = unigram(dataset)
        self.tokenizer = getattr(dataset, "tokenizer", None)
        special = dataset.description.special
        rows = {
            split: ReplacedRows(rows, self.unigram, special, rate, (seed, zlib.crc32(split.encode())))
            for split, rows in dataset.rows.items()
        }
        key = cache.digest("replaced", VERSION, dataset.fingerprint, rate, seed)
        super().__init__(rows, described(dataset.description), key, dataset.order)


class ReplacedRows:
    """Rows with each token that may be replaced so with probability `rate`, by a draw from `unigram`."""

    def __init__(
        self,
        rows: Rows,
        unigram: Float[np.ndarray, "V"],
        special: tuple[int, ...],
        rate: float,
        seed: tuple[int, ...],
    ):
        self.rows, self.special, self.rate, self.seed = rows, special, rate, seed
        self.below = np.cumsum(unigram)
        self.below[-1] = 1.0  # else rounding leaves a draw that is no token's

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: np.ndarray) -> Batch:
        read = {name: array[:, :-1] for name, array in self.rows.gather(indices).items()}
        tokens, segments = read["tokens"], read["segments"]
        may = eligible(tokens, segments, self.special)
        draws = np.stack([np.random.default_rng((*self.seed, int(row))).random((2, tokens.shape[1])) for row in indices]
                         ) if len(indices) else np.zeros((0, 2, tokens.shape[1]))  # fmt: skip
        other = np.searchsorted(self.below, draws[:, 1], side="right").astype(np.int32)
        seen = np.where(may & (draws[:, 0] < self.rate), other, tokens)
        positions = {"positions": read["positions"]} if "positions" in read else {}
        labels, weights = (seen != tokens).astype(np.int32), may.astype(np.float32)
        return {"tokens": seen, "segments": segments, **positions, "labels": labels, "weights": weights}


def eligible(tokens: np.ndarray, segments: np.ndarray, special: tuple[int, ...]) -> np.ndarray:
    """Bool, which tokens may be replaced."""
    return (segments > 0) & ~np.isin(tokens, special)


def unigram(dataset: Dataset) -> Float[np.ndarray, "V"]:
    """The distribution of the tokens of the training rows that may be replaced. Raises UserError if there are none."""
    rows, vocab = dataset.rows["train"], dataset.vocab
    width = dataset.description.arrays["tokens"][0][0]
    counts, step = np.zeros(vocab, np.int64), max(BLOCK // width, 1)
    most = min(len(rows), max(COUNTED // width, 1))
    for first in range(0, most, step):
        batch = rows.gather(np.arange(first, min(first + step, most)))
        may = eligible(batch["tokens"], batch["segments"], dataset.description.special)
        counts += np.bincount(batch["tokens"][may], minlength=vocab)
    if not counts.sum():
        raise UserError("Replaced: the training rows have no token that may be replaced")
    return counts / counts.sum()
