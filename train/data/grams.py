"""Counts of neighbouring tokens in rows: each target with the one or two tokens before it in its piece.

A piece is what a model reads as one text: a run of one segment in a row. Rows of packed documents are read in the order
of their documents, any others in their own order, some millions of tokens at a time.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from train.data.packing import PackedRows
from train.data.rows import Rows

BLOCK = 1 << 22
DENSE = 8  # a table of up to so many places for each target is faster than sorting


@dataclasses.dataclass(frozen=True)
class Grams:
    """How often each gram of `order` tokens occurs, in order of the codes.

    Attributes:
      codes: int64 [grams]. Token a before b before c is (a * vocab + b) * vocab + c; of a triple a is `vocab` where the
        piece begins with b. Every target has one token before it.
      counts: int64 [grams].
      vocab: V, tokens are below it.
      order: tokens of a gram.
    """

    codes: np.ndarray
    counts: np.ndarray
    vocab: int
    order: int

    @classmethod
    def joined(cls, parts: Sequence[Grams]) -> Grams:
        """The counts of all parts together."""
        codes, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "counts"))
        return cls(*_added(codes, counts), parts[0].vocab, parts[0].order)

    @property
    def total(self) -> int:
        """How many targets were counted."""
        return int(self.counts.sum())

    def by_token(self) -> np.ndarray:
        """How often each token is the target, [vocab]."""
        return np.bincount(self.codes % self.vocab, self.counts, self.vocab)

    def last(self, length: int) -> Grams:
        """The counts of the last `length` tokens, of the grams that have so many."""
        if length == self.order:
            there = self.codes < self.vocab**length
            return Grams(self.codes[there], self.counts[there], self.vocab, length)
        return Grams(*_added(self.codes % self.vocab**length, self.counts), self.vocab, length)


def _added(codes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different codes in order, and the sum of the counts of each."""
    order = np.argsort(codes, kind="stable")  # merges what is sorted in parts
    codes = codes[order]
    edges = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[edges], np.add.reduceat(counts[order], edges) if len(edges) else counts


def target_count(rows: Rows) -> int:
    """The number of targets of all rows."""
    if isinstance(rows, PackedRows):
        return rows.plan.targets
    return sum(int(np.count_nonzero(place)) for _, place in _pieces(rows))


def count_grams(rows: Rows, vocab: int, order: int, edges: Sequence[int]) -> list[Grams]:
    """Counts targets edges[0]:edges[1], edges[1]:edges[2] and so on, each with the `order` - 1 tokens before it."""
    none = np.zeros(0, np.int64)
    parts = [[Grams(none, none, vocab, order)] for _ in edges[1:]]
    done = 0
    for tokens, place in _pieces(rows):
        codes = _codes(tokens, place, vocab, order)
        for part, (low, high) in zip(parts, itertools.pairwise(edges), strict=True):
            part.append(_count(codes[max(low - done, 0) : max(high - done, 0)], vocab, order))
        done += len(codes)
        if done >= edges[-1]:
            break
    return [Grams.joined(part) for part in parts]


def _count(codes: np.ndarray, vocab: int, order: int) -> Grams:
    if len(codes) and int(codes.max()) < DENSE * len(codes):
        table = np.bincount(codes)
        found = np.flatnonzero(table)
        return Grams(found, table[found], vocab, order)
    return Grams(*np.unique(codes, return_counts=True), vocab, order)


def _codes(tokens: np.ndarray, place: np.ndarray, vocab: int, order: int) -> np.ndarray:
    """The code [targets] of each target with what stands before it."""
    tokens, at = tokens.astype(np.int64), np.flatnonzero(place)
    codes = tokens[at - 1] * vocab + tokens[at]
    if order == 3:
        codes += np.where(place[at] > 1, tokens[at - 2], vocab) * vocab**2
    return codes


def _pieces(rows: Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The tokens [n] of whole pieces, and the place [n] of each in its piece, from 0."""
    if isinstance(rows, PackedRows):
        order = np.argsort(rows.plan.start)
        start, size = rows.plan.start[order], rows.plan.size[order]
        done = np.cumsum(size)
        edges = np.searchsorted(done, np.arange(0, size.sum(), BLOCK), "right")
        for low, high in itertools.pairwise([*edges.tolist(), len(size)]):
            count = size[low:high]
            place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            yield rows.tokens[np.repeat(start[low:high], count) + place], place
        return
    step = 1
    first = 0
    while first < len(rows):
        batch = rows.gather(np.arange(first, min(first + step, len(rows))))
        tokens, segments = batch["tokens"], batch["segments"]
        column = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        begins = np.diff(segments, axis=1, prepend=-1) != 0
        place = column - np.maximum.accumulate(np.where(begins, column, 0), axis=1)
        yield tokens[segments > 0], place[segments > 0]
        first, step = first + len(tokens), max(BLOCK // tokens.shape[1], 1)
