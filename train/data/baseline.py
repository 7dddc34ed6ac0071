"""Baselines: token models that only count, in the bits per byte that a language model is measured in.

Unigram: p(b) = (c(b) + 1/2) / (N + V/2), the estimator of Krichevsky and Trofimov. Bigram: absolute discounting
interpolated with it (Ney, Essen and Kneser 1994),

    p(b | a) = max(c(a, b) - d, 0) / c(a) + d n(a) / c(a) p(b),

where n(a) is the number of different tokens seen after a, and p(b | a) = p(b) after an a that was never seen. The
discount d, and with it the weight of the unigram, is the one that predicts the last tenth of the training targets
best from the rest; all of them are then counted. The targets are those of the rows: every token but the first of each
document, eos too, and the bits are divided by the bytes of text that the targets stand for. Of very large training
data the first 34 million targets are counted, which is as much as a bigram model can use.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np

from train.data.packing import PackedRows

BLOCK = 1 << 22
MOST = 1 << 25
DENSE = 1 << 24  # up to so many pairs of tokens a table of all is faster than sorting
DISCOUNTS = np.linspace(0.02, 0.98, 49)


@dataclasses.dataclass(frozen=True)
class Baselines:
    """Bits per byte of both models on the validation targets, and the discount that was fitted."""

    unigram: float
    bigram: float
    discount: float


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often each pair of tokens occurs, coded as first * vocab + second, in order of the codes."""

    codes: np.ndarray
    counts: np.ndarray
    vocab: int

    @classmethod
    def joined(cls, parts: list[Counts], vocab: int) -> Counts:
        """The counts of all parts together."""
        codes = np.concatenate([part.codes for part in parts] or [np.zeros(0, np.int64)])
        counts = np.concatenate([part.counts for part in parts] or [np.zeros(0, np.int64)])
        codes, place = np.unique(codes, return_inverse=True)
        return cls(codes, np.bincount(place, counts, len(codes)).astype(np.int64), vocab)

    def sums(self, tokens: np.ndarray) -> np.ndarray:
        """The counts added up by `tokens` [pairs] -> [vocab]."""
        return np.bincount(tokens, self.counts, self.vocab)


def baselines(train: PackedRows, validation: PackedRows, token_bytes: np.ndarray) -> Baselines:
    """Counts the targets of `train`, with the token before each, and predicts those of `validation`."""
    vocab = len(token_bytes)
    used = min(train.plan.targets, MOST)
    fitted, tail = count_pairs(train, vocab, used - used // 10, used)
    discount = 0.5
    if len(tail.codes) and len(fitted.codes):
        losses = [bigram_nats(fitted, tail, float(discount)) for discount in DISCOUNTS]
        discount = float(DISCOUNTS[int(np.argmin(losses))])
    seen = Counts.joined([fitted, tail], vocab)
    unseen, _ = count_pairs(validation, vocab, validation.plan.targets)
    text_bytes = float(np.sum(unseen.sums(unseen.codes % vocab) * token_bytes))
    bits = math.log(2.0) * text_bytes
    return Baselines(unigram_nats(seen, unseen) / bits, bigram_nats(seen, unseen, discount) / bits, discount)


def unigram_nats(seen: Counts, unseen: Counts) -> float:
    """The loss of the unigram model of `seen` on `unseen`, summed over the targets."""
    return float(-(unseen.counts * _log_unigram(seen)[unseen.codes % seen.vocab]).sum())


def bigram_nats(seen: Counts, unseen: Counts, discount: float) -> float:
    """The loss of the bigram model of `seen` on `unseen`, summed over the targets."""
    first, second = np.divmod(unseen.codes, seen.vocab)
    context = seen.codes // seen.vocab
    total, followers = seen.sums(context)[first], np.bincount(context, minlength=seen.vocab)[first]
    place = np.minimum(np.searchsorted(seen.codes, unseen.codes), len(seen.codes) - 1)
    together = np.where(seen.codes[place] == unseen.codes, seen.counts[place], 0)
    known = np.maximum(total, 1)
    back_off = np.where(total > 0, discount * followers / known, 1.0)
    p = np.maximum(together - discount, 0) / known + back_off * np.exp(_log_unigram(seen))[second]
    return float(-(unseen.counts * np.log(p)).sum())


def _log_unigram(seen: Counts) -> np.ndarray:
    counts = seen.sums(seen.codes % seen.vocab)
    return np.log((counts + 0.5) / (counts.sum() + 0.5 * seen.vocab))


def count_pairs(rows: PackedRows, vocab: int, split_at: int, stop: int | None = None) -> tuple[Counts, Counts]:
    """Counts the first `split_at` targets of the token stream with the token before each; and the next, to `stop`."""
    edges = (0, split_at, rows.plan.targets if stop is None else stop)
    parts: tuple[list[Counts], list[Counts]] = ([], [])
    done = 0
    for codes in _pairs(rows, vocab):
        for part, (low, high) in zip(parts, itertools.pairwise(edges), strict=True):
            part.append(_count(codes[max(low - done, 0) : max(high - done, 0)], vocab))
        done += len(codes)
        if done >= edges[-1]:
            break
    return Counts.joined(parts[0], vocab), Counts.joined(parts[1], vocab)


def _count(codes: np.ndarray, vocab: int) -> Counts:
    if vocab * vocab <= DENSE:
        table = np.bincount(codes, minlength=1)
        found = np.flatnonzero(table)
        return Counts(found, table[found], vocab)
    return Counts(*np.unique(codes, return_counts=True), vocab)


def _pairs(rows: PackedRows, vocab: int) -> Iterator[np.ndarray]:
    """The codes of (token before, target), in the order of the stream, some millions at a time."""
    order = np.argsort(rows.plan.start)
    start, targets = rows.plan.start[order], rows.plan.size[order] - 1
    done = np.cumsum(targets)
    edges = np.searchsorted(done, np.arange(0, done[-1], BLOCK), "right")
    for low, high in itertools.pairwise([*edges.tolist(), len(start)]):
        count = targets[low:high]
        place = np.arange(count.sum()) + np.repeat(start[low:high] - (np.cumsum(count) - count), count)
        yield rows.tokens[place].astype(np.int64) * vocab + rows.tokens[place + 1]
