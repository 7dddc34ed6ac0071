"""Intervals and exact tests over seeds, and corrections for several of them.

Every test here answers one question: does an effect lie within a range? The verdict can be read off the interval:
supported if it lies inside the range, not supported if outside, undecided if it straddles an end. For differences over
shared seeds and a range (margin, inf) that is the paired t-test; for (-margin, inf) non-inferiority; for (-margin,
margin) the two one-sided tests of equivalence (TOST, Schuirmann 1987). At level 0.95 each end is held at 2.5 %: for
equivalence stricter than the customary 90 % interval.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from scipy import special, stats

BOOTSTRAP_FROM = 20
"""Seeds. The bootstrap interval of three covers 75 %, of ten 90 %, where 95 % is said."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it; `level` is its coverage."""

    estimate: float
    low: float
    high: float
    level: float


@dataclasses.dataclass(frozen=True)
class Error:
    """A variance of an estimate, and how well it is known: `df` degrees of freedom."""

    variance: float
    df: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An effect with its sources of error, name -> `Error`, which are independent."""

    value: float
    errors: Mapping[str, Error]

    @property
    def standard_error(self) -> float:
        return math.sqrt(sum(error.variance for error in self.errors.values()))

    @property
    def df(self) -> float:
        """Degrees of freedom of all sources together (Satterthwaite 1946)."""
        largest = max((error.variance for error in self.errors.values()), default=0.0)
        if largest == 0.0:
            return min((error.df for error in self.errors.values()), default=1.0)
        shares = [(error.variance / largest, error.df) for error in self.errors.values()]
        return sum(share for share, _ in shares) ** 2 / sum(share**2 / df for share, df in shares)

    def interval(self, level: float = 0.95) -> Interval:
        """Student's."""
        half = float(special.stdtrit(self.df, 0.5 + level / 2)) * self.standard_error
        return Interval(self.value, self.value - half, self.value + half, level)

    def inside_outside(self, low: float, high: float) -> tuple[float, float]:
        """(p of "the effect lies in (low, high)", p of "it lies outside"), one-sided. Not both ends are infinite."""
        ends = [self._above_below(low)] if math.isfinite(low) else []
        ends += [self._above_below(high)[::-1]] if math.isfinite(high) else []
        return max(inside for inside, _ in ends), min(outside for _, outside in ends)

    def _above_below(self, bound: float) -> tuple[float, float]:
        """p of "it is above the bound", and of "it is below"."""
        apart, error = self.value - bound, self.standard_error
        if error == 0.0:
            return float(apart <= 0), float(apart >= 0)
        t = apart / error
        return float(special.stdtr(self.df, -t)), float(special.stdtr(self.df, t))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval of the mean of a metric over seeds. One value alone has no interval: its ends are NaN."""
    x = np.asarray(values, float)
    if x.size < 2:
        return Interval(float(x.mean()) if x.size else math.nan, math.nan, math.nan, level)
    return Estimate(float(x.mean()), {"seeds": Error(float(x.var(ddof=1)) / x.size, x.size - 1)}).interval(level)


def bootstrap_interval(values: Sequence[float], level: float = 0.95, resamples: int = 9999, seed: int = 0) -> Interval:
    """The bias-corrected and accelerated bootstrap interval of the mean (Efron 1987).

    Its ends are NaN below `BOOTSTRAP_FROM` values: it is too narrow there.
    """
    x = np.asarray(values, float)
    if x.size < BOOTSTRAP_FROM or np.ptp(x) == 0:
        return Interval(float(x.mean()) if x.size else math.nan, math.nan, math.nan, level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (x,), np.mean, confidence_level=level, n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)
        )
    return Interval(float(x.mean()), float(found.confidence_interval.low), float(found.confidence_interval.high), level)


def more_often(lost: int, of: int, other_lost: int, other_of: int) -> float:
    """One-sided p of Fisher's exact test that the first happens more often: `lost` of `of` against the others."""
    table = [[lost, of - lost], [other_lost, other_of - other_lost]]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def resolution(values: Sequence[float]) -> float:
    """The step of a metric: what all `values` are multiples of, as accuracies over n rows are of 1/n; else float32's.

    Steps below a thousandth of the values' range are not looked for: they are no reason to doubt a spread.
    """
    x = np.unique(np.asarray([value for value in values if math.isfinite(value)], float))
    finest = float(np.max(np.abs(x), initial=0.0)) * 2.0**-23
    if len(x) < 2:
        return finest
    gaps, reach = np.diff(x), float(x[-1] - x[0])
    step = float(gaps[0])
    for gap in gaps[1:]:
        a, b = max(step, float(gap)), min(step, float(gap))
        while b > 1e-4 * reach:
            a, b = b, min(a % b, b - a % b)
        step = a
    return max(step, finest) if step >= 1e-3 * reach else finest


@dataclasses.dataclass(frozen=True)
class Step:
    """What a comparison has to reach: two-sided `alpha`, at place `factor` = (alpha of all) / alpha."""

    alpha: float
    factor: float


def holm_steps(p_values: Mapping[Hashable, Sequence[float]], alpha: float) -> dict[Hashable, Step]:
    """Holm's step-down (1979) over comparisons, each of which may be asked several questions.

    Questions on one comparison are answered by one interval, so that they cost what one question costs. A comparison
    leaves the count of those that share `alpha` when all its questions are decided: one left open is still at stake.
    Each question is decided if its two-sided p is at most its comparison's `Step.alpha`.
    """
    hardest = {key: max(values) for key, values in p_values.items()}
    steps: dict[Hashable, Step] = {}
    for key in sorted(hardest, key=lambda key: hardest[key]):
        left = len(hardest) - len(steps)
        if hardest[key] > alpha / left:
            break
        steps[key] = Step(alpha / left, left)
    left = len(hardest) - len(steps)
    return {key: steps.get(key) or Step(alpha / left, left) for key in hardest}
