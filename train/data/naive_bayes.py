"""Naive Bayes on tokens and on neighbouring tokens (multinomial; McCallum and Nigam 1998).

log p(c | row) = log p(c) + sum over the row's n-grams g of log p(g | c) + constant,

with p(c) of `label_counts`, and p(g | c) = (n(g, c) + a) / (n(c) + a G) over the G n-grams that the training rows
have. One that they lack says nothing of the class and is passed over. An n-gram is n tokens of one segment, without
padding. The smoothing a is small, 1/100: of many n-grams a class has most never, and 1/2 for each of them would drown
those that it has. N-grams overlap and are far from independent, so the model is too sure of itself: its loss may be
worse than the majority's where its accuracy is good. Of very large training data 34 million tokens are counted.
"""

from __future__ import annotations

import functools

import numpy as np

from train.data.base import Dataset
from train.data.baselines import Baseline
from train.data.label_counts import blocks, measured
from train.data.rows import Batch

NAMES = {1: "naive Bayes", 2: "naive Bayes on pairs", 3: "naive Bayes on triples"}
SMOOTHING = 0.01
MOST = 1 << 25
CODES = 1 << 63
TABLE = 1 << 26
"""Places of the table of n-grams and classes at most: half a gigabyte."""


def naive_bayes(dataset: Dataset, split: str, n: int) -> Baseline | None:
    """The model on n-grams of `tokens`, with `loss`, nats a row, and `accuracy` on `split`.

    None where rows are shorter than n tokens, or there are too many different n-grams for a table in memory.
    """
    vocab, classes = dataset.vocab, dataset.classes
    if vocab**n > CODES:
        return None
    grams = np.zeros(0, np.int64)
    for batch in blocks(dataset, "train", MOST):
        grams = np.union1d(grams, _grams(batch, vocab, n)[0])
    if not 0 < len(grams) * classes <= TABLE:
        return None
    counts, labels = np.zeros((len(grams), classes)), np.zeros(classes)
    for batch in blocks(dataset, "train", MOST):
        codes, row = _grams(batch, vocab, n)
        label, weight = batch["label"], batch["weight"]
        place = np.searchsorted(grams, codes) * classes + label[row]
        counts += np.bincount(place, weight[row], counts.size).reshape(counts.shape)
        labels += np.bincount(label, weight, classes)
    log_p = np.log((counts + SMOOTHING) / (counts.sum(0) + SMOOTHING * len(grams)))
    log_prior = np.log((labels + 0.5) / (labels.sum() + 0.5 * classes))
    return Baseline(NAMES[n], measured(dataset, split, functools.partial(_scores, grams, log_p, log_prior, vocab, n)))


def _scores(
    grams: np.ndarray, log_p: np.ndarray, log_prior: np.ndarray, vocab: int, n: int, batch: Batch
) -> np.ndarray:
    """log p(c, row) up to a constant of the row, [b, classes]."""
    codes, row = _grams(batch, vocab, n)
    place = np.minimum(np.searchsorted(grams, codes), len(grams) - 1)
    there = grams[place] == codes
    place, row = place[there], row[there]
    sums = [np.bincount(row, log_p[place, label], len(batch["label"])) for label in range(len(log_prior))]
    return np.stack(sums, axis=1) + log_prior


def _grams(batch: Batch, vocab: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the n-grams of all rows, first token first, and the row of each."""
    tokens = batch["tokens"].astype(np.int64)
    segments = batch.get("segments", np.ones_like(tokens))
    count = max(tokens.shape[1] - n + 1, 0)
    codes, there = np.zeros((len(tokens), count), np.int64), segments[:, :count] > 0
    for place in range(n):
        codes = codes * vocab + tokens[:, place : place + count]
        there = there & (segments[:, place : place + count] == segments[:, :count])
    return codes[there], np.nonzero(there)[0]
