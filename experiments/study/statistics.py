"""Intervals, tests and corrections over seeds, by scipy and statsmodels.

Every test here answers one question: does the mean of a few numbers, one a seed, lie within a range? The verdict can
be read off the interval: supported if the interval lies inside the range, not supported if it lies outside, undecided
if it straddles an end. For differences over shared seeds and a range (margin, inf) that is the paired t-test; for
(-margin, inf) non-inferiority; for (-margin, margin) the two one-sided tests of equivalence (TOST, Schuirmann 1987).
At level 0.95 each end is held at 2.5 %: for equivalence stricter than the customary 90 % interval.

Several tests in one study are corrected together by Holm's step-down (1979), and intervals are shown at the level of
their step, so that interval and verdict agree.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it; `level` is its coverage."""

    estimate: float
    low: float
    high: float
    level: float


def _constant(values: np.ndarray) -> bool:
    """Whether there is no spread but that of rounding, where a t statistic is not defined."""
    return bool(np.ptp(values) <= 1e-12 * np.max(np.abs(values), initial=0.0))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval of the mean. One value alone has no interval: its ends are NaN."""
    x = np.asarray(values, float)
    if x.size < 2:
        return Interval(float(x.mean()) if x.size else math.nan, math.nan, math.nan, level)
    mean = float(x.mean())
    if _constant(x):
        return Interval(mean, mean, mean, level)
    low, high = stats.ttest_1samp(x, 0.0).confidence_interval(level)
    return Interval(mean, float(low), float(high), level)


def bootstrap_interval(values: Sequence[float], level: float = 0.95, resamples: int = 9999, seed: int = 0) -> Interval:
    """The bias-corrected and accelerated bootstrap interval of the mean (Efron 1987).

    With fewer than about ten seeds it is too narrow, and is reported beside Student's, not instead of it.
    """
    x = np.asarray(values, float)
    if x.size < 3 or _constant(x):
        return t_interval(values, level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (x,), np.mean, confidence_level=level, n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)
        )
    return Interval(float(x.mean()), float(found.confidence_interval.low), float(found.confidence_interval.high), level)


def sign_flip(values: Sequence[float]) -> float:
    """Two-sided p of the exact permutation test of mean 0: all 2^n signs of paired differences.

    With n seeds it cannot fall below 2^(1-n): 0.25 with three, 0.06 with five.
    """
    x = np.asarray(values, float)
    if x.size < 2:
        return math.nan
    found = stats.permutation_test(
        (x,), np.mean, permutation_type="samples", n_resamples=2**14, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)


def one_sided(values: Sequence[float] | np.ndarray, bound: float) -> tuple[float, float]:
    """(p of "the mean is above bound", p of "it is below"), by t-tests. Paired if the values are differences."""
    x = np.asarray(values, float)
    if _constant(x):
        return float(x.mean() <= bound), float(x.mean() >= bound)
    above, below = (stats.ttest_1samp(x, bound, alternative=side).pvalue for side in ("greater", "less"))
    return float(above), float(below)


def inside_outside(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """(p of "the mean lies in (low, high)", p of "it lies outside"). Ends may be infinite, not both."""
    x = np.asarray(values, float)
    ends = [one_sided(x, low)] if math.isfinite(low) else []
    ends += [one_sided(x, high)[::-1]] if math.isfinite(high) else []
    if len(ends) == 2 and not _constant(x):
        inside = float(DescrStatsW(x).ttost_mean(low, high)[0])
    else:
        inside = max(p for p, _ in ends)
    return inside, min(p for _, p in ends)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values corrected together by Holm's method; NaNs (not tested) stay and do not count."""
    p = np.array(p_values, float)
    tested = ~np.isnan(p)
    if tested.any():
        p[tested] = multipletests(p[tested], method="holm")[1]
    return p


def holm_levels(p_values: Sequence[float], level: float) -> np.ndarray:
    """The level of each test's interval with which the interval excludes a bound exactly where Holm's method rejects.

    Rejected ones have the level of their step; all others that of the step where the method stopped.
    """
    p = np.asarray(p_values, float)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    rejected = int(np.sum(holm(p)[tested] <= 1 - level))
    levels = np.full(p.shape, level)
    for rank, index in enumerate(order):
        levels[index] = 1 - (1 - level) / (len(order) - min(rank, rejected))
    return levels
