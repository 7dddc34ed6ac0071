"""From claims to verdicts: supported, not supported, or undecided, never more than the seeds can carry."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from arch.spec import Spec
from experiments.study.results import Results
from experiments.study.statistics import Interval, holm, holm_levels, inside_outside, t_interval

Word = Literal["supported", "not supported", "undecided"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was decided about one claim.

    Attributes:
      claim: the claim as a sentence.
      verdict: "supported" if the interval lies within `wanted`, "not supported" if outside, else "undecided".
      estimate: the effect; `low` and `high`: its interval, at `level`, which is corrected for all claims of the study.
        Where every seed has to pass, the smallest and largest seed.
      p: two-sided and Holm-corrected; NaN where nothing was tested.
      margin: the number that the claim states: a margin or a bar.
      n: seeds behind the estimate.
      note: divergences, and whatever else a reader has to know.
      effect: what the estimate is, in words.
      metric: what was measured.
      wanted: the range in which the claim says the effect lies.
      level: of the interval; NaN where the range over seeds is shown.
    """

    claim: str
    verdict: Word
    estimate: float
    low: float
    high: float
    p: float
    margin: float
    n: int
    note: str = ""
    effect: str = ""
    metric: str = ""
    wanted: tuple[float, float] = (-math.inf, math.inf)
    level: float = math.nan

    def plain(self) -> dict[str, Any]:
        """As `Results.verdicts` holds it."""
        return dataclasses.asdict(self) | {"wanted": list(self.wanted)}

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> Verdict:
        """What `plain` gave."""
        return cls(**{**fields, "wanted": tuple(fields["wanted"])})


@dataclasses.dataclass(frozen=True)
class Sample:
    """One number a seed, and where the claim says that it lies.

    Attributes:
      values: finite, or infinite where a side diverged; empty if there is nothing to judge by.
      wanted: the claim's range, in the units of `values`.
      effect: what a value is, in words.
      notes: for the reader.
      log: whether `values` and `wanted` are logarithms of what is to be shown.
      every: whether each seed has to pass, rather than the mean to be shown to.
      seeds: those of `values`.
    """

    values: tuple[float, ...]
    wanted: tuple[float, float]
    effect: str
    notes: tuple[str, ...] = ()
    log: bool = False
    every: bool = False
    seeds: tuple[int, ...] = ()

    @property
    def finite(self) -> tuple[float, ...]:
        """Without the diverged seeds."""
        return tuple(value for value in self.values if math.isfinite(value))

    def holds(self, value: float) -> bool:
        """Whether one value lies in the range."""
        return self.wanted[0] <= value <= self.wanted[1]

    @property
    def tested(self) -> bool:
        """Whether a t-test has its say: seeds enough, and none that diverged against the claim."""
        return not self.every and len(self.finite) > 1 and all(math.isfinite(v) or self.holds(v) for v in self.values)


class Claim(Spec, abc.ABC):
    """A statement about the arms of a study that measuring can decide."""

    @abc.abstractmethod
    def names(self, results: Results) -> tuple[str, ...]:
        """The arms that it speaks of."""

    @abc.abstractmethod
    def sentence(self, results: Results) -> str:
        """The claim in words, with its metric, direction and margin."""

    @abc.abstractmethod
    def samples(self, results: Results) -> Sequence[Sample]:
        """What has to hold, all of it."""

    @property
    @abc.abstractmethod
    def stated(self) -> float:
        """The margin or bar."""

    def measure(self, results: Results) -> str:
        """The metric it is about, on the split that claims are judged on."""
        own = getattr(self, "metric", None)
        return results.judged(own) if own else results.metric

    def judge(self, results: Results, level: float = 0.95) -> Verdict:
        """The verdict on this claim alone; the claims of one study belong together in `judge_all`."""
        return judge_all([self], results, level)[0]


@dataclasses.dataclass(frozen=True)
class _Outcome:
    sample: Sample
    word: Word
    interval: Interval
    p: float


def judge_all(claims: Iterable[Claim], results: Results, level: float = 0.95) -> tuple[Verdict, ...]:
    """The verdicts on all claims of a study, Holm-corrected over every comparison that they make.

    A diverged arm is worse than any finite one: diverging where the other side did not decides against a claim. If the
    other side diverged, the remaining seeds are tested, and cannot decide against the claim; with fewer than two of
    them the claim is supported if they agree with it.
    """
    claims = tuple(claims)
    samples = [tuple(claim.samples(results)) for claim in claims]
    flat = [sample for group in samples for sample in group]
    chances = [inside_outside(s.finite, *s.wanted) if s.tested else (math.nan, math.nan) for s in flat]
    raw = [min(1.0, 2 * min(pair)) if not math.isnan(pair[0]) else math.nan for pair in chances]
    corrected, levels = holm(raw), holm_levels(raw, level)
    outcomes = iter(
        [
            _decide(sample, inside < outside, float(p), float(at), 1 - level)
            for sample, (inside, outside), p, at in zip(flat, chances, corrected, levels, strict=True)
        ]
    )
    tests = sum(sample.tested for sample in flat)
    return tuple(
        _combine(claim, results, [next(outcomes) for _ in group], tests)
        for claim, group in zip(claims, samples, strict=True)
    )


def _decide(sample: Sample, inside: bool, p: float, level: float, alpha: float) -> _Outcome:
    if sample.every:
        return _every(sample)
    against = [value for value in sample.values if not math.isfinite(value) and not sample.holds(value)]
    ahead = [value for value in sample.values if not math.isfinite(value) and sample.holds(value)]
    interval = t_interval(sample.finite, level)
    if len(sample.values) < 2 or (against and ahead):
        return _Outcome(sample, "undecided", interval, math.nan)
    if against or (ahead and len(sample.finite) < 2 and all(map(sample.holds, sample.finite))):
        end = (against or ahead)[0]
        return _Outcome(
            sample, "not supported" if against else "supported", Interval(end, end, end, math.nan), math.nan
        )
    word: Word = "supported" if inside else "not supported"
    if not p <= alpha or (ahead and not inside):
        word = "undecided"
    return _Outcome(sample, word, interval, p)


def _every(sample: Sample) -> _Outcome:
    values = sample.values
    if not values:
        return _Outcome(sample, "undecided", Interval(math.nan, math.nan, math.nan, math.nan), math.nan)
    infinite = any(not math.isfinite(value) for value in values)
    mean = (sum(values) if infinite else math.fsum(values)) / len(values)
    word: Word = "undecided"
    if len(values) > 1:
        word = "supported" if all(map(sample.holds, values)) else "not supported"
    return _Outcome(sample, word, Interval(mean, min(values), max(values), math.nan), math.nan)


def _room(outcome: _Outcome) -> float:
    """How far inside its range the estimate lies; the hardest comparison has the least."""
    low, high = outcome.sample.wanted
    room = min(outcome.interval.estimate - low, high - outcome.interval.estimate)
    return room if not math.isnan(room) else -math.inf


def _combine(claim: Claim, results: Results, outcomes: Sequence[_Outcome], tests: int) -> Verdict:
    words = [outcome.word for outcome in outcomes]
    word: Word = "supported" if words else "undecided"
    if "not supported" in words:
        word = "not supported"
    elif "undecided" in words:
        word = "undecided"
    shown = min((outcome for outcome in outcomes if outcome.word == word), key=_room)
    sample, interval = shown.sample, shown.interval
    notes = list(sample.notes)
    if sample.every and sample.values:
        passed = sum(map(sample.holds, sample.values))
        notes.append(f"{passed} of {len(sample.values)} seeds pass; the range over seeds is shown")
    if len(sample.values) < 2 and (sample.values or not notes):
        notes.append("a verdict needs at least two seeds")
    if len(outcomes) > 1:
        notes.append(f"the hardest of {len(outcomes)} comparisons is shown")
    if tests > 1 and sample.tested:
        notes.append(f"corrected for {tests} comparisons")
    show = math.exp if sample.log else float
    return Verdict(
        claim=claim.sentence(results),
        verdict=word,
        estimate=show(interval.estimate),
        low=show(interval.low),
        high=show(interval.high),
        p=shown.p,
        margin=claim.stated,
        n=len(sample.values),
        note="; ".join(notes),
        effect=sample.effect,
        metric=claim.measure(results),
        wanted=(show(sample.wanted[0]), show(sample.wanted[1])),
        level=interval.level if sample.tested else math.nan,
    )
