"""What a study can decide, computed before it is trained: the smallest effect that 4 of 5 such studies would decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from scipy import optimize, special

from experiments.study.claims.judge import ALPHA
from experiments.study.claims.until import Until
from experiments.study.results import Arm, Cell, Results
from experiments.study.study import Study
from experiments.study.sweeps.tuning import curves, noise

POWER = 0.8


class _Ones(dict):
    """Metrics of every name, all 1."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> float:
        return 1.0


def lines(study: Study) -> Iterator[str]:
    """What the primary claim and those behind it can decide, in standard deviations of a difference between two arms
    within a seed."""
    count, alpha = study.most_seeds, level(study)
    if study.primary is None or count < 2:
        return
    primary, others = comparisons(study)
    pooled = _pooled(study)
    told = smallest(count, primary, pooled, alpha)
    most = f"{count} seeds at most" if isinstance(study.seeds, Until) else f"{count} seeds"
    yield f"{most} decide the primary claim in 4 of 5 studies if its effect is {told:.2g} sd of a paired difference"
    if others:
        told = smallest(count, others, pooled, alpha)
        plural = "comparison" if others == 1 else "comparisons"
        yield f"and the {others} {plural} behind it at {told:.2g} sd"


def in_units(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """The same in the metric, by the noise of the learning-rate sweep."""
    spread = math.sqrt(2 * noise(list(curves(cells, study.metric, study.lower).values())))
    if spread and study.primary is not None and study.most_seeds > 1:
        primary, _ = comparisons(study)
        told = spread * smallest(study.most_seeds, primary, _pooled(study), level(study))
        yield f"by the noise of the sweep that is about {told:.2g} in {study.metric} for the primary claim"


def _pooled(study: Study) -> int:
    """Of how many arms the noise is taken together. Of two seeds each the tests of equal noise object to any."""
    return len(study.arms) if study.has_one_data and study.most_seeds > 2 else 2


def level(study: Study) -> float:
    """Two-sided level of a look."""
    return study.seeds.alpha(ALPHA) if isinstance(study.seeds, Until) else ALPHA


def comparisons(study: Study) -> tuple[int, int]:
    """How many comparisons the primary claim makes, and how many others there are."""
    cells = [Cell(arm, "seeds", seed, 1.0, "finished", _Ones()) for arm in study.arms for seed in (0, 1)]
    arms = [Arm(arm, {}, 1.0) for arm in study.arms]
    results = Results("", "", study.metric, study.lower, arms, cells, tuned_by=study.metric)
    tested = [[s.contrast for s in claim.samples(results)] for claim in study.claims if not claim.is_bar]
    lead = set(tested[0]) if tested else set()
    return len(lead), len({key for group in tested for key in group} - lead)


def smallest(seeds: int, comparisons: int, arms: int, alpha: float = ALPHA) -> float:
    """The effect, in standard deviations of a paired difference, that one of `comparisons` t-tests decides with
    probability `POWER`; with three arms and more their noise is taken together."""
    df = (seeds - 1) * max(arms - 1, 1)
    bound = special.stdtrit(df, 1 - alpha / comparisons / 2)
    power = lambda effect: 1 - special.nctdtr(df, effect * math.sqrt(seeds), bound) - POWER  # noqa: E731
    high = 0.5
    while power(high) < 0:  # a bracket far above the answer leaves the range of the distribution
        high *= 1.5
    return float(optimize.brentq(power, 0.0, high))
