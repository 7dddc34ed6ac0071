"""The engine: what it trains, what it chooses, and that an interrupted study ends as an uninterrupted one."""

import dataclasses

import pytest

from arch.spec import SpecError, UserError
from experiments.study.engine import run_study
from experiments.study.match import Match
from experiments.study.results import Results
from experiments.study.study import TUNING_SEED
from experiments.study.work import tasks
from experiments.study.work.cells import Cells, Group, name
from tests.experiments.study import toy
from tests.train import toys
from tests.train.test_loop import signal_at
from train import loop
from train.data import LocalText, Text
from train.optim import AdamW, Constant
from train.record import identity
from train.runtime.signals import Stopped


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return run_study(toy.study(), "toy", folder), folder


def numbers(results: Results) -> str:
    """Everything but where and how long."""
    cells = [dataclasses.replace(cell, seconds=0.0) for cell in results.cells]
    return dataclasses.replace(results, cells=cells, provenance={}).to_json()


@pytest.fixture
def trained(monkeypatch):
    """The members of every program that is trained from now on."""
    seen, train = [], loop.train

    def counted(run, folder, ensemble=None, **rest):
        seen.append([dict(row) for row in ensemble.rows])
        return train(run, folder, ensemble=ensemble, **rest)

    monkeypatch.setattr(loop, "train", counted)
    return seen


def test_every_arm_is_tuned_and_then_repeated(whole):
    results, folder = whole
    assert [(cell.arm, cell.phase) for cell in results.cells] == [
        *[("depth=1", "tune")] * 3, *[("depth=2", "tune")] * 3, *[("depth=1", "seeds")] * 2, *[("depth=2", "seeds")] * 2
    ]  # fmt: skip
    assert {cell.seed for cell in results.cells if cell.phase == "tune"} == {TUNING_SEED}
    assert list(results.values("depth=1")) == [0, 1]
    for arm in results.arms:
        tried = {c.learning_rate: c.metrics["val/bits_per_byte"] for c in results.cells
                 if c.arm == arm.name and c.phase == "tune"}  # fmt: skip
        assert arm.learning_rate == min(tried, key=tried.get)
        assert (arm.at_edge, arm.tried) == (False, (3e-3, 3e-2, 3e-1))
        used = {c.learning_rate for c in results.cells if c.arm == arm.name and c.phase == "seeds"}
        assert used == {arm.learning_rate}
    assert Results.from_json((folder / "results.json").read_text()).to_json() == results.to_json()


def test_a_cell_is_its_lone_run(whole, tmp_path):
    results, _ = whole
    cell = next(cell for cell in results.cells if cell.arm == "depth=2" and cell.phase == "seeds" and cell.seed == 1)
    run = toy.study().arms["depth=2"]
    optimizer = AdamW(learning_rate=cell.learning_rate, schedule=Constant())
    alone = loop.train(dataclasses.replace(run, seed=1, optimizer=optimizer), tmp_path / "run")
    assert cell.metrics["val/loss"] == pytest.approx(alone.metrics["val/loss"], rel=1e-6)
    assert [line["step"] for line in cell.curve] == [1, 2, 3, 3, 4, 5, 6, 6]


def test_nothing_finished_is_trained_again(whole, trained):
    results, folder = whole
    assert numbers(run_study(toy.study(), "toy", folder)) == numbers(results)
    assert trained == []


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("program", [0, 3])
def test_a_killed_study_ends_as_one_that_was_not(whole, trained, tmp_path, monkeypatch, program, batch):
    """Stopped in its first or last program, before or after a checkpoint; what was finished is not trained again."""
    train, count = loop.train, []

    def stopping(*args, **kwargs):
        count.append(1)
        if len(count) == program + 1:
            with monkeypatch.context() as patch:
                signal_at(patch, batch)
                return train(*args, **kwargs)
        return train(*args, **kwargs)

    monkeypatch.setattr(loop, "train", stopping)
    with pytest.raises(Stopped):
        run_study(toy.study(), "toy", tmp_path)
    assert numbers(run_study(toy.study(), "toy", tmp_path)) == numbers(whole[0])
    assert len(trained) == 4 + 1, "all four programs, and the one that was stopped once more"


def test_a_study_killed_between_a_group_and_its_cells(whole, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(Cells, "_spread", lambda self, results: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_study(toy.study(), "toy", tmp_path)
    monkeypatch.undo()
    assert numbers(run_study(toy.study(), "toy", tmp_path)) == numbers(whole[0])


def test_studies_share_cells(whole, trained, tmp_path):
    """More seeds: only the new one is trained. Another margin: nothing."""
    more = run_study(toy.study(seeds=3), "more", tmp_path, cells=whole[1])
    assert [[row["seed"] for row in rows] for rows in trained] == [[2], [2]]
    assert len(more.values("depth=1")) == 3
    assert (tmp_path / "results.json").exists()


def test_a_rate_that_diverges_is_not_chosen(tmp_path):
    results = run_study(toy.study(learning_rates=(3e-3, 3e-2, 1e38), claims=()), "toy", tmp_path)
    assert [arm.learning_rate for arm in results.arms] == [3e-2, 3e-2]
    assert [cell.status for cell in results.cells if cell.phase == "tune"] == ["finished", "finished", "diverged"] * 2


def key(run, diagnostics) -> str:
    return str(name(run, diagnostics))


def test_names_of_cells_follow_what_is_measured():
    run = toys.run()
    same = dataclasses.replace(run, logging=dataclasses.replace(run.logging, keep=5, prompt="x"))
    assert key(run, ()) == key(same, ())
    others = [dataclasses.replace(run, seed=1), dataclasses.replace(run, steps=7)]
    assert len({key(run, ()), key(run, ("depth",)), *(key(other, ()) for other in others)}) == 4


def test_groups_keep_to_a_size():
    group = Group("a", "seeds", toys.run(), tuple({"seed": seed} for seed in range(5)))
    assert [len(part.rows) for part in group.cut(2)] == [2, 2, 1]
    assert [row["seed"] for part in group.cut(2) for row in part.rows] == list(range(5))


def test_a_task_survives_being_text(tmp_path):
    group = Group("a", "seeds", toys.run(), ({"seed": 1, "optimizer.learning_rate": 1 / 3},), ("depth",))
    again, cells = tasks.from_task(tasks.to_task(group, Cells(tmp_path, trust=True)))
    assert (again, cells.folder, cells.trust) == (group, tmp_path, True)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"arms": {}}, "at least one run"),
        ({"seeds": 0}, "seeds=0"),
        ({"learning_rates": (1e-3, 1e-3)}, "different"),
        ({"metric": "loss"}, "must begin"),
        ({"diagnostics": ("deep",)}, "must be depth"),
        ({"match": Match("params", 0.01)}, "depth=2 has .* off depth=1"),
    ],
)
def test_what_is_no_study_is_refused(fields, line):
    with pytest.raises(SpecError, match=line):
        toy.study(**fields)


def test_a_metric_that_nothing_measures(tmp_path):
    with pytest.raises(UserError, match="measures no val/accuracy; it has"):
        run_study(toy.study(metric="val/accuracy"), "toy", tmp_path)


def test_changed_data_is_other_data(tmp_path):
    """Same path, other text: a finished cell is not taken for the new one."""
    file = tmp_path / "text.txt"
    names = []
    for text in ("one line\n" * 9, "another line\n" * 9):
        file.write_text(text)
        identity._contents.clear()
        names.append(key(toys.run(data=Text(source=LocalText(str(file), per="line"))), ()))
    assert names[0] != names[1]


def test_replicas_keep_to_the_memory_they_are_given(whole, trained, tmp_path):
    """Too little for two at a time: one program a cell, and the same numbers but for rounding."""
    optimizer = AdamW(learning_rate=3e-2, schedule=Constant())
    arms = {name: dataclasses.replace(run, optimizer=optimizer) for name, run in toy.study().arms.items()}
    results = run_study(toy.study(memory=1e-6, learning_rates=(), arms=arms), "toy", tmp_path)
    assert [len(rows) for rows in trained] == [1] * 4
    together = [cell for cell in whole[0].cells if cell.phase == "seeds"]
    for one, other in zip(results.cells, together, strict=True):
        assert (one.arm, one.seed) == (other.arm, other.seed)
        assert one.metrics["val/loss"] == pytest.approx(other.metrics["val/loss"], rel=1e-5)
