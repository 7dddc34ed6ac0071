"""How sure the mean of a comparison is: over seeds, over rows, and over the choice of learning rates.

A comparison is a sum over arms of weight times metric, one number a seed. Its variance has up to three parts:

  seeds           sigma^2 sum(w^2) / S. sigma^2 is that of what is left of all arms of one data set when the means of
                  arms and of seeds are taken off, with (A - 1)(S - 1) degrees of freedom: three seeds of four arms say
                  more of the noise than three differences of two. It is taken to be no less than the comparison's own
                  differences say. Where the arms' noise differs (Levene, Bartlett), or these differences object, it is
                  theirs alone, with S - 1 degrees of freedom.
  rows            of the mean over seeds, from stretch to stretch of the split (`stretches.py`), B - 1 degrees of
                  freedom. Seeds alone say nothing of other rows. What interacts is counted in both parts, so that
                  the sum is rather too large (two-way errors, Cameron, Gelbach and Miller 2011).
  learning rates  what the chosen rates may have cost, sum of w^2 cost^2 (`tuning.py`): one for all seeds of an arm.

No spread seen is not no spread: a variance is at least that of rounding to the metric's resolution.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from experiments.study.claims.measured import metric_values
from experiments.study.claims.samples import Sample
from experiments.study.claims.statistics import Error, Estimate, resolution
from experiments.study.results import Results
from experiments.study.sweeps.tuning import regrets

OBJECTS = 0.1
"""p below which a test of equal noise objects to pooling."""


@dataclasses.dataclass(frozen=True)
class _Noise:
    """The noise of one arm, from all `arms` of one data set over `seeds`."""

    arms: frozenset[str]
    seeds: tuple[int, ...]
    error: Error


class Spreads:
    """What the cells of a study say of noise."""

    def __init__(self, results: Results):
        self.results = results
        self._data = {arm.name: arm.data for arm in results.arms}
        self._noises: dict[tuple[str, bool, str], _Noise | None] = {}
        self._costs: dict[str, float] | None = None

    def estimate(self, sample: Sample) -> Estimate:
        """The mean of the finite seeds of `sample`, two at least, with its errors."""
        values = np.asarray(sample.finite, float)
        errors = {"seeds": self._seeds(sample, values)}
        rows, rates = self._rows(sample), self._rates(sample)
        errors |= {"rows": rows} if rows else {}
        errors |= {"learning rates": rates} if rates else {}
        return Estimate(float(values.mean()), errors)

    def _seeds(self, sample: Sample, values: np.ndarray) -> Error:
        count = len(values)
        square = sum(weight**2 for weight in sample.weights.values())
        # The variance of a number rounded to a step.
        floor = square * self._resolution(sample) ** 2 / 12 + sample.rounding
        own = Error(max(float(values.var(ddof=1)), floor) / count, count - 1)
        noise = self._pooled(sample)
        if noise is None:
            return own
        pooled = Error(max(noise.variance * square, floor) / count, noise.df)
        larger = special.fdtrc(own.df, pooled.df, own.variance / pooled.variance)
        return own if larger < OBJECTS else Error(max(own.variance, pooled.variance), pooled.df)

    def _pooled(self, sample: Sample) -> Error | None:
        """The noise of one arm, if the arms of `sample` are of one data set and may be taken together with others."""
        sets = {self._data[arm] for arm in sample.weights}
        contrast = math.isclose(sum(sample.weights.values()), 0.0, abs_tol=1e-12)
        if len(sets) != 1 or not contrast or len(sample.values) > len(sample.finite):
            return None
        key = sample.metric, sample.log, sets.pop()
        if key not in self._noises:
            self._noises[key] = _noise(self.results, *key)
        noise = self._noises[key]
        return noise.error if noise and noise.arms >= set(sample.weights) and noise.seeds == sample.seeds else None

    def _resolution(self, sample: Sample) -> float:
        """Of one arm's number in a value of the sample: what the numbers of all arms are multiples of."""
        found = {
            arm.name: [v for v in metric_values(self.results, arm.name, sample.metric).values() if math.isfinite(v)]
            for arm in self.results.arms
        }
        step = resolution([value for values in found.values() for value in values])
        own = [abs(value) for arm in sample.weights for value in found[arm] if value]
        return step / min(own) if sample.log and own else step  # d log m = dm / m

    def _rows(self, sample: Sample) -> Error | None:
        """Of the mean over seeds from one stretch of rows to the next; arms of other data have other rows."""
        stretches = _stretches(self.results, sample)
        if not stretches:
            return None
        of: dict[str, np.ndarray] = {}
        for arm, weight in sample.weights.items():
            data, own = self._data[arm], weight * stretches[arm]
            if data in of and len(of[data]) != len(own):  # batches of another size cut the same rows elsewhere
                return None
            of[data] = of.get(data, 0.0) + own
        errors = [Error(float(values.var(ddof=1)) / len(values), len(values) - 1) for values in of.values()]
        whole = Estimate(0.0, dict(enumerate(errors)))  # type: ignore[arg-type]
        return Error(whole.standard_error**2, whole.df)

    def _rates(self, sample: Sample) -> Error | None:
        """What the chosen rates may have cost the arms of a sample in the metric that they are chosen by."""
        if sample.metric not in (self.results.metric, self.results.tuned_by):
            return None
        if self._costs is None:
            self._costs = regrets(self.results)
        variance = 0.0
        for arm, weight in sample.weights.items():
            scale = abs(_mean(self.results, arm, sample.metric)) if sample.log else 1.0
            variance += (weight / scale) ** 2 * self._costs.get(arm, 0.0)
        return Error(variance, RATES_DF) if variance else None


RATES_DF = 2.0
"""Degrees of freedom that a cost of learning rates is known with: tuning seeds are few."""


def _noise(results: Results, metric: str, log: bool, data: str) -> _Noise | None:
    """Of the arms of `data` whose seeds are all finite; None if they are too few, or their noise differs."""
    found = {arm.name: metric_values(results, arm.name, metric) for arm in results.arms if arm.data == data}
    found = {arm: values for arm, values in found.items() if values and all(map(math.isfinite, values.values()))}
    if log:
        found = {
            arm: {seed: math.log(value) for seed, value in values.items()}
            for arm, values in found.items()
            if min(values.values()) > 0
        }
    seeds = tuple(sorted(set.intersection(*map(set, found.values())))) if found else ()
    if len(found) < 3 or len(seeds) < 2:
        return None
    table = np.array([[values[seed] for seed in seeds] for values in found.values()])
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    if _differ(rest):
        return None
    df = (len(found) - 1) * (len(seeds) - 1)
    return _Noise(frozenset(found), seeds, Error(float(np.sum(rest**2)) / df, df))


def _differ(rest: np.ndarray) -> bool:
    """Whether the noise of some arms is larger than that of others."""
    if np.ptp(rest) == 0 or np.any(np.ptp(rest, axis=1) == 0):
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = stats.levene(*rest, center="median").pvalue, stats.bartlett(*rest).pvalue
    return any(p < OBJECTS for p in found)


def _mean(results: Results, arm: str, metric: str) -> float:
    values = [value for value in metric_values(results, arm, metric).values() if math.isfinite(value)]
    return float(np.mean(values))


def _stretches(results: Results, sample: Sample) -> dict[str, np.ndarray] | None:
    """Arm -> [stretches], the mean over the seeds of `sample`; None if not all cells have them, or other numbers."""
    seeds = [s for s, value in zip(sample.seeds, sample.values, strict=True) if math.isfinite(value)]
    found: dict[str, np.ndarray] = {}
    for arm in sample.weights:
        cells = {c.seed: c for c in results.cells if c.arm == arm and c.phase == "seeds"}
        rows: list[Sequence[float]] = [cells[seed].stretches.get(sample.metric, ()) for seed in seeds if seed in cells]
        if len(rows) < len(seeds) or not all(rows) or len(set(map(len, rows))) > 1:
            return None
        table = np.asarray(rows, float)
        if sample.log:  # d log m = dm / m
            table = table / np.array([[cells[seed].metrics[sample.metric]] for seed in seeds])
        found[arm] = table.mean(axis=0)
    return found
