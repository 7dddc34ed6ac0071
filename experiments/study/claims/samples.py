"""From cells to what claims are judged by: one number a seed, differences taken within a seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Literal

from experiments.study.claims.measured import known, metric_values
from experiments.study.claims.statistics import more_often
from experiments.study.results import Results

_INF = math.inf


@dataclasses.dataclass(frozen=True)
class Lost:
    """Seeds that diverged, as an outcome of their own.

    Attributes:
      arm, than: which of the side that is claimed of, and of the other.
      of, than_of: how many there are.
      speak: what more of them on one side say: "both" for a claim if they are the other side's and against it if they
        are the arm's, "against" if they cannot speak for it, "apart" if any difference is against it.
    """

    arm: frozenset[int] = frozenset()
    of: int = 0
    than: frozenset[int] = frozenset()
    than_of: int = 0
    speak: Literal["both", "against", "apart"] = "both"

    def chances(self) -> tuple[float, float]:
        """(p that they speak for the claim, p that they speak against it), by Fisher's exact test of their numbers."""
        if not self.of or not self.than_of:
            return 1.0, 1.0
        against = more_often(len(self.arm), self.of, len(self.than), self.than_of)
        ahead = more_often(len(self.than), self.than_of, len(self.arm), self.of)
        if self.speak == "both":
            return ahead, against
        return 1.0, against if self.speak == "against" else min(1.0, 2 * min(ahead, against))

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.arm or self.than)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One number a seed, and where the claim says that it lies.

    Attributes:
      values: one a seed, NaN where a side diverged; empty if there is nothing to judge by.
      wanted: the claim's range, in the units of `values`.
      effect: what a value is, in words.
      notes: for the reader.
      log: whether `values` and `wanted` are logarithms of what is to be shown.
      every: whether each seed has to pass, rather than the mean to be shown to: a bar, not a test.
      seeds: those of `values`.
      metric: of which `values` are.
      weights: arm -> factor of its metric in a value.
      lost: seeds that diverged.
      rounding: the variance of a value that is read off a grid, beside that of the metric's own resolution.
    """

    values: tuple[float, ...]
    wanted: tuple[float, float]
    effect: str
    notes: tuple[str, ...] = ()
    log: bool = False
    every: bool = False
    seeds: tuple[int, ...] = ()
    metric: str = ""
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    lost: Lost = Lost()
    rounding: float = 0.0

    @property
    def finite(self) -> tuple[float, ...]:
        """Without the diverged seeds."""
        return tuple(value for value in self.values if math.isfinite(value))

    def holds(self, value: float) -> bool:
        """Whether one value lies in the range."""
        return self.wanted[0] <= value <= self.wanted[1]

    @property
    def contrast(self) -> tuple[object, ...]:
        """What is compared, whichever side is named first and whatever is claimed of it."""
        sign = 1 if next(iter(dict(sorted(self.weights.items())).values()), 1) > 0 else -1
        weights = tuple((arm, round(sign * weight, 12)) for arm, weight in sorted(self.weights.items()))
        return self.metric, self.log, self.every, weights or self.effect


def missing(results: Results, arm: str, metric: str) -> tuple[str, ...]:
    """Why there is nothing to judge by, if so."""
    if arm not in [one.name for one in results.arms]:
        return (f"there is no arm {arm}",)
    if not metric_values(results, arm, metric):
        return (f"no seed of {arm} has {metric}; measured were {', '.join(known(results, arm)) or 'none'}",)
    return ()


def diverged(results: Results, metric: str, *arms: str) -> Iterator[str]:
    """How many seeds of each of `arms` diverged, if any, as notes."""
    for arm in arms:
        values = metric_values(results, arm, metric)
        count = sum(map(math.isnan, values.values()))
        if count:
            yield f"{arm} diverged in {count} of {len(values)} seeds"


def paired(
    results: Results, arm: str, than: str, metric: str, wanted: tuple[float, float], effect: str, sign: int, log: bool
) -> Sample:
    """sign * (arm - than) within each shared seed, of logarithms if `log`; NaN where a side diverged."""
    absent = missing(results, arm, metric) + missing(results, than, metric)
    if absent:
        return Sample((), wanted, effect, absent, log)
    a, b = metric_values(results, arm, metric), metric_values(results, than, metric)
    shared = sorted(a.keys() & b.keys())
    notes = [*diverged(results, metric, arm, than)]
    if len(shared) < max(len(a), len(b)):
        notes.append(f"{len(shared)} seeds are shared")
    if log and any(value <= 0 for seed in shared for value in (a[seed], b[seed])):
        return Sample((), wanted, effect, ("a ratio has no meaning: not all values are positive",), log)
    values, seeds = [], []
    for seed in shared:
        x, y = a[seed], b[seed]
        seeds.append(seed)
        values.append(sign * (math.log(x) - math.log(y) if log else x - y))
    return Sample(
        tuple(values),
        wanted,
        effect,
        tuple(notes),
        log,
        seeds=tuple(seeds),
        metric=metric,
        weights={arm: sign, than: -sign},
        lost=Lost(lost_of(a), len(a), lost_of(b), len(b), "against" if log else "both"),
    )


def lost_of(values: Mapping[int, float]) -> frozenset[int]:
    """The seeds that diverged."""
    return frozenset(seed for seed, value in values.items() if math.isnan(value))


def bar(sample: Sample) -> Sample:
    """The sample as one that every seed has to pass: where the arm diverged it fails, where the other did it is out."""
    low, _ = sample.wanted
    failed = -_INF if math.isfinite(low) else _INF
    kept = {
        seed: failed if seed in sample.lost.arm else value
        for seed, value in zip(sample.seeds, sample.values, strict=True)
        if seed in sample.lost.arm or seed not in sample.lost.than
    }
    return dataclasses.replace(sample, every=True, seeds=tuple(kept), values=tuple(kept.values()))
