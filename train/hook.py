"""What else a training does after some of its steps: the contract of `train.loop.train(hooks=...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from train.trained import TrainedRun


class Hook(Protocol):
    """Called between two steps, once the metrics, evaluation and checkpoint of the first are written; in every process.
    Its time is not counted into the speed. What it raises ends the training."""

    def due(self, step: int, steps: int) -> bool:
        """Whether it is called after `step` of `steps`, counted from 1."""

    def __call__(self, opened: TrainedRun, note: Callable[[str], None]) -> None:
        """Reads the run as it is after a step; the arrays are given up at the next one. `note` shows a line.

        A resumed run calls it for the step that it resumes from too, if it is due there: it may have been interrupted.
        """
