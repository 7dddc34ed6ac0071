"""What a study found, as plain data: every trained cell, how the arms were made comparable, and what was decided.

`results.json` of a study folder is a `Results`; statistics, report and tables are made from it alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from experiments.study.plain import back, plain
from experiments.suites.exhibits import Matrix, Pictures

Phase = Literal["tune", "seeds"]
Status = Literal["finished", "diverged"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One trained replica.

    Attributes:
      arm: name of the arm.
      phase: "tune" (learning-rate sweep) or "seeds" (what the claims are judged on).
      seed: of parameters, data order and dropout; arms with one seed see the same batches.
      learning_rate: the peak.
      status: "diverged" if a step was not finite; its metrics are then those before that step.
      metrics: name -> value at the end: "val/loss", "test/loss", "val/bits_per_byte", "train/loss", ...
      curve: metrics along the way, each with "step"; names as in a run's metrics.jsonl, "train/..." and "val/...".
      diagnostics: name -> one value a layer, first layer first; empty where none were computed.
      stretches: metric -> its pseudo-value on each stretch of the split that claims are judged on (`stretches.py`);
        empty for a tuning run, and where the split is too short.
      matrices, pictures: what its scores show (`experiments/suites/exhibits.py`).
      seconds: the cell's share of the process that finished its program, compiling included.
    """

    arm: str
    phase: Phase
    seed: int
    learning_rate: float
    status: Status
    metrics: Mapping[str, float]
    curve: Sequence[Mapping[str, float]] = ()
    diagnostics: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    stretches: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    matrices: Sequence[Matrix] = ()
    pictures: Sequence[Pictures] = ()


@dataclasses.dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
      name: as the study calls it.
      shape: what was varied or matched, name -> number or text: width, depth, heads, parameters, flops, error, ...
      learning_rate: the one chosen for the seeds.
      tried: the learning rates of its sweep; empty if there was none.
      at_edge: whether the chosen one is the smallest or largest tried.
      data: names what it was trained on; arms of the same data have the same rows.
    """

    name: str
    shape: Mapping[str, float | int | str]
    learning_rate: float
    tried: Sequence[float] = ()
    at_edge: bool = False
    data: str = ""


@dataclasses.dataclass(frozen=True)
class Results:
    """All of a study.

    Attributes:
      name: of the study.
      question: in a sentence.
      metric: what arms are compared by, e.g. "test/bits_per_byte".
      lower_is_better: of that metric.
      arms: in the order of the study.
      cells: all that were trained.
      verdicts: one for each claim, as `claims.Verdict` has it in plain data.
      paper: numbers that were published, rows of name -> value, shown beside the measured ones.
      notes: what a reader has to know: what was cut for a small scale, arms left out.
      provenance: versions, git state, hardware, wall time.
      tuned_by: what learning rates are chosen by, e.g. "val/bits_per_byte"; empty: by `metric`.
      judged_on: the split that claims are judged on, "test", or "validation" where the data has no other; empty:
        it was not recorded.
      level: of each look at the verdicts: 0.95, or higher where seeds were added until they were decided.
      looks: what was seen at each look: seeds, and the verdicts' words.
      baselines: what counting reaches: rows of data (as in `Arm`), name, bar (whether a model has to beat it) and
        values, metric -> value.
      registration: what was registered before the first cell was trained, and later edits (`registration.py`).
    """

    name: str
    question: str
    metric: str
    lower_is_better: bool
    arms: Sequence[Arm]
    cells: Sequence[Cell]
    verdicts: Sequence[Mapping[str, Any]] = ()
    paper: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tuned_by: str = ""
    judged_on: Literal["", "test", "validation"] = ""
    level: float = 0.95
    looks: Sequence[Mapping[str, Any]] = ()
    baselines: Sequence[Mapping[str, Any]] = ()
    registration: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def judged(self, metric: str) -> str:
        """The metric of the split that claims are judged on that is called `metric`, val/NAME, on validation."""
        rest = metric.removeprefix("val/")
        return f"test/{rest}" if self.judged_on == "test" and rest != metric else metric

    @property
    def basis(self) -> str:
        """Which splits chose and which are judged on, in words; empty if it was not recorded."""
        tuned = any(cell.phase == "tune" for cell in self.cells)
        if self.judged_on and not self.metric.startswith(("test/", "val/")):  # a further set, or one of training
            chose = tuned and self.tuned_by in ("", self.metric)
            return f"judged by {self.metric}" + (": it chose the learning rates too" if chose else "")
        if self.judged_on == "test":
            return "judged on the test split" + (", learning rates chosen on validation" if tuned else "")
        if self.judged_on == "validation":
            told = "judged on validation, as the data has no test split"
            return told + (": it chose the learning rates too" if tuned else "")
        return ""

    def values(self, arm: str, metric: str | None = None) -> dict[int, float]:
        """Seed -> final value of `metric` (default: the study's) for the cells of `arm` in the phase "seeds".

        A cell that diverged, or lacks the metric, gives NaN.
        """
        metric = metric or self.metric
        return {
            cell.seed: cell.metrics.get(metric, float("nan")) if cell.status == "finished" else float("nan")
            for cell in self.cells
            if cell.arm == arm and cell.phase == "seeds"
        }

    def to_json(self) -> str:
        """As JSON, an arm, cell or verdict a line; how NaN and infinities are written: `plain`."""
        lines = [f"{json.dumps(name)}: {_lines(value)}" for name, value in plain(self).items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """What `to_json` wrote. Raises ValueError or TypeError for what is no `Results`."""
        return back(json.loads(text), cls)


def _lines(value: Any) -> str:
    """JSON; of a list, each item on a line of its own."""
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n " + ",\n ".join(map(json.dumps, value)) + "\n]"
