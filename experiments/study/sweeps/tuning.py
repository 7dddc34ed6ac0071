"""Learning rates: which is taken for an arm, and what taking it may have cost.

The metric on validation is averaged over tuning seeds at each rate. With four rates and more the best of them and its
neighbours are joined by a parabola in the logarithm of the rate, and its vertex is taken, which may lie between two
rates; with fewer, the best of them. At the edge of the grid, or beside a rate that diverged, it is the best one itself.

A rate chosen by noisy seeds is off its best by the same error in every seed that is judged, so that seeds alone do not
show it: two equal arms with rates of their own then differ by more than their seeds say. `regrets` has what that costs:
the noise of the sweep is drawn anew many times, the rate is chosen each time, and its loss is read off the curve that
was measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from experiments.study.claims.measured import cell_value, metric_values
from experiments.study.results import Cell, Results

PARABOLA_FROM = 4
"""Rates."""

DRAWS = 400


@dataclasses.dataclass(frozen=True)
class Curve:
    """An arm's sweep.

    Attributes:
      rates: [N], rising.
      losses: [N, K], of each tuning seed; lower is better, infinite where it diverged.
      seeds: [K].
    """

    rates: tuple[float, ...]
    losses: np.ndarray
    seeds: tuple[int, ...] = ()

    @property
    def means(self) -> np.ndarray:
        """[N], infinite where a seed diverged."""
        return self.losses.mean(axis=1)

    @property
    def best(self) -> int:
        """The place of the best rate that was tried."""
        return int(np.argmin(self.means))

    @property
    def edge(self) -> int:
        """-1 or 1 where the best rate is the lowest or highest of several, and better than its neighbour; else 0."""
        if len(self.rates) < 2 or not math.isfinite(self.means[self.best]):
            return 0
        end = -1 if self.best == 0 else 1 if self.best == len(self.rates) - 1 else 0
        return end if self.means[self.best] < self.means[self.best - end] else 0

    def chosen(self) -> float:
        """The rate to take."""
        return chosen(self.rates, self.means)


def curves(cells: Sequence[Cell], metric: str, lower_is_better: bool) -> dict[str, Curve]:
    """Arm -> its sweep, of the cells of the phase "tune". Seeds that lack a rate are left out."""
    found: dict[str, dict[float, dict[int, float]]] = {}
    for cell in cells:
        if cell.phase == "tune":
            value = cell_value(cell, metric) if cell.status == "finished" else None
            loss = math.inf if value is None or math.isnan(value) else value if lower_is_better else -value
            found.setdefault(cell.arm, {}).setdefault(cell.learning_rate, {})[cell.seed] = loss
    made = {}
    for arm, by_rate in found.items():
        rates = tuple(sorted(by_rate))
        seeds = sorted(set.intersection(*(set(by_rate[rate]) for rate in rates)))
        made[arm] = Curve(rates, np.array([[by_rate[rate][seed] for seed in seeds] for rate in rates]), tuple(seeds))
    return made


def chosen(rates: Sequence[float], means: np.ndarray) -> float:
    """The rate that these means say is best, to 6 digits where it is between two that were tried."""
    best = float(np.exp(best_logs(np.log(rates), np.asarray(means, float)[None])[0]))
    nearest = min(rates, key=lambda rate: abs(math.log(rate / best)))
    return float(nearest) if math.isclose(nearest, best, rel_tol=1e-9) else float(f"{best:.6g}")


def best_logs(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The logarithm of the best rate of each row of `means` [D, N] over logarithms of rates `x` [N]: [D]."""
    best = np.argmin(means, axis=1)
    if len(x) < PARABOLA_FROM:
        return x[best]
    inner = np.clip(best, 1, len(x) - 2)
    (x0, x1, x2), (y0, y1, y2) = (
        [values[inner + offset] for offset in (-1, 0, 1)] if values is x else
        [values[np.arange(len(values)), inner + offset] for offset in (-1, 0, 1)]
        for values in (x, means)
    )  # fmt: skip
    with np.errstate(all="ignore"):
        first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
        bend = (second - first) / (x2 - x0)
        vertex = np.clip((x0 + x1) / 2 - first / (2 * bend), x0, x2)
    return np.where((best == inner) & np.isfinite(bend) & (bend > 0), vertex, x[best])


def regrets(results: Results) -> dict[str, float]:
    """Arm -> mean square of what its chosen rate may have cost, in the square of the metric; 0 without a sweep."""
    metric = results.tuned_by or results.metric
    found = curves(results.cells, metric, results.lower_is_better)
    of_one = noise(list(found.values())) or _noise_of_seeds(results)
    return {arm: _regret(curve, of_one) for arm, curve in found.items()}


def noise(found: Sequence[Curve]) -> float:
    """The variance of one seed at one rate, of what is left when the means of rates and of seeds are taken off."""
    squares = df = 0.0
    for curve in found:
        table = curve.losses[np.all(np.isfinite(curve.losses), axis=1)]
        if min(table.shape, default=0) > 1:
            near = np.argsort(table.mean(1))[:3]  # far from the best rate runs are noisier, and decide nothing
            table = table[near]
            rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
            squares += float(np.sum(rest**2))
            df += (table.shape[0] - 1) * (table.shape[1] - 1)
    return squares / df if df else 0.0


def _noise_of_seeds(results: Results) -> float:
    """The same from the seeds that are judged, where one seed alone was tuned with."""
    arms = [list(metric_values(results, arm.name).values()) for arm in results.arms]
    found = [np.var(values, ddof=1) for values in arms if len(values) > 1 and all(map(math.isfinite, values))]
    return float(np.mean(found)) if found else 0.0


def _regret(curve: Curve, noise: float) -> float:
    means, fine = curve.means, np.isfinite(curve.means)
    if fine.sum() < 2 or not noise:
        return 0.0
    rates, means = np.asarray(curve.rates)[fine], means[fine]
    x = np.log(rates)
    read = PchipInterpolator(x, means)
    drawn = np.random.default_rng(0).normal(0, math.sqrt(noise / curve.losses.shape[1]), (DRAWS, len(rates)))
    taken = float(read(math.log(curve.chosen())))
    return float(np.mean(np.square(read(best_logs(x, means + drawn)) - taken)))
