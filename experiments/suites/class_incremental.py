"""Class-incremental evaluation: what a model knew of each phase's classes after each phase of training.

R_ij is the accuracy on the classes of phase j after training on phase i, both from 1 to T:

    average accuracy   (1/T) sum_j R_Tj                                    (GEM, arXiv 1706.08840, eq. 2)
    backward transfer  (1/(T-1)) sum_{j<T} R_Tj - R_jj                     (GEM, eq. 3)
    forgetting         (1/(T-1)) sum_{j<T} max_{i<T} R_ij - R_Tj           (Chaudhry et al., arXiv 1801.10112, eq. 3)

R is read from the curve of training: the data have the sets of each phase (`train.data.WithClassSets`), and the run is
evaluated at the end of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from arch.models.base import Classification
from arch.spec import Problem, UserError, at_least
from experiments.suites.base import Asked, Score
from experiments.suites.exhibits import Exhibit, Matrix, rounded
from train.data.order import ClassIncremental as InPhases
from train.run import Run

SET = "phase{}"


@dataclasses.dataclass(frozen=True)
class ClassIncremental(Score):
    """`average_accuracy`, `backward_transfer_score` and `forgetting_error` of a run in phases of equal length; of runs
    whose data have no sets of phases, nothing.

    `phases`: T. `metric`: of the sets, R.
    """

    kinds: ClassVar[tuple[type, ...]] = (Classification,)

    phases: int = 5
    metric: str = "accuracy"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 2, "phases")

    def refusal(self, run: Run) -> str:
        if not self._has_sets(run):
            return super().refusal(run)
        ends = phase_ends(run.steps, self.phases)
        if SET.format(self.phases + 1) in run.data.describe().splits:
            return f"ClassIncremental(phases={self.phases}) is of all phases, and the data have sets of more"
        order = getattr(run.data, "order", None)
        if isinstance(order, InPhases) and order.read < run.steps * run.batch != self.phases * order.read:
            steps = self.phases * order.read / run.batch
            told = (
                f"{self.phases} of read={order.read} rows are {steps:g} steps of {run.batch}, the run has {run.steps}"
            )
            return f"ClassIncremental needs the phases that the data are read in: {told}"
        if any(end % (run.logging.evaluate or run.steps) for end in ends[:-1]):
            return f"ClassIncremental needs an evaluation at the end of each phase: evaluate every {ends[0]} steps"
        return super().refusal(run)

    def _has_sets(self, run: Run) -> bool:
        return {SET.format(number) for number in range(1, self.phases + 1)} <= set(run.data.describe().splits)

    def measure(self, asked: Asked) -> dict[str, float]:
        if not self._has_sets(asked.run):
            return {}
        found = self._matrix(asked)
        return {
            "average_accuracy": average(found),
            "backward_transfer_score": backward_transfer(found),
            "forgetting_error": forgetting(found),
        }

    def show(self, asked: Asked) -> Iterator[Exhibit]:
        if not self._has_sets(asked.run):
            return
        names = [str(number) for number in range(1, self.phases + 1)]
        values = rounded(self._matrix(asked))
        yield Matrix(f"{self.metric} by phase", names, names, values, "phase trained", "phase tested")

    def _matrix(self, asked: Asked) -> np.ndarray:
        return matrix(asked.curve, asked.run.steps, self.phases, self.metric)


def phase_ends(steps: int, phases: int) -> list[int]:
    """The step after which each phase of a run ends."""
    return [round(steps * number / phases) for number in range(1, phases + 1)]


def matrix(curve: Sequence[Mapping[str, float]], steps: int, phases: int, metric: str = "accuracy") -> np.ndarray:
    """R [phase trained, phase tested] of a curve. Raises UserError for one without an evaluation after each phase."""
    lines: dict[int, dict[str, float]] = {}
    for line in curve:
        lines.setdefault(int(line["step"]), {}).update(line)
    names = [f"{SET.format(number)}/{metric}" for number in range(1, phases + 1)]
    found = []
    for end in phase_ends(steps, phases):
        missing = [name for name in names if name not in lines.get(end, {})]
        if missing:
            raise UserError(f"ClassIncremental: no {missing[0]} was measured after step {end}, the end of a phase; "
                            "it is taken of models that a study has just trained")  # fmt: skip
        found.append([lines[end][name] for name in names])
    return np.array(found)


def average(found: np.ndarray) -> float:
    """Mean accuracy over all phases after the last."""
    return float(np.mean(found[-1]))


def backward_transfer(found: np.ndarray) -> float:
    """How much the accuracy on a phase has changed since its end; negative where it was forgotten."""
    return float(np.mean(found[-1, :-1] - np.diag(found)[:-1]))


def forgetting(found: np.ndarray) -> float:
    """How far the accuracy on a phase has fallen from its best before the last phase."""
    return float(np.mean(np.max(found[:-1, :-1], axis=0) - found[-1, :-1]))
