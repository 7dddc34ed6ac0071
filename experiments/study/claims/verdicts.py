"""What a claim is, and what a verdict on it says. How it is reached is in `judge.py`."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from arch.spec import Spec
from experiments.study.claims.samples import Sample
from experiments.study.results import Results

Word = Literal["supported", "not supported", "undecided"]
Role = Literal["primary", "secondary", "bar"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was decided about one claim.

    Attributes:
      claim: the claim as a sentence.
      verdict: "supported" if the effect lies within `wanted`, "not supported" if outside, else "undecided".
      estimate: the effect; `low` and `high`: its interval at `level`, so that all intervals of the same `role` hold
        together in 95 % of studies. Of a bar, the smallest and largest seed.
      p: two-sided and corrected: the claim is decided where it is at most 0.05 and nothing in `note` keeps it from that
        (an undecided primary claim before it, a baseline that no arm beats); NaN where nothing was tested.
      margin: the number that the claim states: a margin or a bar.
      n: seeds behind the estimate.
      note: divergences, and whatever else a reader has to know.
      effect: what the estimate is, in words.
      metric: what was measured.
      wanted: the range in which the claim says the effect lies.
      level: of the interval; NaN where the range over seeds is shown.
      role: "primary" is tested first, at full level; "secondary" behind it; "bar" is no test: it says what the seeds
        that were trained did, and nothing of others.
      errors: what the interval has room for: "seeds", "rows", "learning rates".
      df: degrees of freedom that its width is known with.
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
    role: Role = "secondary"
    errors: tuple[str, ...] = ()
    df: float = math.nan

    def plain(self) -> dict[str, Any]:
        """As `Results.verdicts` holds it."""
        return dataclasses.asdict(self) | {"wanted": list(self.wanted), "errors": list(self.errors)}

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> Verdict:
        """What `plain` gave."""
        return cls(**{**fields, "wanted": tuple(fields["wanted"]), "errors": tuple(fields.get("errors", ()))})


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

    @property
    def is_bar(self) -> bool:
        """Whether every seed has to pass, which is no test."""
        return bool(getattr(self, "every_seed", False))

    def measure(self, results: Results) -> str:
        """The metric it is about, on the split that claims are judged on."""
        own = getattr(self, "metric", None)
        return results.judged(own) if own else results.metric
