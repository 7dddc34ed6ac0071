"""From claims to verdicts: supported, not supported, or undecided, never more than the seeds can carry.

The first claim that is a test is the primary one. It is tested at full level, the others behind it by Holm's method,
and only if it is decided (fixed sequence). What is counted are comparisons, not claims: several claims on one
comparison are read off one interval. Bars, which every seed has to pass, are no tests and do not count.

Divergence is an outcome of its own: the finite seeds are tested, and beside them, by Fisher's exact test, whether one
side diverges more often; where there is any, both have half the level. A claim of arms none of which is better than
the baseline that a model has to beat is undecided: what does worse than counting says nothing of architectures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Sequence

from experiments.study.claims.measured import bar, lower_is_better, metric_values
from experiments.study.claims.samples import Sample
from experiments.study.claims.spread import Spreads
from experiments.study.claims.statistics import Estimate, Interval, Step, holm_steps
from experiments.study.claims.verdicts import Claim, Role, Verdict, Word
from experiments.study.results import Results

ALPHA = 0.05
"""Of all that a study decides; where verdicts are looked at several times, each look has a part of it."""

_UNKNOWN = Interval(math.nan, math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True)
class _Question:
    """A sample and what a test says of it.

    Attributes:
      inside, outside: one-sided p that the effect lies in the claimed range, and out of it; NaN: not tested.
      why_not: why it is not decided whatever its p.
    """

    sample: Sample
    estimate: Estimate | None = None
    inside: float = math.nan
    outside: float = math.nan
    why_not: str = ""

    @property
    def p(self) -> float:
        """Two-sided."""
        return min(1.0, 2 * min(self.inside, self.outside))

    @property
    def tested(self) -> bool:
        return not math.isnan(self.inside) and not self.why_not


def judge_all(
    claims: Iterable[Claim], results: Results, level: float | None = None, primary: bool = True
) -> tuple[Verdict, ...]:
    """The verdicts on all claims of a study.

    Args:
      claims: the primary one first.
      results: what was measured.
      level: of the study; None: that of `results`, which looked at its verdicts more than once if seeds were added.
      primary: whether the first claim that is a test goes before the others; else all are tested together.
    """
    claims, spreads = tuple(claims), Spreads(results)
    alpha = 1 - (results.level if level is None else level)
    asked = [tuple(_question(s, spreads, _direction(claim)) for s in claim.samples(results)) for claim in claims]
    first = next((index for index, claim in enumerate(claims) if primary and not claim.is_bar), -1)
    lead = {} if first < 0 else _steps([asked[first]], alpha)
    closed = first >= 0 and _word([_decide(q, lead) for q in asked[first]]) == "undecided"
    behind = _steps([[q for q in group if q.sample.contrast not in lead] for group in asked], alpha)
    verdicts = []
    for index, (claim, group) in enumerate(zip(claims, asked, strict=True)):
        leads = index == first or all(question.sample.contrast in lead for question in group)
        steps = lead if leads else {**behind, **lead}
        shut = closed and not leads
        outcomes = [(question, _decide(question, steps, shut)) for question in group]
        role: Role = "primary" if index == first else "secondary"
        family = len(lead) if leads else len(behind)
        verdicts.append(_combine(claim, results, outcomes, steps, role, family, shut, alpha))
    return tuple(verdicts)


def judge(claim: Claim, results: Results, level: float | None = None) -> Verdict:
    """The verdict on one claim alone; the claims of one study belong together in `judge_all`."""
    return judge_all([claim], results, level)[0]


def _direction(claim: Claim) -> bool | None:
    """Whether lower is better, where the claim says so."""
    given: bool | None = getattr(next(iter(getattr(claim, "parts", ())), claim), "lower_is_better", None)
    return given


def _question(sample: Sample, spreads: Spreads, lower: bool | None = None) -> _Question:
    """What a test says of a sample. `lower`: whether lower is better; None: as the metric's name tells."""
    if sample.every or len(sample.values) < 2:
        return _Question(sample)
    estimate, inside, outside = None, 1.0, 1.0
    if len(sample.finite) > 1:
        estimate = spreads.estimate(sample)
        inside, outside = estimate.inside_outside(*sample.wanted)
    if sample.lost.any:
        ahead, against = sample.lost.chances()
        inside, outside = (min(1.0, 2 * min(pair)) for pair in ((inside, ahead), (outside, against)))
        if not sample.lost.than_of:  # a mean over seeds of which some have no value
            inside = 1.0
            outside = 0.0 if len(sample.lost.arm) == len(sample.values) else outside
    return _Question(sample, estimate, inside, outside, _below(sample, spreads.results, lower))


def _below(sample: Sample, results: Results, lower: bool | None) -> str:
    """Which baseline no arm of the sample beats, if so."""
    if len(sample.weights) < 2:
        return ""
    found = {}
    for arm in results.arms:
        if arm.name in sample.weights:
            beat = bar(results, arm, sample.metric, lower)
            values = [v for v in metric_values(results, arm.name, sample.metric).values() if math.isfinite(v)]
            if beat is None or not values:
                return ""
            name, value = beat
            mean = math.fsum(values) / len(values)
            better = lower_is_better(results, sample.metric) if lower is None else lower
            if (mean < value) == better and mean != value:
                return ""
            found[name] = value
    told = ", ".join(f"{name} ({value:.4g})" for name, value in found.items())
    return f"no arm beats the baseline: {told}" if told else ""


def _steps(groups: Sequence[Sequence[_Question]], alpha: float) -> dict[Hashable, Step]:
    """Comparison -> what it has to reach."""
    p_values: dict[Hashable, list[float]] = {}
    for question in (question for group in groups for question in group):
        if question.tested:
            p_values.setdefault(question.sample.contrast, []).append(question.p)
    return holm_steps(p_values, alpha)


def _decide(question: _Question, steps: dict[Hashable, Step], shut: bool = False) -> Word:
    sample = question.sample
    if sample.every:
        if len(sample.values) < 2:
            return "undecided"
        return "supported" if all(map(sample.holds, sample.values)) else "not supported"
    step = steps.get(sample.contrast)
    if not question.tested or step is None or shut:
        return "undecided"
    half = step.alpha / 2
    inside, outside = question.inside <= half, question.outside <= half
    if inside and outside:  # finite seeds and divergences disagree: arms that diverge unequally are not equivalent
        return "not supported" if sample.lost.speak == "apart" else "undecided"
    return "supported" if inside else "not supported" if outside else "undecided"


def _word(words: Sequence[Word]) -> Word:
    if "not supported" in words:
        return "not supported"
    return "undecided" if "undecided" in words or not words else "supported"


def _interval(question: _Question, family: int, alpha: float) -> Interval:
    """What is shown: of `family` comparisons together, or the range over seeds."""
    values = question.sample.values
    if question.sample.every and values:
        infinite = any(not math.isfinite(value) for value in values)
        mean = (sum(values) if infinite else math.fsum(values)) / len(values)
        return Interval(mean, min(values), max(values), math.nan)
    if question.estimate is not None:
        return question.estimate.interval(1 - alpha / max(family, 1))
    finite = question.sample.finite
    return dataclasses.replace(_UNKNOWN, estimate=finite[0]) if finite else _UNKNOWN


def _combine(
    claim: Claim,
    results: Results,
    outcomes: Sequence[tuple[_Question, Word]],
    steps: dict[Hashable, Step],
    role: Role,
    family: int,
    shut: bool,
    alpha: float,
) -> Verdict:
    word = _word([one for _, one in outcomes])
    shown = [(question, _interval(question, family, alpha)) for question, one in outcomes if one == word]
    question, interval = min(shown or [(outcomes[0][0], _UNKNOWN)], key=lambda pair: _room(*pair))
    sample, step = question.sample, steps.get(question.sample.contrast)
    show = math.exp if sample.log else float
    notes = _notes(results, question, outcomes, family, shut)
    if word != "undecided" and _in_turn(sample, step, family, alpha) and _straddles(sample, interval):
        notes.append("decided in its turn (Holm); the interval, which holds together with the others, is wider")
    return Verdict(
        claim=claim.sentence(results),
        verdict=word,
        estimate=show(interval.estimate),
        low=show(interval.low),
        high=show(interval.high),
        p=min(1.0, question.p * step.factor * ALPHA / alpha) if question.tested and step else math.nan,
        margin=claim.stated,
        n=len(sample.values),
        note="; ".join(notes),
        effect=sample.effect,
        metric=claim.measure(results),
        wanted=(show(sample.wanted[0]), show(sample.wanted[1])),
        level=interval.level,
        role="bar" if sample.every else role,
        errors=tuple(question.estimate.errors) if question.estimate else (),
        df=question.estimate.df if question.estimate else math.nan,
    )


def _in_turn(sample: Sample, step: Step | None, family: int, alpha: float) -> bool:
    """Whether a comparison had more of the level than an equal share, and only finite seeds to be decided by."""
    return step is not None and step.alpha > alpha / max(family, 1) and not sample.lost.any


def _straddles(sample: Sample, interval: Interval) -> bool:
    """Whether the interval lies partly in the claimed range and partly out of it."""
    low, high = sample.wanted
    return interval.low < low < interval.high or interval.low < high < interval.high


def _notes(
    results: Results, question: _Question, outcomes: Sequence[tuple[_Question, Word]], family: int, shut: bool
) -> list[str]:
    sample = question.sample
    notes = list(sample.notes)
    if sample.every and sample.values:
        passed = sum(map(sample.holds, sample.values))
        notes.append(f"a bar, not a test: {passed} of {len(sample.values)} seeds pass; the range over seeds is shown")
    if len(sample.values) < 2 and (sample.values or not notes):
        notes.append("a verdict needs at least two seeds")
    if question.why_not:
        notes.append(f"no conclusion: {question.why_not}")
    if shut and not sample.every:
        notes.append("stands behind the primary claim, which is undecided")
    finite = sample.finite
    if not sample.every and len(finite) > 1 and max(finite) - min(finite) <= 1e-12 * max(map(abs, finite)):
        notes.append("no spread over seeds was seen; the metric's resolution is taken for it")
    if question.estimate and "rows" not in question.estimate.errors and sample.metric.startswith(("val/", "test/")):
        notes.append("speaks of other seeds on these rows, not of other rows")
    if len(outcomes) > 1:
        notes.append(f"the hardest of {len(outcomes)} comparisons is shown")
    if family > 1 and question.tested:
        notes.append(f"corrected for {family} comparisons")
    edges = [arm.name for arm in results.arms if arm.at_edge and arm.name in sample.weights]
    if edges and not sample.every:
        notes.append(f"the learning rate of {', '.join(edges)} is at the edge of its grid")
    return notes


def _room(question: _Question, interval: Interval) -> float:
    """How far inside its range the estimate lies; the hardest comparison has the least."""
    low, high = question.sample.wanted
    room = min(interval.estimate - low, high - interval.estimate)
    return room if not math.isnan(room) else -math.inf
