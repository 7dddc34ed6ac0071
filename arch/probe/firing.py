"""What codes fire on: precision and recall of a label, the best neuron beside them, and whether codes are the same in
two networks (arXiv 2310.17230, sections 3 and 4).

All of it counts on the host: codes are int arrays [M, k], the codes that are active on each of M tokens, k at most; -1
where a token has fewer, as sparse codes do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

MOST = 4096
"""Codes that are matched one to one; of more, those that fire most."""


class Firing(NamedTuple):
    """How codes and a label go together, [C] each.

    Attributes:
      tokens: how many a code fires on.
      precision: of those, the share that has the label; 0 of a code that never fires.
      recall: of the tokens that have the label, the share that the code fires on.
    """

    tokens: Int[np.ndarray, "C"]
    precision: Float[np.ndarray, "C"]
    recall: Float[np.ndarray, "C"]

    @property
    def f1(self) -> Float[np.ndarray, "C"]:
        """The harmonic mean of precision and recall; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total > 0, total, 1.0)


def firing_counts(codes: Int[np.ndarray, "M k"], size: int) -> Int[np.ndarray, "C"]:
    """On how many tokens each of `size` codes fires; a code that fills several of the k places counts once."""
    return np.bincount(_once(codes), minlength=size + 1)[:size]


def firing_of(codes: Int[np.ndarray, "M k"], label: Bool[np.ndarray, "M"], size: int) -> Firing:
    """Precision and recall of each of `size` codes for `label`."""
    count, both = firing_counts(codes, size), firing_counts(codes[label], size)
    return Firing(count, both / np.maximum(count, 1), both / max(int(label.sum()), 1))


class Neuron(NamedTuple):
    """A neuron read as a detector: it fires where `sign` times its value is at least `threshold`."""

    neuron: int
    sign: int
    threshold: float
    precision: float


def best_neuron(values: Float[np.ndarray, "M N"], label: Bool[np.ndarray, "M"], recall: float) -> Neuron:
    """The neuron that, with the threshold at which it reaches `recall`, is most precise for `label`.

    Raises:
      ValueError: no token has the label.
    """
    positives = int(label.sum())
    if not positives:
        raise ValueError("no token has the label")
    needed = min(max(int(np.ceil(recall * positives - 1e-9)), 1), positives)
    best = Neuron(0, 1, 0.0, -1.0)
    for sign in (1, -1):
        signed = sign * values
        thresholds = -np.partition(-signed[label], needed - 1, axis=0)[needed - 1]
        fires = signed >= thresholds
        precision = fires[label].sum(axis=0) / fires.sum(axis=0)
        index = int(precision.argmax())
        if precision[index] > best.precision:
            best = Neuron(index, sign, float(thresholds[index]), float(precision[index]))
    return best


class Overlap(NamedTuple):
    """How much the codes of two networks are the same.

    Attributes:
      matched: mean over the first network's codes of |A and B| / |A or B|, the tokens on which a code and the one that
        it is matched to fire; 1 where the networks differ by the names of codes alone. Codes count by their tokens.
      shuffled: the same with the second network's tokens in random order: what chance gives.
    """

    matched: float
    shuffled: float


def overlap(a: Int[np.ndarray, "M k"], b: Int[np.ndarray, "P q"], seed: int = 0, draws: int = 3) -> Overlap:
    """Codes of two networks on the same tokens, matched one to one so that their overlap is largest (the Hungarian
    method), beside the mean of `draws` orders of chance.

    Raises:
      ValueError: they were read on unequal numbers of tokens.
    """
    if len(a) != len(b):
        raise ValueError(f"codes of the same tokens are compared: there are {len(a)} and {len(b)} of them")
    rng = np.random.default_rng(seed)
    chance = [_matched(a, b[rng.permutation(len(b))]) for _ in range(draws)]
    return Overlap(_matched(a, b), float(np.mean(chance)))


def _matched(a: np.ndarray, b: np.ndarray) -> float:
    a, of_a = _renamed(a)
    b, of_b = _renamed(b)
    both = np.zeros((of_a, of_b), np.int64)
    for one in a.T:
        for other in b.T:
            there = (one >= 0) & (other >= 0)
            both += np.bincount(one[there] * of_b + other[there], minlength=both.size).reshape(both.shape)
    count_a, count_b = (np.bincount(x[x >= 0], minlength=n) for x, n in ((a, of_a), (b, of_b)))
    jaccard = both / np.maximum(count_a[:, None] + count_b[None] - both, 1)
    rows, columns = linear_sum_assignment(-jaccard * count_a[:, None])
    return float((jaccard[rows, columns] * count_a[rows]).sum() / max(count_a.sum(), 1))


def _renamed(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Codes called 0, 1, ... by how often they fire; -1 for those beyond `MOST`, for none, and for what is twice."""
    size = max(int(codes.max()) + 1, 1)
    ordered = np.sort(codes, axis=-1)
    twice = np.concatenate([np.zeros((len(codes), 1), bool), ordered[:, 1:] == ordered[:, :-1]], axis=1) | (ordered < 0)
    count = np.bincount(ordered[~twice], minlength=size)
    alive = np.argsort(-count, kind="stable")[: min(int((count > 0).sum()), MOST)]
    names = np.full(size, -1)
    names[alive] = np.arange(len(alive))
    return np.where(twice, -1, names[ordered]), len(alive)


def _once(codes: np.ndarray) -> np.ndarray:
    """The codes of all tokens one after another, without those that a token has already."""
    ordered = np.sort(codes, axis=-1)
    first = np.concatenate([np.ones((len(codes), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    return ordered[first & (ordered >= 0)]
