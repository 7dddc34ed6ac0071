"""What an order of scores is worth against labels of 0 and 1, exact, with ties."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from arch.spec import UserError


def auc(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """The area under the receiver operating characteristic: the probability that a positive scores above a negative,
    where a tie counts half (Hanley and McNeil 1982). Raises UserError unless there are some of both."""
    positives, negatives = _counts(positive)
    above = rankdata(scores)[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def average_precision(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """The sum over thresholds of precision times gained recall, where tied scores fall at one threshold. Chance is the
    share of positives. Raises UserError unless there are some of both."""
    positives, _ = _counts(positive)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each run of equal scores
    hits = np.cumsum(positive[order])[last]
    return float((hits / (last + 1) * np.diff(hits, prepend=0)).sum() / positives)


def _counts(positive: Bool[np.ndarray, "n"]) -> tuple[int, int]:
    count = int(positive.sum())
    if not 0 < count < len(positive):
        raise UserError(f"ranks need labels of both kinds; {count} of {len(positive)} are positive: score more rows")
    return count, len(positive) - count
