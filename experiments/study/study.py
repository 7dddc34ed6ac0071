"""A study: a claim about architectures, and the arms that put it to the test.

What `get_config` of a study file returns. The engine (`engine.py`) sweeps each arm's learning rate, trains the seeds
at the best one, judges the claims and writes the report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from arch.spec import Problem, Spec, above, at_least
from experiments.study.claims import Claim
from experiments.study.match import Match, mismatch
from experiments.study.panels import panel_problems
from train.run import Run

TUNING_SEED = 1000
"""The seed of learning-rate sweeps: none of those that claims are judged on."""


@dataclasses.dataclass(frozen=True)
class Study(Spec):
    """A comparison.

    Attributes:
      question: what is asked, in a sentence.
      arms: name -> run. Their seeds and, where `learning_rates` are given, their learning rates are the study's.
      claims: what is judged.
      match: what all arms must have in common, checked before anything is trained; None: nothing.
      learning_rates: tried for each arm, the best on validation is taken; empty: each arm keeps its own.
      seeds: how many times each arm is trained; seed s has the same data in the same order for all arms.
      metric: what arms are tuned by, on validation; where all data have a test split, arms are compared and claims
        judged by the same metric of that, test/NAME for val/NAME.
      lower_is_better: of the metric.
      diagnostics: names of per-layer panels (see `panels.py`) taken of every trained seed.
      diagnostic_rows: validation rows that panels are taken of, in whole batches: their mean over these.
      memory: GiB that the replicas trained side by side may take on a device; None: all of an arm at once.
      paper: published numbers, rows of name -> value, shown beside the measured ones.
      notes: what a reader must know.
    """

    question: str
    arms: Mapping[str, Run]
    claims: tuple[Claim, ...] = ()
    match: Match | None = None
    learning_rates: tuple[float, ...] = ()
    seeds: int = 3
    metric: str = "val/bits_per_byte"
    lower_is_better: bool = True
    diagnostics: tuple[str, ...] = ()
    diagnostic_rows: int = 64
    memory: float | None = None
    paper: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "seeds", "diagnostic_rows")
        yield from above(self, 0, "memory")
        if not self.arms:
            yield Problem("arms", self.arms, "must hold at least one run")
        for name in self.arms:
            if not name or "/" in name:
                yield Problem("arms", name, "names of arms must not be empty or hold a slash")
        rates = self.learning_rates
        if any(rate <= 0 for rate in rates) or len(set(rates)) < len(rates):
            yield Problem("learning_rates", rates, "must be different and greater than 0")
        if "/" not in self.metric or self.metric.startswith("test/"):
            allowed = 'must begin with "val/", "train/" or the name of a further set of the data'
            yield Problem("metric", self.metric, f"{allowed}; claims are judged on test by themselves")
        yield from panel_problems(self.diagnostics)
        if self.match is not None:
            yield from mismatch(self.match, self.arms)
        for index, claim in enumerate(self.claims):
            named = [getattr(claim, field, None) for field in ("arm", "than", "to")] + list(getattr(claim, "arms", ()))
            for arm in named:
                if arm is not None and arm not in self.arms:
                    yield Problem(f"claims.{index}", arm, f"is no arm; there are {', '.join(self.arms)}")

    @property
    def has_test(self) -> bool:
        """Whether the data of every arm has a test split."""
        return all("test" in run.data.describe().splits for run in self.arms.values())
