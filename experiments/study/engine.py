"""The engine: from a study to its results. Sweeps, seeds, verdicts, report, in a folder that can be resumed.

Each arm's learning rate is swept on seeds of its own; then the seeds are trained at the best. Nothing that is finished
is trained again, and what was interrupted goes on: a study that was killed ends with the numbers of one that was
not.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from arch.spec import UserError
from experiments.study import baselines
from experiments.study.claims import power
from experiments.study.claims.judge import judge_all
from experiments.study.claims.until import Until
from experiments.study.claims.verdicts import Verdict
from experiments.study.from_arm import generations, settled, shared_teachers, taught, teachers, within
from experiments.study.match import count, shape
from experiments.study.results import Arm, Cell, Phase, Results
from experiments.study.study import EXTENSIONS, TUNING_SEED, Study
from experiments.study.sweeps.tuning import Curve, curves
from experiments.study.work.cells import Cells, Group, write
from experiments.study.work.executors import Executor, InProcess
from experiments.study.work.provenance import provenance
from experiments.study.work.registration import register
from experiments.study.work.tasks import to_task, work
from train.estimate import estimate
from train.record.confined import confined
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
      study: the question, its arms and claims.
      name: what it is called in the report.
      folder: where it is kept.
      cells: where its cells are kept, to share them with other studies; None: in `folder`.
      executor: who does the work; None: this process.
      trust_cells: whether cells that other code has trained are taken; the notes of the results say how many.
      note: called with one line on each thing that happens.

    Raises:
      UserError: cells could not be trained; those that could are kept.
    """
    started = time.perf_counter()
    folder = Path(folder)
    store, executor = Cells(cells or folder, trust_cells), executor or InProcess()
    for at in dict.fromkeys((folder, store.folder)):
        confined(at)
    store.settle()
    train = _Trainer(study, store, executor, note)
    registration = register(folder, study, store.count())
    results = Results(
        name=name,
        question=study.question,
        metric=study.metric,
        tuned_by=study.metric,
        judged_on="test" if study.has_test else "validation",
        lower_is_better=study.lower,
        arms=(),
        cells=(),
        paper=study.paper,
        level=1 - power.level(study),
        baselines=baselines.baselines(study),
        registration=registration,
    )
    results = dataclasses.replace(results, metric=results.judged(study.metric))
    for line in (*baselines.lines(results.baselines, results.metric), *power.lines(study)):
        note(line)
    results = dataclasses.replace(results, arms=train.tuned(), cells=train.done)
    for line in power.in_units(study, train.done):
        note(line)
    found = _Judged(results, study).after(train, note)
    notes = [*study.notes, *shared_teachers(study.arms), *train.trusted()]
    found = dataclasses.replace(found, notes=notes, provenance=provenance(time.perf_counter() - started))
    write(folder / "results.json", found.to_json())
    return found


@dataclasses.dataclass(frozen=True)
class _Judged:
    """A study's results as seeds are added."""

    results: Results
    study: Study

    def after(self, train: _Trainer, note: Note) -> Results:
        """Adds seeds and looks at the verdicts, until they are decided or the last seed is trained."""
        results, cells, before = self.results, list(self.results.cells), 0
        for seeds in self.study.looks:
            rows = {arm.name: _seed_rows(range(before, seeds), arm) for arm in results.arms}
            cells, before = [*cells, *train.cells("seeds", rows)], seeds
            results = dataclasses.replace(results, cells=cells)
            verdicts = judge_all(self.study.claims, results)
            words = [verdict.verdict for verdict in verdicts]
            looks = [*results.looks, {"seeds": seeds, "verdicts": words}]
            results = dataclasses.replace(results, verdicts=[verdict.plain() for verdict in verdicts], looks=looks)
            if len(self.study.looks) > 1:
                note(f"look at {seeds} seeds, level {results.level:.4g}: {', '.join(words)}")
            if self._decided(verdicts):
                break
        return results

    def _decided(self, verdicts: Sequence[Verdict]) -> bool:
        asked = [v for v in verdicts if v.role == "primary" or (v.role == "secondary" and self._all)]
        return bool(asked) and all(verdict.verdict != "undecided" for verdict in asked)

    @property
    def _all(self) -> bool:
        return isinstance(self.study.seeds, Until) and self.study.seeds.decided == "all"


@dataclasses.dataclass
class _Trainer:
    """Trains the cells of a study that are missing."""

    study: Study
    store: Cells
    executor: Executor
    note: Note
    done: list[Cell] = dataclasses.field(default_factory=list)
    others: dict[str, str] = dataclasses.field(default_factory=dict)
    arms: dict[str, Arm] = dataclasses.field(default_factory=dict)

    def trusted(self) -> list[str]:
        """What a reader has to know of cells that other code has trained."""
        if not (self.others and self.store.trust):
            return []
        return [f"{len(self.others)} cells were trained by other code: {_reasons(self.others)}."]

    def tuned(self) -> list[Arm]:
        """The arms with their learning rates chosen; the cells of the sweeps are kept in `done`."""
        found: dict[str, Arm] = {}
        order = generations(self.study.arms)
        for index, names in enumerate(order):
            found |= self._tuned(names)
            if index + 1 < len(order):  # what the next ones start from
                self.cells("seeds", {name: _seed_rows(range(self.study.looks[0]), found[name]) for name in names})
        return [found[name] for name in self.study.arms]

    def _tuned(self, names: Sequence[str]) -> dict[str, Arm]:
        """These arms, on one grid."""
        grid, new = sorted(self.study.learning_rates), sorted(self.study.learning_rates)
        left = {-1: EXTENSIONS, 1: EXTENSIONS}
        while new:
            rows = _rate_rows(self.study, new)
            self.done += self.cells("tune", dict.fromkeys(names, rows))
            edges = {curve.edge for name, curve in self._curves().items() if name in names}
            new = [_beyond(grid, end) for end in (-1, 1) if end in edges and left[end]]
            left = {end: count - (end in edges) for end, count in left.items()}
            if new:
                self.note(
                    f"the best rate of an arm is at the edge: all arms try {', '.join(f'{r:g}' for r in new)} too"
                )
            grid = sorted([*grid, *new])
        found = self._curves()
        self.arms |= {name: self._arm(name, self.study.arms[name], found.get(name)) for name in names}
        return {name: self.arms[name] for name in names}

    def _curves(self) -> dict[str, Curve]:
        for cell in self.done:
            if cell.status == "finished" and self.study.metric not in cell.metrics:
                raise UserError(f"{cell.arm} measures no {self.study.metric}; it has {', '.join(cell.metrics)}")
        return curves(self.done, self.study.metric, self.study.lower)

    def _arm(self, name: str, run: Run, curve: Curve | None) -> Arm:
        shaped, data = shape(run), baselines.data_name(run)
        if self.study.match is not None:
            hold, own = self.study.match.hold, count(run, self.study.match.hold)
            first = next((one for arm in self.study.arms.values() if (one := count(arm, hold))), 0)
            if own:  # an arm without a bottleneck has no bits to be off by
                shaped["error"] = own / first - 1
        if curve is None:
            return Arm(name, shaped, run.optimizer.learning_rate, data=data)
        return Arm(name, shaped, curve.chosen(), curve.rates, bool(curve.edge), data)

    def cells(self, phase: Phase, rows: dict[str, list[dict[str, float]]]) -> list[Cell]:
        """The cells of all arms in one phase, in order; those that others start from before these."""
        found: dict[str, list[Cell]] = {}
        for names in generations(self.study.arms):
            now = {arm: rows[arm] for arm in names if arm in rows}
            if now:
                for cell in self._cells(phase, now):
                    found.setdefault(cell.arm, []).append(cell)
        return [cell for arm in rows for cell in found.get(arm, [])]

    def _groups(self, arm: str, phase: Phase, rows: Sequence[dict[str, float]]) -> list[Group]:
        """The programs that the cells of an arm are trained in."""
        run, looks = self.study.arms[arm], phase == "seeds"
        panels, suite = (self.study.diagnostics, self.study.suite) if looks else ((), ())
        by_run: dict[Run, list[dict[str, float]]] = {}
        for row in rows:
            started, replica = self._started(run, int(row["seed"]))
            by_run.setdefault(started, []).append({**row, **replica})
        groups = [
            Group(arm, phase, started, tuple(r), panels, self.study.diagnostic_rows, suite)
            for started, r in by_run.items()
        ]
        return [part for group in groups for part in group.cut(self._fit(group))]

    def _started(self, run: Run, seed: int) -> tuple[Run, dict[str, float]]:
        """`run` where the arms that it learns and starts from are known, and the replica that this seed starts from."""
        if learns := teachers(run):
            places = {arm: self._place(arm, 0) for arm in learns}
            run = dataclasses.replace(run, objective=taught(run.objective, places))
        found = within(run.start)
        if run.start is None or found is None:
            return run, {}
        first = seed % self.study.looks[0] if seed >= TUNING_SEED else seed
        folder, replica = self._place(found[1].arm, first)
        numbers: dict[str, float] = {} if replica is None else {f"{found[0]}.replica": replica}
        return dataclasses.replace(run, start=settled(run.start, folder)), numbers

    def _place(self, arm: str, seed: int) -> tuple[str, int | None]:
        """The folder in which this seed of an arm was trained, and its number among the replicas there."""
        above = self.arms[arm]
        for group in self._groups(above.name, "seeds", _seed_rows([seed], above)):
            cells, place = self.store.load(group), self.store.place(group.names()[0])
            if any(cell.status == "diverged" for cell in cells.values()):
                raise UserError(f"seed {seed} of arm {above.name} diverged, and another arm starts from it; give it "
                                "lower learning rates")  # fmt: skip
            if place is not None:
                return str(place[0].resolve()), place[1]
        raise UserError(f"seed {seed} of arm {above.name}, which another arm starts from, was trained elsewhere: its "
                        "checkpoint is not in the folder of cells")  # fmt: skip

    def _cells(self, phase: Phase, rows: dict[str, list[dict[str, float]]]) -> list[Cell]:
        groups = [group for arm, r in rows.items() for group in self._groups(arm, phase, r)]
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


def _rate_rows(study: Study, rates: Sequence[float]) -> list[dict[str, float]]:
    seeds = range(TUNING_SEED, TUNING_SEED + study.tuning_seeds)
    return [{"seed": seed, RATE: rate} for rate in rates for seed in seeds]


def seed_group(study: Study, arm: Arm, seeds: Iterable[int]) -> Group:
    """The cells of `arm` that are judged, with these seeds."""
    rows = tuple(_seed_rows(seeds, arm))
    run, rows_looked = study.arms[arm.name], study.diagnostic_rows
    return Group(arm.name, "seeds", run, rows, study.diagnostics, rows_looked, study.suite)


def _seed_rows(seeds: Iterable[int], arm: Arm) -> list[dict[str, float]]:
    return [{"seed": seed, RATE: arm.learning_rate} for seed in seeds]


def _beyond(grid: Sequence[float], end: int) -> float:
    """The rate beyond the lowest (-1) or highest (1) of a grid: one more of its last steps, at most fourfold."""
    last, before = (grid[0], grid[1]) if end < 0 else (grid[-1], grid[-2])
    step = min(max(last / before, 0.25), 4.0)
    return float(f"{last * step:.6g}")
