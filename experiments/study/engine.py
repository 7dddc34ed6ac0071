"""The engine: from a study to its results. Sweeps, seeds, verdicts, report, in a folder that can be resumed.

Each arm's learning rate is swept on a seed of its own; then the seeds are trained at the best. Nothing that is finished
is trained again, and what was interrupted goes on: a study that was killed ends with the numbers of one that was
not.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from arch.spec import UserError
from experiments.study.cells import Cells, Group, write
from experiments.study.claims import judge_all
from experiments.study.executors import Executor, InProcess
from experiments.study.match import count, shape
from experiments.study.provenance import provenance
from experiments.study.results import Arm, Cell, Phase, Results
from experiments.study.study import TUNING_SEED, Study
from experiments.study.tasks import to_task, work
from train.estimate import estimate
from train.run import Run

RATE = "optimizer.learning_rate"
Note = Callable[[str], None]


def run_study(
    study: Study,
    name: str,
    folder: Path,
    *,
    cells: Path | None = None,
    executor: Executor | None = None,
    trust_cells: bool = False,
    note: Note = print,
) -> Results:
    """Trains what is missing of `study` and decides its claims. `results.json` is written into `folder`.

    Args:
      study: what is asked.
      name: what it is called in the report.
      folder: where it is kept.
      cells: where its cells are kept, to share them with other studies; None: in `folder`.
      executor: who does the work; None: this process.
      trust_cells: whether cells that other code has trained are taken; the notes of the results say how many.
      note: told one line on each thing that happens.

    Raises:
      UserError: cells could not be trained; those that could are kept.
    """
    started = time.perf_counter()
    store, executor = Cells(cells or folder, trust_cells), executor or InProcess()
    store.settle()
    train = _Trainer(study, store, executor, note)
    arms = train.tuned()
    finished = train.cells("seeds", {arm.name: _seed_rows(study, arm) for arm in arms})
    results = Results(
        name=name,
        question=study.question,
        metric=study.metric,
        tuned_by=study.metric,
        judged_on="test" if study.has_test else "validation",
        lower_is_better=study.lower_is_better,
        arms=arms,
        cells=[*train.done, *finished],
        paper=study.paper,
        notes=[*study.notes, *train.trusted()],
        provenance=provenance(time.perf_counter() - started),
    )
    results = dataclasses.replace(results, metric=results.judged(study.metric))
    verdicts = [verdict.plain() for verdict in judge_all(study.claims, results)]
    results = dataclasses.replace(results, verdicts=verdicts)
    write(Path(folder) / "results.json", results.to_json())
    return results


@dataclasses.dataclass
class _Trainer:
    """Trains the cells of a study that are missing."""

    study: Study
    store: Cells
    executor: Executor
    note: Note
    done: list[Cell] = dataclasses.field(default_factory=list)
    others: dict[str, str] = dataclasses.field(default_factory=dict)

    def trusted(self) -> list[str]:
        """What a reader has to know of cells that other code has trained."""
        if not (self.others and self.store.trust):
            return []
        return [f"{len(self.others)} cells were trained by other code: {_reasons(self.others)}."]

    def tuned(self) -> list[Arm]:
        """The arms with their learning rates chosen; the cells of the sweeps are kept in `done`."""
        rates = self.study.learning_rates
        rows = [{"seed": TUNING_SEED, RATE: rate} for rate in rates]
        if rates:
            self.done = self.cells("tune", dict.fromkeys(self.study.arms, rows))
        return [self._arm(name, run) for name, run in self.study.arms.items()]

    def _arm(self, name: str, run: Run) -> Arm:
        shaped, rates = shape(run), self.study.learning_rates
        if self.study.match is not None:
            hold, first = self.study.match.hold, next(iter(self.study.arms.values()))
            shaped["error"] = count(run, hold) / count(first, hold) - 1
        if not rates:
            return Arm(name, shaped, run.optimizer.learning_rate)
        mine = {cell.learning_rate: _score(cell, self.study) for cell in self.done if cell.arm == name}
        best = min(rates, key=lambda rate: (mine[rate], rate))
        return Arm(name, shaped, best, tuple(rates), len(rates) > 1 and best in (min(rates), max(rates)))

    def cells(self, phase: Phase, rows: dict[str, list[dict[str, float]]]) -> list[Cell]:
        """The cells of all arms in one phase, in order."""
        looked_at = self.study.diagnostics if phase == "seeds" else ()
        count = self.study.diagnostic_rows
        groups = [Group(arm, phase, self.study.arms[arm], tuple(r), looked_at, count) for arm, r in rows.items()]
        groups = [part for group in groups for part in group.cut(self._fit(group))]
        missing = [group for group in groups if len(self.store.load(group)) < len(group.rows)]
        total = sum(len(group.rows) for group in groups)
        left = sum(len(group.rows) - len(self.store.load(group)) for group in missing)
        others = {name: why for group in groups for name, why in self.store.others(group).items()}
        self.others |= others
        told = f"{phase}: {total} cells in {len(groups)} programs; {total - left} are finished, {left} to train"
        if others and self.store.trust:
            told += f"; {len(others)} of the finished are of other code ({_reasons(others)})"
        elif others:
            told += f"; {len(others)} of these are there of other code ({_reasons(others)}), --trust_cells accepts them"
        self.note(told)
        failures = self.executor.run([to_task(group, self.store) for group in missing], work, self.note)
        if failures:
            lines = [f"{missing[failure.index].arm}, {phase}: {failure.line}" for failure in failures]
            lines.append("what is finished is kept; run the same command again when this is mended")
            raise UserError("\n".join(lines))
        return [cell for group in groups for cell in self.store.load(group).values()]

    def _fit(self, group: Group) -> int:
        """How many replicas of a run a device has room for side by side."""
        if self.study.memory is None or len(group.rows) == 1:
            return len(group.rows)
        one = estimate(group.run)
        return max(1, int(self.study.memory * 2**30 // (one.state_bytes + one.temporary_bytes)))


def _reasons(others: dict[str, str]) -> str:
    """How the code of these cells differs; the most frequent answer, where there are several."""
    (first, _), *more = Counter(others.values()).most_common()
    return f"{first}, and others" if more else first


def _seed_rows(study: Study, arm: Arm) -> list[dict[str, float]]:
    return [{"seed": seed, RATE: arm.learning_rate} for seed in range(study.seeds)]


def _score(cell: Cell, study: Study) -> float:
    """What a sweep is judged by, lower is better; infinite for a cell that diverged or did not measure it."""
    if cell.status == "diverged":
        return math.inf
    if study.metric not in cell.metrics:
        raise UserError(f"{cell.arm} measures no {study.metric}; it has {', '.join(cell.metrics)}")
    value = cell.metrics[study.metric]
    return math.inf if math.isnan(value) else value if study.lower_is_better else -value
