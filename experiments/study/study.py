"""A study: a claim about architectures, and the arms that put it to the test.

What `get_config` of a study file returns. The engine (`engine.py`) sweeps each arm's learning rate, trains the seeds
at the best one, judges the claims and writes the report.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from arch.spec import Problem, Spec, above, at_least
from experiments.study.claims.measured import direction_of
from experiments.study.claims.until import Until
from experiments.study.claims.verdicts import Claim
from experiments.study.from_arm import from_arm_problems
from experiments.study.match import Match, mismatch
from experiments.study.panels.panels import panel_problems
from experiments.suites.base import Score
from train.run import Run

TUNING_SEED = 1000
"""The first seed of learning-rate sweeps: they are none of those that claims are judged on."""

EXTENSIONS = 2
"""How often a grid of rates is made longer at each end."""


@dataclasses.dataclass(frozen=True)
class Study(Spec):
    """A comparison.

    Attributes:
      question: of the study, in a sentence.
      arms: name -> run. Their seeds and, where `learning_rates` are given, their learning rates are the study's.
      claims: what is judged; the first that is a test is the primary one, and goes before the others (`judge.py`).
      match: what all arms must have in common, checked before anything is trained; None: nothing.
      learning_rates: tried for each arm, the best on validation is taken (`tuning.py`); empty: each arm keeps its own.
        Where the best of an arm is the lowest or highest, all arms try one further, `EXTENSIONS` times at most.
      tuning_seeds: how many times each arm is trained at each rate.
      seeds: how many times each arm is trained; seed s has the same data in the same order for all arms. `Until`: as
        many as it takes.
      metric: what arms are tuned by, on validation; where all data have a test split, arms are compared and claims
        judged by the same metric of that, test/NAME for val/NAME.
      lower_is_better: of the metric; None: as its name tells.
      diagnostics: names of per-layer panels (see `panels.py`) taken of every trained seed.
      diagnostic_rows: validation rows that panels are taken of, in whole batches: their mean over these.
      suite: scores taken of every trained seed on the split that claims are judged on: `suite/NAME`.
      memory: GiB that the replicas trained side by side may take on a device; None: all of an arm at once.
      paper: published numbers, rows of name -> value, shown beside the measured ones.
      notes: what a reader must know.
    """

    question: str
    arms: Mapping[str, Run]
    claims: tuple[Claim, ...] = ()
    match: Match | None = None
    learning_rates: tuple[float, ...] = ()
    tuning_seeds: int = 3
    seeds: int | Until = 3
    metric: str = "val/bits_per_byte"
    lower_is_better: bool | None = None
    diagnostics: tuple[str, ...] = ()
    diagnostic_rows: int = 64
    suite: tuple[Score, ...] = ()
    memory: float | None = None
    paper: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    names_code = ("diagnostics",)

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "tuning_seeds", "diagnostic_rows", *(["seeds"] if type(self.seeds) is int else []))
        if self.most_seeds > TUNING_SEED:
            yield Problem("seeds", self.seeds, f"must be at most {TUNING_SEED}, where the seeds of tuning begin")
        yield from above(self, 0, "memory")
        if not self.arms:
            yield Problem("arms", self.arms, "must hold at least one run")
        for name in self.arms:
            if not name or "/" in name:
                yield Problem("arms", name, "names of arms must not be empty or hold a slash")
        yield from from_arm_problems(self.arms)
        rates = self.learning_rates
        if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
            yield Problem("learning_rates", rates, "must be different, greater than 0 and finite")
        if "/" not in self.metric or self.metric.startswith("test/"):
            allowed = 'must begin with "val/", "train/" or the name of a further set of the data'
            yield Problem("metric", self.metric, f"{allowed}; claims are judged on test by themselves")
        if self.lower_is_better is None and direction_of(self.metric) is None:
            yield Problem("lower_is_better", None, f"must be given: the name {self.metric} does not tell")
        yield from panel_problems(self.diagnostics)
        for index, one in enumerate(self.suite):
            for name, run in self.arms.items():
                if why := one.refusal(run):
                    yield Problem(f"suite.{index}", type(one).__name__, f"must suit arm {name}: {why}")
        without = [name for name, run in self.arms.items() if self.suite and "test" not in run.data.describe().splits]
        if 0 < len(without) < len(self.arms):
            told = "needs arms that all have a test split, or none: scores are of the split that claims are judged on"
            yield Problem("suite", ", ".join(without), told)
        if self.match is not None:
            yield from mismatch(self.match, self.arms)
        for index, claim in enumerate(self.claims):
            yield from _claim_problems(f"claims.{index}", claim, self.arms)

    @property
    def lower(self) -> bool:
        """Whether a lower metric is better."""
        return bool(direction_of(self.metric)) if self.lower_is_better is None else self.lower_is_better

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of seeds at which the verdicts are looked at."""
        return self.seeds.looks if isinstance(self.seeds, Until) else (self.seeds,)

    @property
    def most_seeds(self) -> int:
        """Seeds of an arm, at most."""
        return self.looks[-1]

    @property
    def primary(self) -> Claim | None:
        """The claim that is tested first."""
        return next((claim for claim in self.claims if not claim.is_bar), None)

    @property
    def has_one_data(self) -> bool:
        """Whether all arms are trained on the same data."""
        return len({repr(run.data) for run in self.arms.values()}) == 1

    @property
    def has_test(self) -> bool:
        """Whether the data of every arm has a test split."""
        return all("test" in run.data.describe().splits for run in self.arms.values())


def _claim_problems(path: str, claim: Claim, arms: Mapping[str, Run]) -> Iterator[Problem]:
    """What is wrong with a claim on these arms."""
    said: list[Any] = [getattr(claim, field, None) for field in ("arm", "than", "to")]
    named = [str(arm) for arm in (*said, *getattr(claim, "arms", ())) if arm is not None]
    for arm in named:
        if arm not in arms:
            yield Problem(path, arm, f"is no arm; there are {', '.join(arms)}")
    if len(set(named)) < len(named):
        yield Problem(path, ", ".join(named), "compares an arm with itself")
    metric = getattr(claim, "metric", None)
    compares = hasattr(claim, "lower_is_better") and claim.lower_is_better is None
    if metric is not None and compares and direction_of(metric) is None:
        yield Problem(f"{path}.lower_is_better", None, f"must be given: the name {metric} does not tell")
    for index, part in enumerate(getattr(claim, "parts", ())):
        yield from _claim_problems(f"{path}.parts.{index}", part, arms)
