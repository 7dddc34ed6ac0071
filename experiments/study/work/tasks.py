"""The work of a study, as tasks that any process can do: a group of cells as text, trained into the study's folder.

`work(task)` may be called again after it was killed, and by several processes one after another: what is finished is
not trained again, and what was begun goes on from its checkpoint.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arch.spec import UserError
from experiments.config.stored import from_json, to_json
from experiments.study.claims.stretches import pseudo_values
from experiments.study.panels.panels import panel
from experiments.study.results import Cell
from experiments.study.work.cells import Cells, Group
from experiments.suites.base import exhibits, score
from experiments.suites.exhibits import Exhibit, Matrix, Pictures
from train import loop
from train.ensemble import Ensemble, pick
from train.evaluate import TEST, evaluation_batches
from train.loop import Trained
from train.record import metrics
from train.record.lock import LockedError
from train.record.reporter import TIMES
from train.run import Run
from train.setup import prepare
from train.trained import TrainedRun

WAIT = 5.0
"""Seconds between looks at a group that another process trains."""


def to_task(group: Group, cells: Cells) -> str:
    """A group as text, its cells to be kept where `cells` are."""
    return json.dumps({
        "arm": group.arm,
        "phase": group.phase,
        "config": to_json(group.run),
        "rows": [dict(row) for row in group.rows],
        "diagnostics": list(group.diagnostics),
        "looked_at": group.looked_at,
        "suite": [to_json(one) for one in group.suite],
        "names": group.names(),
        "folder": str(cells.folder.resolve()),
        "trust": cells.trust,
    })  # fmt: skip


def from_task(task: str) -> tuple[Group, Cells]:
    """What `to_task` was given.

    Raises:
      UserError: the code or the data are not those of the process that made the task.
    """
    told = json.loads(task)
    run = from_json(told["config"], "task", trust=True)
    assert isinstance(run, Run)
    rows, panels = tuple(told["rows"]), tuple(told["diagnostics"])
    suite: Any = tuple(from_json(one, "task", trust=True) for one in told["suite"])
    group = Group(told["arm"], told["phase"], run, rows, panels, told["looked_at"], suite)
    if group.names() != told["names"]:
        raise UserError("the code or the data have been changed since the study was started; start it again")
    return group, Cells(Path(told["folder"]), told["trust"])


def work(task: str) -> None:
    """Trains the cells of a task that are not finished yet. Raises UserError if that cannot be done.

    Cells that another process trains are waited for.
    """
    group, cells = from_task(task)
    waiting = False
    while True:
        try:
            return _train(group, cells)
        except LockedError as error:
            if not waiting:
                print(f"waiting: {error}", flush=True)
            waiting = True
            time.sleep(WAIT)


def _train(group: Group, cells: Cells) -> None:
    cells.settle()
    done = cells.load(group)
    if len(done) == len(group.rows):
        return
    at = cells.group_folder(group)
    if done and not at.exists():  # another study has trained some of them
        group = group.only(set(group.names()) - set(done))
        at = cells.group_folder(group)
    many = f"{len(group.rows)} replicas" if len(group.rows) > 1 else "1 replica"
    print(f"{group.phase}: {group.arm}, {many}", flush=True)
    started = time.perf_counter()
    trained = loop.train(group.run, at, ensemble=Ensemble(group.rows))
    stretches = _stretches(group, trained)
    seconds = (time.perf_counter() - started) / len(group.rows)
    cells.finish(group, [_cell(group, trained, at, index, seconds, stretches) for index in range(len(group.rows))])


def _stretches(group: Group, trained: Trained) -> Mapping[str, np.ndarray]:
    """Metric -> [stretches, R] pseudo-values, for what claims are judged on."""
    splits = evaluation_batches(trained.program, trained.dataset)
    split = TEST if TEST in splits else "validation"
    if group.phase != "seeds" or split not in splits:
        return {}
    return pseudo_values(trained.program, trained.state, split, splits[split])


def _cell(
    group: Group, trained: Trained, folder: Path, index: int, seconds: float, stretches: Mapping[str, np.ndarray]
) -> Cell:
    """Replica `index` of a trained group as a cell."""
    row = group.rows[index]
    curve = [{name: _of(value, index) for name, value in line.items()} for line in metrics.read(folder)]
    rate = float(row.get("optimizer.learning_rate", group.run.optimizer.learning_rate))
    diverged = index in trained.stopped
    panels = {} if diverged else _panels(group, trained, index, rate)
    scores, shown = ({}, []) if diverged else _scores(group, trained, index, curve)
    return Cell(
        arm=group.arm,
        phase=group.phase,
        seed=int(row.get("seed", group.run.seed)),
        learning_rate=rate,
        status="diverged" if diverged else "finished",
        metrics=final(curve, group.run.steps) | scores,
        curve=[{name: value for name, value in line.items() if name not in TIMES} for line in curve],
        diagnostics={name: values.tolist() for name, values in panels.items()},
        seconds=seconds,
        stretches={} if diverged else {name: _short(values[:, index]) for name, values in stretches.items()},
        matrices=[one for one in shown if isinstance(one, Matrix)],
        pictures=[one for one in shown if isinstance(one, Pictures)],
    )


def _panels(group: Group, trained: Trained, index: int, rate: float) -> dict[str, np.ndarray]:
    """The panels of replica `index`, each value its mean over batches that have the rows asked for in all."""
    if not group.diagnostics:
        return {}
    size, state = group.run.batch // group.run.micro_batches, pick(trained.state, index)
    whole = trained.dataset.validation(size, jax.process_index(), jax.process_count())
    # The last batch of a split is filled up with rows of zeros, which would count in a mean over batches.
    most = max(1, len(trained.dataset.rows["validation"]) // size)
    taken: dict[str, list[np.ndarray]] = {}
    for batch in itertools.islice(whole, min(most, -(-max(group.looked_at, 1) // size))):
        for name in group.diagnostics:
            for key, values in panel(name)(trained.program, state, batch, rate).items():
                taken.setdefault(key, []).append(np.asarray(values, np.float64))
    return {name: np.mean(values, axis=0) for name, values in taken.items()}


def _scores(
    group: Group, trained: Trained, index: int, curve: Sequence[Mapping[str, float]]
) -> tuple[dict[str, float], list[Exhibit]]:
    """`suite/NAME` of replica `index`, on the test split if there is one, and what the scores show."""
    if not group.suite:
        return {}, []
    alone = prepare(Ensemble(group.rows).lone(group.run, index), trained.dataset.description)
    opened = TrainedRun(alone, jax.device_get(pick(trained.state, index)), trained.dataset, group.run.steps)
    split = TEST if TEST in trained.dataset.rows else "validation"
    found = score(group.suite, opened, split, curve)
    return {f"suite/{name}": value for name, value in found.items()}, exhibits(group.suite, opened, split, curve)


def _short(values: np.ndarray) -> list[float]:
    """As many digits as float32 has."""
    return [float(f"{value:.7g}") for value in values]


def final(curve: Sequence[Mapping[str, float]], steps: int) -> dict[str, float]:
    """The metrics that a cell ends with: of validation the last, of training the mean over the last tenth of the steps.

    One batch says little of the training loss. If nothing was logged in the last tenth, the last line counts.
    """
    found: dict[str, float] = {}
    late: dict[str, list[float]] = {}
    for line in curve:
        told = {name: value for name, value in line.items() if name != "step" and name not in TIMES}
        found |= told
        if line["step"] > 0.9 * steps:
            for name, value in told.items():
                late.setdefault(name, []).append(value)
    return found | {name: float(np.mean(values)) for name, values in late.items() if name.startswith("train/")}


def _of(value: Any, index: int) -> float:
    return float(value[index]) if isinstance(value, list) else value
