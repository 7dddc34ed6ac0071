"""The sweep over learning rates: what each arm reached at each rate, and which was chosen."""

from __future__ import annotations

import dataclasses
import math

from experiments.study.claims.measured import cell_value
from experiments.study.report.table import Table, label
from experiments.study.report.tables import ordered
from experiments.study.results import Results


@dataclasses.dataclass(frozen=True)
class Rate:
    """What an arm reached at one rate.

    Attributes:
      rate: the peak learning rate.
      values: of the metric that chooses, one for each tuning seed that finished with a number.
      diverged: how many tuning seeds did not.
    """

    rate: float
    values: tuple[float, ...] = ()
    diverged: int = 0

    @property
    def mean(self) -> float:
        """NaN without values."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The rates that were tried for an arm, smallest first, and the one chosen; NaN if it is not known."""

    arm: str
    tried: tuple[Rate, ...]
    chosen: float

    @property
    def between(self) -> bool:
        """Whether the chosen rate is none of those tried."""
        return math.isfinite(self.chosen) and self.chosen not in [at.rate for at in self.tried]


def sweeps(results: Results) -> list[Sweep]:
    """Those of the arms that have one, in the order of the arms."""
    found: dict[str, dict[float, list[float]]] = {}
    for cell in results.cells:
        if cell.phase == "tune":
            value = cell_value(cell, chooses(results)) if cell.status == "finished" else None
            at = found.setdefault(cell.arm, {}).setdefault(cell.learning_rate, [])
            at.append(math.nan if value is None else value)
    chosen = {arm.name: arm.learning_rate for arm in results.arms}
    return [
        Sweep(arm, tuple(_rate(rate, values) for rate, values in sorted(found[arm].items())), chosen.get(arm, math.nan))
        for arm in ordered(results)
        if arm in found
    ]


def _rate(rate: float, values: list[float]) -> Rate:
    finite = tuple(filter(math.isfinite, values))
    return Rate(rate, finite, len(values) - len(finite))


def chooses(results: Results) -> str:
    """The metric that learning rates are chosen by."""
    return results.tuned_by or results.metric


def rates(results: Results) -> Table:
    """A row for each arm and rate; a chosen one that was not tried has no seeds."""
    rows = []
    for one in sweeps(results):
        every = [*one.tried, Rate(one.chosen)] if one.between else one.tried
        for at in sorted(every, key=lambda at: at.rate):
            mean = at.mean if at.values else None
            rows.append((one.arm, at.rate, mean, len(at.values) + at.diverged, at.diverged, at.rate == one.chosen))
    columns = ("arm", "learning rate", label(chooses(results)), "tuning seeds", "diverged", "chosen")
    return Table("rates", columns, tuple(rows))
