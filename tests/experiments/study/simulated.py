"""An executor that draws what training would have measured, so that the whole engine runs in moments."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from experiments.study.engine import RATE
from experiments.study.results import Cell
from experiments.study.work.tasks import from_task

METRIC = "val/bits_per_byte"
Loss = Callable[[str, int, float], float]
"""Arm, seed and learning rate -> the metric; NaN: it diverged."""


@dataclasses.dataclass
class Simulated:
    """`loss` of each cell; `trained` are the cells in the order in which they were asked for."""

    loss: Loss
    trained: list[tuple[str, str, int, float]] = dataclasses.field(default_factory=list)

    def run(self, tasks, work, note):
        for task in tasks:
            group, cells = from_task(task)
            cells.finish(group, [self._cell(group.arm, group.phase, row) for row in group.rows])
        return []

    def _cell(self, arm: str, phase, row: Mapping[str, float]) -> Cell:
        seed, rate = int(row["seed"]), float(row[RATE])
        self.trained.append((arm, phase, seed, rate))
        value = self.loss(arm, seed, rate)
        status = "diverged" if math.isnan(value) else "finished"
        return Cell(arm, phase, seed, rate, status, {METRIC: value, "val/loss": value})


def noisy(means: Mapping[str, float], scale: float, draw: int = 0) -> Loss:
    """Means of arms at any rate, with noise of their own for each cell."""

    def loss(arm: str, seed: int, rate: float) -> float:
        return means[arm] + scale * np.random.default_rng([draw, seed, *map(ord, arm)]).standard_normal()

    return loss
