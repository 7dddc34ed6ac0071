"""The claims that a study may make: better, no worse, equivalent, best, in order, a ratio, a bar.

A metric is named as on validation, val/NAME; where the data has a test split, the claim is judged on test/NAME.

All are judged over seeds that the arms share, so that a difference is taken within a seed (same data order) before
it is averaged. How a verdict comes about is in `judge.py`, the tests in `statistics.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from arch.spec import Problem, above, at_least
from experiments.study.claims.measured import lower_is_better, metric_values
from experiments.study.claims.samples import (
    Lost,
    Sample,
    bar,
    diverged,
    lost_of,
    missing,
    paired,
)
from experiments.study.claims.verdicts import Claim, Verdict
from experiments.study.results import Results

__all__ = [
    "AtLeast",
    "AtMost",
    "Best",
    "Better",
    "Claim",
    "Equivalent",
    "Monotone",
    "NoWorse",
    "RatioBelow",
    "Verdict",
    "metric_values",
]

_INF = math.inf


class _Margin(Claim):
    """A claim with a margin, at least 0 unless it says otherwise. Subclasses declare the fields."""

    margin: float

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "margin")

    @property
    def stated(self) -> float:
        return self.margin

    @property
    def by_more(self) -> str:
        """The end of a sentence."""
        return f", by more than {self.margin:g}" if self.margin else ""


@dataclasses.dataclass(frozen=True)
class Better(_Margin):
    """`arm` is better than `than` by more than `margin`, in the units of the metric.

    Attributes:
      metric: as val/loss; None for the study's.
      lower_is_better: None for the metric's usual direction.
    """

    arm: str
    than: str
    margin: float = 0.0
    metric: str | None = None
    lower_is_better: bool | None = None

    def names(self, results: Results) -> tuple[str, ...]:
        return self.arm, self.than

    def sentence(self, results: Results) -> str:
        return f"{self.arm} is better than {self.than} in {direction(self, results)}{self.by_more}"

    def samples(self, results: Results) -> Sequence[Sample]:
        return [improvement(self, results, self.arm, self.than, (self.margin, _INF))]


@dataclasses.dataclass(frozen=True)
class NoWorse(_Margin):
    """`arm` is not worse than `than` by `margin` or more (non-inferiority). Fields as in `Better`."""

    arm: str
    than: str
    margin: float
    metric: str | None = None
    lower_is_better: bool | None = None

    def names(self, results: Results) -> tuple[str, ...]:
        return self.arm, self.than

    def sentence(self, results: Results) -> str:
        return f"{self.arm} is no worse than {self.than} in {direction(self, results)}, within {self.margin:g}"

    def samples(self, results: Results) -> Sequence[Sample]:
        return [improvement(self, results, self.arm, self.than, (-self.margin, _INF))]


@dataclasses.dataclass(frozen=True)
class Equivalent(_Margin):
    """`arm` and `to` differ by less than `margin`, either way (TOST). Fields as in `Better`."""

    arm: str
    to: str
    margin: float
    metric: str | None = None
    lower_is_better: bool | None = None

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "margin")

    def names(self, results: Results) -> tuple[str, ...]:
        return self.arm, self.to

    def sentence(self, results: Results) -> str:
        return f"{self.arm} and {self.to} are equivalent in {self.measure(results)}, within {self.margin:g}"

    def samples(self, results: Results) -> Sequence[Sample]:
        found = improvement(self, results, self.arm, self.to, (-self.margin, self.margin))
        return [dataclasses.replace(found, lost=dataclasses.replace(found.lost, speak="apart"))]


@dataclasses.dataclass(frozen=True)
class Best(_Margin):
    """`arm` is better than every other arm of the study, by more than `margin`. Fields as in `Better`."""

    arm: str
    margin: float = 0.0
    metric: str | None = None
    lower_is_better: bool | None = None

    def names(self, results: Results) -> tuple[str, ...]:
        return (self.arm,)

    def sentence(self, results: Results) -> str:
        return f"{self.arm} is the best of {len(results.arms)} arms in {direction(self, results)}{self.by_more}"

    def samples(self, results: Results) -> Sequence[Sample]:
        rivals = [one.name for one in results.arms if one.name != self.arm]
        found = [improvement(self, results, self.arm, rival, (self.margin, _INF)) for rival in rivals]
        return found or [Sample((), (self.margin, _INF), "improvement over the others", ("there is no other arm",))]


@dataclasses.dataclass(frozen=True)
class Monotone(_Margin):
    """Each of `arms` is better than the one before it, by more than `margin`. Fields as in `Better`."""

    arms: tuple[str, ...]
    margin: float = 0.0
    metric: str | None = None
    lower_is_better: bool | None = None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if len(self.arms) < 2:
            yield Problem("arms", self.arms, "must be at least two")

    def names(self, results: Results) -> tuple[str, ...]:
        return self.arms

    def sentence(self, results: Results) -> str:
        return f"{direction(self, results)} improves at each step from {' to '.join(self.arms)}"

    def samples(self, results: Results) -> Sequence[Sample]:
        steps = zip(self.arms[1:], self.arms, strict=False)
        return [improvement(self, results, after, before, (self.margin, _INF)) for after, before in steps]


@dataclasses.dataclass(frozen=True)
class RatioBelow(Claim):
    """`metric` of `arm` is at most `at_most` times that of `than`: in the geometric mean, or in every seed, as a bar.

    Where `than` diverged there is no ratio: such a seed is left out, and cannot speak for the claim.
    """

    arm: str
    than: str
    metric: str
    at_most: float
    every_seed: bool = True

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "at_most")

    def names(self, results: Results) -> tuple[str, ...]:
        return self.arm, self.than

    def sentence(self, results: Results) -> str:
        ratio = f"{self.measure(results)} of {self.arm} is at most {self.at_most:g} times that of {self.than}"
        return f"{ratio}, in {_where(self.every_seed)}"

    def samples(self, results: Results) -> Sequence[Sample]:
        metric = self.measure(results)
        effect = f"{metric} of {self.arm} divided by that of {self.than}"
        wanted = (-_INF, math.log(self.at_most))
        sample = paired(results, self.arm, self.than, metric, wanted, effect, 1, log=True)
        return [bar(sample) if self.every_seed else sample]

    @property
    def stated(self) -> float:
        return self.at_most


@dataclasses.dataclass(frozen=True)
class _Bar(Claim):
    """What `AtLeast` and `AtMost` share. A seed that diverged passes no bar, and leaves the mean unknown."""

    arm: str
    metric: str
    bar: float
    every_seed: bool = True

    def problems(self) -> Iterator[Problem]:
        if not math.isfinite(self.bar):
            yield Problem("bar", self.bar, "must be a number that a metric can reach")

    def names(self, results: Results) -> tuple[str, ...]:
        return (self.arm,)

    def _sentence(self, results: Results, side: str) -> str:
        return f"{self.measure(results)} of {self.arm} is at {side} {self.bar:g} in {_where(self.every_seed)}"

    def _sample(self, results: Results, wanted: tuple[float, float]) -> Sample:
        metric = self.measure(results)
        effect = f"{metric} of {self.arm}"
        absent = missing(results, self.arm, metric)
        if absent:
            return Sample((), wanted, effect, absent, every=self.every_seed)
        measured = metric_values(results, self.arm, metric)
        seeds = tuple(sorted(measured))
        values = tuple(measured[seed] for seed in seeds)
        notes = tuple(diverged(results, metric, self.arm))
        lost = Lost(lost_of(measured), len(measured))
        weights = {self.arm: 1.0}
        sample = Sample(values, wanted, effect, notes, seeds=seeds, metric=metric, weights=weights, lost=lost)
        return bar(sample) if self.every_seed else sample

    @property
    def stated(self) -> float:
        return self.bar


@dataclasses.dataclass(frozen=True)
class AtLeast(_Bar):
    """`metric` of `arm` is at least `bar`: in every seed, or else in the mean."""

    def sentence(self, results: Results) -> str:
        return self._sentence(results, "least")

    def samples(self, results: Results) -> Sequence[Sample]:
        return [self._sample(results, (self.bar, _INF))]


@dataclasses.dataclass(frozen=True)
class AtMost(_Bar):
    """`metric` of `arm` is at most `bar`: in every seed, or else in the mean."""

    def sentence(self, results: Results) -> str:
        return self._sentence(results, "most")

    def samples(self, results: Results) -> Sequence[Sample]:
        return [self._sample(results, (-_INF, self.bar))]


def _where(every_seed: bool) -> str:
    return "every seed" if every_seed else "the mean"


def improvement(claim: Claim, results: Results, arm: str, than: str, wanted: tuple[float, float]) -> Sample:
    """By how much `arm` is better than `than`, seed by seed, in the metric and direction of `claim`."""
    metric, lower = claim.measure(results), _lower(claim, results)
    effect = f"improvement of {arm} over {than} in {metric}"
    return paired(results, arm, than, metric, wanted, effect, -1 if lower else 1, log=False)


def _lower(claim: Claim, results: Results) -> bool:
    given = getattr(claim, "lower_is_better", None)
    return lower_is_better(results, claim.measure(results)) if given is None else given


def direction(claim: Claim, results: Results) -> str:
    """The metric of `claim`, and which way is better."""
    return f"{claim.measure(results)} ({'lower' if _lower(claim, results) else 'higher'} is better)"
