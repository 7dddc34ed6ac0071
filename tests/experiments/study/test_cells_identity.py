"""Cells are those of what was trained: another class of the same name, or other code, does not get them."""

import dataclasses
import hashlib
import importlib
import json
import sys
from typing import Any

import pytest

from arch.spec import UserError, flatten
from experiments.config.load import ROOT
from experiments.study.engine import run_study
from experiments.study.results import Cell, Results, plain
from experiments.study.work import tasks
from experiments.study.work.cells import Cells, Group, name
from tests.experiments.study import toy
from tests.train import toys
from train.objectives.distillation import Distill
from train.objectives.next_token import NextToken
from train.record.lock import LockedError
from train.starts.codes_from_data import KMeansCodes
from train.starts.frozen import Pretrained
from train.starts.start import FromRun

NORM = '''
import dataclasses

from arch.layers.norms import common as norms


@dataclasses.dataclass(frozen=True)
class RMSNorm(norms.RMSNorm):
    """x / rms(x)"""

    def build(self, width, make, axis="embed"):
        return Layer(norms.RMSNorm(self.eps).build(width, make, axis))


class Layer(norms.nnx.Module):
    def __init__(self, inner):
        self.inner = inner

    def __call__(self, x, ctx):
        return self.inner(x, ctx)
'''
ZERO = NORM.replace("return self.inner(x, ctx)", "return 0 * self.inner(x, ctx)")


class Pretend:
    """An executor that trains nothing: it finishes every task with invented numbers, and notes how many cells."""

    def __init__(self, value: float = 1.0):
        self.value, self.trained = value, 0

    def run(self, given, work, note):
        for task in given:
            group, cells = tasks.from_task(task)
            group = group.only(set(group.names()) - set(cells.load(group)))
            metrics = {"val/bits_per_byte": self.value, "val/loss": self.value}
            rows = [(int(row["seed"]), row["optimizer.learning_rate"]) for row in group.rows]
            made = [Cell(group.arm, group.phase, seed, rate, "finished", metrics) for seed, rate in rows]
            cells.finish(group, made)
            self.trained += len(made)
        return []


@pytest.fixture
def norm(tmp_path, monkeypatch):
    """`norm(source)` imports the user's file anew and gives its RMSNorm."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source: str) -> Any:
        (tmp_path / "mine_norm.py").write_text(source)
        sys.modules.pop("mine_norm", None)
        importlib.invalidate_caches()
        return importlib.import_module("mine_norm").RMSNorm()

    yield write
    sys.modules.pop("mine_norm", None)


def study(norm: Any = None):
    block = toys.model().block if norm is None else dataclasses.replace(toys.model().block, norm=norm)
    base = toys.run(model=toys.model(depth=1, block=block))
    return toy.study(arms={"depth=1": base, "wide": dataclasses.replace(base, batch=4)}, claims=())


@pytest.fixture
def ask(tmp_path):
    """`ask(study)` -> (cells trained, value of the results, lines, results); all share one folder of cells."""

    def run(asked, value: float = 1.0, **options):
        executor, lines = Pretend(value), []
        results = run_study(
            asked, "toy", tmp_path / "study", cells=tmp_path / "cells", executor=executor, note=lines.append, **options
        )
        (found,) = {cell.metrics["val/loss"] for cell in results.cells}
        return executor.trained, found, [line for line in lines if "cells in" in line], results

    return run


def test_a_users_own_norm_of_the_same_name_does_not_get_our_cells(ask, norm):
    """The input of the fault: `--cells` shared by a study with our RMSNorm and one with a user's RMSNorm."""
    assert ask(study(), 1.0)[:2] == (10, 1.0)
    trained, value, lines, _ = ask(study(norm(NORM)), 2.0)
    assert (trained, value) == (10, 2.0)
    assert not any("other code" in line for line in lines), "it is another configuration, not other code"
    assert ask(study(), 3.0)[:2] == (0, 1.0)
    assert ask(study(norm(NORM)), 3.0)[:2] == (0, 2.0)


def test_cells_of_edited_code_are_trained_again_with_one_line(ask, norm):
    """The input of the fault: a norm edited to return 0 kept its old table."""
    assert ask(study(norm(NORM)), 1.0)[:2] == (10, 1.0)
    trained, value, lines, results = ask(study(norm(ZERO)), 2.0)
    assert (trained, value) == (10, 2.0)
    assert lines == [
        f"{phase}: {count} cells in 2 programs; 0 are finished, {count} to train; {count} of these are there of other "
        "code (mine_norm differs), --trust_cells accepts them"
        for phase, count in (("tune", 6), ("seeds", 4))
    ]
    assert results.notes == []
    assert ask(study(norm(ZERO)), 3.0)[:2] == (0, 2.0)
    assert ask(study(norm(NORM)), 3.0)[:2] == (0, 1.0), "the edit undone: its cells are still there"


def test_trusted_cells_are_taken_and_the_results_say_so(ask, norm):
    ask(study(norm(NORM)), 1.0)
    trained, value, lines, results = ask(study(norm(ZERO)), 2.0, trust_cells=True)
    assert (trained, value) == (0, 1.0)
    assert lines[0] == ("tune: 6 cells in 2 programs; 6 are finished, 0 to train; 6 of the finished are of other code "
                        "(mine_norm differs)")  # fmt: skip
    assert results.notes == ["10 cells were trained by other code: mine_norm differs."]
    more = dataclasses.replace(study(norm(ZERO)), seeds=3)
    trained, *_ = ask(more, 1.0, trust_cells=True)
    assert trained == 2, "a seed more of each arm; the rest is trusted"


def test_comments_and_docstrings_change_nothing(ask, norm):
    ask(study(norm(NORM)), 1.0)
    edited = NORM.replace('"""x / rms(x)"""', '"""Divided by its root mean square."""  # exactly')
    assert ask(study(norm(edited)), 2.0)[:2] == (0, 1.0)


def test_of_several_others_the_newest_is_trusted(ask, norm):
    ask(study(norm(NORM)), 1.0)
    ask(study(norm(ZERO)), 2.0)
    third = norm(NORM.replace("self.inner(x, ctx)", "2 * self.inner(x, ctx)"))
    assert ask(study(third), 3.0, trust_cells=True)[:2] == (0, 2.0)


def test_cells_of_before_code_was_noted(ask, tmp_path):
    """FORMAT 3: `cells/HASH.json`, HASH of fields with the bare names of classes."""
    asked = study()
    for arm, run in asked.arms.items():
        for row in ({"seed": 0, "optimizer.learning_rate": 1e-2}, {"seed": 1, "optimizer.learning_rate": 1e-2}):
            group = Group(arm, "seeds", run, (row,))
            cell = Cell(arm, "seeds", row["seed"], 1e-2, "finished", {"val/bits_per_byte": 7.0, "val/loss": 7.0})
            (tmp_path / "cells" / "cells").mkdir(parents=True, exist_ok=True)
            file = tmp_path / "cells" / "cells" / f"{group.called[0].old}.json"
            file.write_text(json.dumps(plain(dataclasses.asdict(cell))))
    asked = dataclasses.replace(asked, learning_rates=())
    trained, value, lines, _ = ask(asked, 7.0, trust_cells=True)
    assert (trained, value) == (0, 7.0)
    trained, value, lines, _ = ask(asked, 1.0)
    assert (trained, value) == (4, 1.0)
    assert lines == ["seeds: 4 cells in 2 programs; 0 are finished, 4 to train; 4 of these are there of other code "
                     "(its code was not noted), --trust_cells accepts them"]  # fmt: skip


def test_the_name_of_before_is_what_it_was():
    """A SHA-256 of format, fields by bare first names, panels and content, without the fields that change no number."""
    free = ("mesh", "logging.keep", "logging.checkpoint", "logging.prompt")
    now = {path: str(value) for path, value in flatten(toys.run()).items() if not path.startswith(free)}
    assert now.pop("logging") == "Logging"
    fields = {path.replace("logging.", "reports."): value for path, value in now.items()} | {"reports": "Reports"}
    told = json.dumps([3, fields, ["depth"], []], sort_keys=True)
    assert name(toys.run(), ("depth",)).old == hashlib.sha256(told.encode()).hexdigest()[:20]


def test_panels_count_among_the_code():
    bare, looked_at = name(toys.run(), ()), name(toys.run(), ("depth",))
    assert "experiments.study.panels.diagnostics" in looked_at.code
    assert "arch.probe.depth" in looked_at.code
    assert not {"experiments.study.panels.diagnostics", "arch.probe.depth"} & set(bare.code)


def test_a_task_made_by_other_code_is_refused(tmp_path, norm):
    """A worker that is started after an edit does not mix its cells with those of before."""
    block = dataclasses.replace(toys.model().block, norm=norm(NORM))
    group = Group("a", "seeds", toys.run(model=toys.model(block=block)), ({"seed": 1},))
    task = tasks.to_task(group, Cells(tmp_path))
    norm(ZERO)
    with pytest.raises(UserError, match="have been changed since the study was started"):
        tasks.work(task)


def test_cells_that_another_study_trains_are_waited_for(tmp_path, monkeypatch, capsys):
    """Two studies with one `--cells`: the second takes what the first finishes."""
    group = Group("a", "seeds", toys.run(), ({"seed": 1},))
    cells, looks = Cells(tmp_path), []

    def locked(*args, **kwargs):
        looks.append(1)
        if len(looks) == 3:
            cells.finish(group, [Cell("a", "seeds", 1, 1e-2, "finished", {"val/loss": 1.0})])
        raise LockedError("DIR: process 7 on other is training here")

    monkeypatch.setattr(tasks.loop, "train", locked)
    monkeypatch.setattr(tasks, "WAIT", 0.0)
    tasks.work(tasks.to_task(group, cells))
    assert len(looks) == 3
    assert capsys.readouterr().out.count("waiting: DIR: process 7 on other is training here") == 1
    assert [cell.metrics["val/loss"] for cell in cells.load(group).values()] == [1.0]


def test_committed_results_still_open():
    found = sorted((ROOT / "experiments" / "results").glob("*/results.json"))
    assert found
    for file in found:
        assert Results.from_json(file.read_text()).cells


@pytest.mark.parametrize("where", ["start", "start within another", "teacher"])
def test_a_study_may_be_moved(where, monkeypatch):
    """What a start is, its content tells and not its folder, wherever it stands; one that is gone has its folder."""

    def named(folder):
        start = FromRun(folder)
        if where == "teacher":
            return name(toys.run(objective=Distill(Pretrained(toys.model(), start), objective=NextToken()))).what
        return name(toys.run(start=start if where == "start" else KMeansCodes(start))).what

    monkeypatch.setattr(FromRun, "digest", lambda self: "content")
    here = named("/a/run")
    assert named("/b/run") == here
    monkeypatch.setattr(FromRun, "digest", lambda self: "other content")
    assert named("/a/run") != here
    if where != "start":
        monkeypatch.setattr(FromRun, "digest", lambda self: None)
        assert named("/a/run") != named("/b/run")
