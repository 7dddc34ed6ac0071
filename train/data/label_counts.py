"""Label counts: how often each label occurs, in all rows or for each value of something that a row shows.

p(c | g) = (n(g, c) + 1/2) / (n(g) + C/2) for label c of C and group g, counted on the training rows. With one group for
all rows it is the majority model, whose accuracy is the share of the most frequent label. A row counts as much as its
`weight` says: those of weight 0 do not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import logsumexp

from train.data.base import Dataset
from train.data.baselines import Baseline
from train.data.rows import Batch

BLOCK = 1 << 22


def majority(dataset: Dataset, split: str) -> Baseline:
    """The labels' own frequencies, with `loss`, nats a row, and `accuracy` on `split`."""
    return by_group("majority", dataset, split, lambda batch: np.zeros(len(batch["label"]), np.int64), 1)


def by_group(
    name: str, dataset: Dataset, split: str, group: Callable[[Batch], np.ndarray], groups: int, bar: bool = False
) -> Baseline:
    """The labels' frequencies given `group(batch)` [b], integers below `groups`."""
    counts = np.zeros((groups, dataset.classes))
    for batch in blocks(dataset, "train"):
        np.add.at(counts, (group(batch), batch["label"]), batch["weight"])
    log_p = np.log((counts + 0.5) / (counts.sum(1, keepdims=True) + 0.5 * dataset.classes))
    return Baseline(name, measured(dataset, split, lambda batch: log_p[group(batch)]), bar)


def measured(dataset: Dataset, split: str, scores: Callable[[Batch], np.ndarray]) -> dict[str, float]:
    """`loss` and `accuracy` on `split` of a model that gives each class a logit: `scores(batch)` is [b, classes]."""
    weight = nats = correct = 0.0
    for batch in blocks(dataset, split):
        logits, labels, weights = scores(batch), batch["label"], batch["weight"]
        picked = logits[np.arange(len(labels)), labels]
        nats += float(weights @ (logsumexp(logits, axis=1) - picked))
        correct += float(weights @ (logits.argmax(1) == labels))
        weight += float(weights.sum())
    return {"loss": nats / (weight or 1.0), "accuracy": correct / (weight or 1.0)}


def blocks(dataset: Dataset, split: str, most: float = math.inf) -> Iterator[Batch]:
    """The rows of `split` with a weight, some millions of array elements at a time.

    Of more than `most` elements so many are taken as rows that lie evenly in the split, which may be sorted by label.
    """
    rows, width = dataset.rows[split], row_size(dataset)
    count, step = int(min(len(rows), max(most // width, 1))), max(BLOCK // width, 1)
    for first in range(0, count, step):
        batch = rows.gather(np.arange(first, min(first + step, count)) * len(rows) // count)
        there = (batch["weight"] > 0) & (batch["label"] >= 0)
        yield {name: array[there] for name, array in batch.items()}


def row_size(dataset: Dataset) -> int:
    """Elements of the greatest array of a row."""
    return max(math.prod(shape) for shape, _ in dataset.description.arrays.values())
