"""Seeds that are added until a study is decided: looks at its verdicts, with the error of all looks held at 5 %.

Who looks at 5 % after each seed decides wrongly in one study of six. Here every look has the same part of it (Pocock
1977), found by drawing studies without an effect: the level at which 5 % of them are decided at any look.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy import special

from arch.spec import Problem, Spec, at_least

DRAWS = 200_000


@dataclasses.dataclass(frozen=True)
class Until(Spec):
    """`seeds=Until("primary", most=12)`: as many as decide the study, `most` at most.

    Attributes:
      decided: "primary": the primary claim is; "all": all claims are.
      most: seeds of an arm.
      first: seeds at the first look.
      step: seeds from look to look. Few looks leave each a higher level.
    """

    decided: Literal["primary", "all"] = "primary"
    most: int = 12
    first: int = 3
    step: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 2, "first")
        yield from at_least(self, 1, "step")
        if self.decided not in ("primary", "all"):
            yield Problem("decided", self.decided, 'must be "primary" or "all"')
        if self.most < self.first:
            yield Problem("most", self.most, f"must be at least first={self.first}")

    @property
    def looks(self) -> tuple[int, ...]:
        """Seeds at each look, `most` at the last."""
        return (*range(self.first, self.most, self.step), self.most)

    def alpha(self, alpha: float = 0.05) -> float:
        """Two-sided level of each look with which all have `alpha` together."""
        return _level(self.looks, alpha)


@functools.cache
def _level(looks: tuple[int, ...], alpha: float) -> float:
    """The quantile of the smallest p of paired t-tests after `looks` seeds, without an effect."""
    if len(looks) == 1:
        return alpha
    smallest = np.ones(DRAWS)
    rng = np.random.default_rng(0)
    total, squares, seen = np.zeros(DRAWS), np.zeros(DRAWS), 0
    for count in looks:
        while seen < count:
            drawn = rng.standard_normal(DRAWS)
            total, squares, seen = total + drawn, squares + drawn**2, seen + 1
        variance = (squares - total**2 / count) / (count - 1)
        t = np.abs(total / count) / np.sqrt(variance / count)
        smallest = np.minimum(smallest, 2 * special.stdtr(count - 1, -t))
    return float(np.quantile(smallest, alpha))
