"""A claim on the mean of several comparisons, as papers make it over tasks or over kinds of a part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from arch.spec import Problem
from experiments.study.claims.samples import Lost, Sample
from experiments.study.claims.verdicts import Claim
from experiments.study.results import Results


@dataclasses.dataclass(frozen=True)
class OnAverage(Claim):
    """What each of `parts` claims of its own arms, claimed of the mean over all of them.

    The mean is taken within a seed, so that one number a seed is tested, however many parts there are.

    Attributes:
      parts: claims of one kind on one metric, with one margin, as several `NoWorse`.
    """

    parts: tuple[Claim, ...]

    def problems(self) -> Iterator[Problem]:
        if len(self.parts) < 2:
            yield Problem("parts", self.parts, "must be at least two claims")
        if len({_kind(part) for part in self.parts}) > 1:
            told = "must be claims of one kind and length on one metric, with one margin and direction"
            yield Problem("parts", self.parts, told)

    def names(self, results: Results) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts for name in part.names(results)))

    def measure(self, results: Results) -> str:
        return self.parts[0].measure(results)

    def sentence(self, results: Results) -> str:
        first, more = self.parts[0].sentence(results), len(self.parts) - 1
        return f"on average over {more + 1} comparisons: {first}, and {more} more like it"

    def samples(self, results: Results) -> Sequence[Sample]:
        return [_mean(samples) for samples in zip(*(part.samples(results) for part in self.parts), strict=True)]

    @property
    def stated(self) -> float:
        return self.parts[0].stated

    @property
    def is_bar(self) -> bool:
        return self.parts[0].is_bar


def _kind(claim: Claim) -> tuple[object, ...]:
    """What claims have to share for their mean to be one."""
    return (
        type(claim),
        claim.stated,
        claim.is_bar,
        len(getattr(claim, "arms", ())),
        *(getattr(claim, name, None) for name in ("metric", "lower_is_better")),
    )


def _mean(samples: Sequence[Sample]) -> Sample:
    """The mean of the samples, seed by seed."""
    first = samples[0]
    effect = f"mean over {len(samples)} comparisons, the first: {first.effect}"
    notes = tuple(dict.fromkeys(note for sample in samples for note in sample.notes))
    values: tuple[float, ...] = ()
    if len({sample.seeds for sample in samples}) > 1 or any(not sample.values for sample in samples):
        notes += ("the comparisons do not have the same seeds",)
    else:
        values = tuple(sum(seed) / len(seed) for seed in zip(*(s.values for s in samples), strict=True))
    weights: dict[str, float] = {}
    for sample in samples:
        for arm, weight in sample.weights.items():
            weights[arm] = weights.get(arm, 0.0) + weight / len(samples)
    lost = Lost(
        frozenset().union(*(sample.lost.arm for sample in samples)),
        first.lost.of,
        frozenset().union(*(sample.lost.than for sample in samples)),
        first.lost.than_of,
        first.lost.speak,
    )
    return dataclasses.replace(first, values=values, effect=effect, notes=notes, weights=weights, lost=lost)
