"""From cells to what claims are judged by: one number a seed, differences taken within a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from experiments.study.measured import known, lower_is_better, metric_values
from experiments.study.results import Results
from experiments.study.verdicts import Claim, Sample

_INF = math.inf


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
    """sign * (arm - than) within each shared seed, of logarithms if `log`. Infinite where one side alone diverged."""
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
    worse = _INF if log else -_INF
    values, seeds = [], []
    for seed in shared:
        x, y = a[seed], b[seed]
        if math.isnan(x) and math.isnan(y):
            continue
        seeds.append(seed)
        if math.isnan(x) or math.isnan(y):
            values.append(worse if math.isnan(x) else -worse)
        else:
            values.append(sign * (math.log(x) - math.log(y) if log else x - y))
    if len(values) < len(shared):
        count = len(shared) - len(values)
        notes.append(f"{count} {'seed' if count == 1 else 'seeds'} left out, where both diverged")
    return Sample(tuple(values), wanted, effect, tuple(notes), log, seeds=tuple(seeds))


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
