"""A claim on learning rates: that one arm is best at a higher one than another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from experiments.study.claims.samples import Sample
from experiments.study.claims.verdicts import Claim
from experiments.study.results import Results
from experiments.study.sweeps.tuning import Curve, best_logs, curves


@dataclasses.dataclass(frozen=True)
class HigherRate(Claim):
    """The best learning rate of `arm` is higher than that of `than`, in the geometric mean over tuning seeds.

    One number a tuning seed: the rate that this seed alone would have chosen, by the rule that chooses for all of
    them. What is shown is the rate of `arm` divided by that of `than`.
    """

    arm: str
    than: str

    def names(self, results: Results) -> tuple[str, ...]:
        return self.arm, self.than

    def sentence(self, results: Results) -> str:
        return f"{self.arm} is best at a higher learning rate than {self.than}"

    def measure(self, results: Results) -> str:
        return "learning rate"

    def samples(self, results: Results) -> Sequence[Sample]:
        effect, wanted = f"best learning rate of {self.arm} divided by that of {self.than}", (0.0, math.inf)
        found = curves(results.cells, results.tuned_by or results.metric, results.lower_is_better)
        if self.arm not in found or self.than not in found:
            return [Sample((), wanted, effect, ("learning rates were not swept",), True)]
        here, there = found[self.arm], found[self.than]
        shared = [seed for seed in here.seeds if seed in there.seeds]
        values = tuple(float(value) for value in _logs(here, shared) - _logs(there, shared))
        rounding = sum(_rounding(curve, shared) for curve in (here, there))
        return [Sample(values, wanted, effect, log=True, seeds=tuple(shared), rounding=rounding)]

    @property
    def stated(self) -> float:
        return 1.0


def _logs(curve: Curve, seeds: Sequence[int]) -> np.ndarray:
    """[seeds]: the logarithm of the rate that each would choose."""
    columns = [curve.seeds.index(seed) for seed in seeds]
    return best_logs(np.log(curve.rates), curve.losses[:, columns].T)


def _rounding(curve: Curve, seeds: Sequence[int]) -> float:
    """The variance of a number that is known to the nearest rate alone: where seeds choose one of those that were
    tried, and none between them, that they agree says no more than that."""
    grid = np.log(curve.rates)
    if len(grid) < 2 or not np.isin(_logs(curve, seeds), grid).any():
        return 0.0
    return float(np.diff(np.sort(grid)).min()) ** 2 / 12
