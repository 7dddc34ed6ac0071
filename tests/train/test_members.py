"""Members of an ensemble: each is its lone run, one that diverges stops no other, and all resume exactly."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from arch.layers.initializers import Normal
from arch.spec import SpecError, UserError
from tests.train import children, toys
from tests.train.test_loop import lines, same, signal_at
from train.loop import train
from train.members import Members, pick, substitute
from train.mesh import Mesh
from train.setup import prepare
from train.signals import Stopped

ROWS = (
    {"seed": 0, "optimizer.learning_rate": 1e-2, "model.init.std": 0.02},
    {"seed": 1, "optimizer.learning_rate": 1e-2, "model.init.std": 0.02},
    {"seed": 1, "optimizer.learning_rate": 3e-3, "model.init.std": 0.05},
)
WILD = (*ROWS[:2], {"seed": 0, "optimizer.learning_rate": 1e38, "model.init.std": 0.02})


@pytest.fixture(scope="module")
def run():
    return toys.run(model=toys.model(dropout=0.1, init=Normal(0.02)))


@pytest.fixture(scope="module")
def ensemble(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("members") / "run"
    return train(run, folder, members=Members(ROWS)), folder


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_a_member_is_its_lone_run(run, ensemble, index, tmp_path):
    """The losses of all steps to 1e-6 relative; Adam makes of a gradient near zero what rounding makes of it."""
    together, folder = ensemble
    alone = train(Members(ROWS).lone(run, index), tmp_path / "alone")
    for mine, own in zip(lines(folder), lines(tmp_path / "alone"), strict=True):
        for name in own:
            value = mine[name] if name == "step" else mine[name][index]
            np.testing.assert_allclose(value, own[name], rtol=3e-5 if name == "train/grad_norm" else 1e-6, err_msg=name)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)  # noqa: E731
    jax.tree.map(close, jax.device_get(pick(together.params, index)), jax.device_get(alone.params))


def test_members_differ_in_what_they_vary(ensemble):
    first, second, third = (lines(ensemble[1])[0]["train/loss"][index] for index in range(3))
    assert len({first, second, third}) == 3
    assert lines(ensemble[1])[0]["train/learning_rate"] == pytest.approx([1e-2, 1e-2, 3e-3])


def test_one_that_diverges_stops_no_other(run, tmp_path, ensemble):
    done = train(run, tmp_path / "run", members=Members(WILD))
    assert list(done.stopped) == [2]
    assert done.stopped[2] <= 3
    for mine, calm in zip(lines(tmp_path / "run"), lines(ensemble[1]), strict=True):
        for name in set(mine) - {"step"}:
            np.testing.assert_allclose(mine[name][:2], calm[name][:2], rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(done.params)))


def test_resumed_members_are_uninterrupted_ones(run, tmp_path, monkeypatch):
    """Also the one that had diverged before: it stays what it was."""
    whole = train(run, tmp_path / "whole", members=Members(WILD))
    signal_at(monkeypatch, batch=4)
    with pytest.raises(Stopped):
        train(run, tmp_path / "cut", members=Members(WILD))
    again = train(run, tmp_path / "cut", members=Members(WILD))
    same(whole.params, again.params)
    assert whole.stopped == again.stopped
    assert json.dumps(lines(tmp_path / "whole")) == json.dumps(lines(tmp_path / "cut"))


def test_a_folder_knows_its_members(run, ensemble):
    with pytest.raises(UserError, match="members"):
        train(run, ensemble[1], members=Members(ROWS[:2]))
    with pytest.raises(UserError, match="members"):
        train(run, ensemble[1])


def test_sharded_members_are_unsharded_ones():
    assert json.loads(children.run("tests.train.sharded_members", devices=4).stdout) == {"same": True, "devices": 4}


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ((), "at least one"),
        (({"seed": 0}, {"optimizer.learning_rate": 1.0}), "same fields"),
        (({"model.depth": 3},), "model.depth: cannot differ"),
        (({"optimizer.learning_rat": 1.0},), "learning_rat: is no number"),
        (({"optimizer.schedule.warmup": 2},), "warmup: the program itself depends"),
    ],
)
def test_what_cannot_vary_is_refused(run, rows, line):
    with pytest.raises(UserError, match=line):
        prepare(run, toys.Toy().build(), members=Members(rows))


def test_replicas_must_fit_the_mesh(run):
    fits = dataclasses.replace(run, mesh=Mesh(replica=2, data=1))
    with pytest.raises(SpecError, match="the 3 replicas"):
        prepare(fits, toys.Toy().build(), devices=jax.devices() * 2, members=Members(ROWS))


def test_substitution_leaves_the_original(run):
    changed = substitute(run, {"model.init.std": 0.5, "seed": 3})
    assert (changed.model.init.std, changed.seed) == (0.5, 3)
    assert (run.model.init.std, run.seed) == (0.02, 0)


def test_an_update_that_overflows_stops_no_other(run, tmp_path, ensemble):
    """The step itself is finite; the parameters after it are not, and a checkpoint comes before the next step."""
    rate = {"optimizer.learning_rate": 3.4e38, "seed": 0, "model.init.std": 0.02}
    steep = dataclasses.replace(run, reports=dataclasses.replace(run.reports, checkpoint=1))
    done = train(steep, tmp_path / "run", members=Members((*ROWS[:2], rate)))
    assert list(done.stopped) == [2]
    mine, calm = (lines(folder)[-1]["val/loss"][:2] for folder in (tmp_path / "run", ensemble[1]))
    assert mine == pytest.approx(calm, rel=1e-6)
