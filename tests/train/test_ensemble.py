"""Members of an ensemble: each is its lone run, one that diverges stops no other, and all resume exactly."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from arch.layers.init.initializers import Normal
from arch.layers.init.reseeded import Reseeded
from arch.spec import SpecError, UserError
from tests.train import children, toys
from tests.train.test_loop import lines, same, signal_at
from train.data.base import LARGEST_SEED
from train.ensemble import Ensemble, pick, substitute
from train.loop import train
from train.objectives.base import Task
from train.objectives.next_token import NextToken
from train.optim import SGD, Constant
from train.runtime.signals import Stopped
from train.setup import prepare
from train.sharding.mesh import Mesh
from train.step import StepFunctions

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
    return train(run, folder, ensemble=Ensemble(ROWS)), folder


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_a_member_is_its_lone_run(run, ensemble, index, tmp_path):
    """The losses of all steps to 1e-6 relative; Adam makes of a gradient near zero what rounding makes of it."""
    together, folder = ensemble
    alone = train(Ensemble(ROWS).lone(run, index), tmp_path / "alone")
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
    done = train(run, tmp_path / "run", ensemble=Ensemble(WILD))
    assert list(done.stopped) == [2]
    assert done.stopped[2] <= 3
    for mine, calm in zip(lines(tmp_path / "run"), lines(ensemble[1]), strict=True):
        for name in set(mine) - {"step"}:
            np.testing.assert_allclose(mine[name][:2], calm[name][:2], rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(done.params)))


def test_resumed_members_are_uninterrupted_ones(run, tmp_path, monkeypatch):
    """Also the one that had diverged before: it stays what it was."""
    whole = train(run, tmp_path / "whole", ensemble=Ensemble(WILD))
    signal_at(monkeypatch, batch=4)
    with pytest.raises(Stopped):
        train(run, tmp_path / "cut", ensemble=Ensemble(WILD))
    again = train(run, tmp_path / "cut", ensemble=Ensemble(WILD))
    same(whole.params, again.params)
    assert whole.stopped == again.stopped
    assert json.dumps(lines(tmp_path / "whole")) == json.dumps(lines(tmp_path / "cut"))


def test_a_folder_knows_its_members(run, ensemble):
    with pytest.raises(UserError, match="members"):
        train(run, ensemble[1], ensemble=Ensemble(ROWS[:2]))
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
        prepare(run, toys.Toy().describe(), ensemble=Ensemble(rows))


@pytest.fixture(scope="module")
def small():
    """One layer of attention, without dropout."""
    model = toys.model(depth=1, block=dataclasses.replace(toys.model().block, feed_forward=None))
    return toys.run(model=model, optimizer=SGD(learning_rate=0.1, momentum=0.0, clip=None, schedule=Constant()))


def test_replicas_may_vary_the_objective(small):
    """Zero beside others: each takes the step that its lone run takes."""
    dataset, ensemble = toys.Toy().build(), Ensemble(tuple({"objective.z_loss": value} for value in (0.0, 0.01, 1.0)))

    def step(program):
        batch = next(program.batches(dataset))
        state, metrics = program.train_step(program.start(), program.place(batch), program.go())
        return jax.device_get((state["params"], metrics["grad_norm"]))

    together = step(prepare(small, dataset.description, ensemble=ensemble))
    norms = together[1].tolist()
    assert len(set(norms)) == 3
    for index in range(3):
        alone = step(prepare(ensemble.lone(small, index), dataset.description))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), pick(together, index), alone)


@dataclasses.dataclass(frozen=True)
class Curious(NextToken):
    """Asks for the value of its `weight` when a step is traced, in the way `how`."""

    weight: float = 1.0
    how: str = "truth"

    def build(self, description):
        inner = super().build(description)
        ways = {
            "truth": bool,
            "number": float,
            "whole": lambda x: range(int(x)),
            "index": lambda x: range(3)[x],
            "array": np.sqrt,
            "nothing": lambda x: x * 2,
        }

        def loss(output, targets):
            ways[self.how](self.weight)
            return inner.loss(output, targets)

        return Task(inner.prepare, loss)


@pytest.mark.parametrize("how", ["truth", "number", "whole", "index", "array"])
def test_what_the_steps_depend_on_is_told_before_anything_runs(small, how):
    """In one line; a loss that only calculates with the value is prepared."""
    curious = dataclasses.replace(small, objective=Curious(how=how))
    rows = ({"objective.weight": 1}, {"objective.weight": 2})
    with pytest.raises(UserError, match=r"^objective\.weight: the program itself depends on one of these.*own$"):
        prepare(curious, toys.Toy().describe(), ensemble=Ensemble(rows))
    if how == "truth":
        fine = dataclasses.replace(small, objective=Curious(how="nothing"))
        prepare(fine, toys.Toy().describe(), ensemble=Ensemble(rows))


def test_a_step_that_was_tried_is_not_traced_again(small, monkeypatch):
    """So that trying it costs nothing."""
    traced = []
    original = StepFunctions.train_step
    monkeypatch.setattr(StepFunctions, "train_step", lambda *words: traced.append(1) or original(*words))
    dataset = toys.Toy().build()
    program = prepare(small, dataset.description, ensemble=Ensemble(({"seed": 0}, {"seed": 1})))
    batch = program.place(next(program.batches(dataset)))
    program.train_step.func.trace(*program.train_step.args, program.start(), batch, program.go())
    assert traced == [1]


def test_replicas_must_fit_the_mesh(run):
    fits = dataclasses.replace(run, mesh=Mesh(replica=2, data=1))
    with pytest.raises(SpecError, match="the 3 replicas"):
        prepare(fits, toys.Toy().describe(), devices=jax.devices() * 2, ensemble=Ensemble(ROWS))


def test_substitution_leaves_the_original(run):
    changed = substitute(run, {"model.init.std": 0.5, "seed": 3})
    assert (changed.model.init.std, changed.seed) == (0.5, 3)
    assert (run.model.init.std, run.seed) == (0.02, 0)


def test_an_update_that_overflows_stops_no_other(run, tmp_path, ensemble):
    """The step itself is finite; the parameters after it are not, and a checkpoint comes before the next step."""
    rate = {"optimizer.learning_rate": 3.4e38, "seed": 0, "model.init.std": 0.02}
    steep = dataclasses.replace(run, logging=dataclasses.replace(run.logging, checkpoint=1))
    done = train(steep, tmp_path / "run", ensemble=Ensemble((*ROWS[:2], rate)))
    assert list(done.stopped) == [2]
    mine, calm = (lines(folder)[-1]["val/loss"][:2] for folder in (tmp_path / "run", ensemble[1]))
    assert mine == pytest.approx(calm, rel=1e-6)


def test_members_that_differ_in_their_draw():
    """The draw of a reseeded initialiser is a number like any other: a member starts as its lone run."""
    run = toys.run(model=toys.model(init=Reseeded(Normal(0.02))))
    ensemble = Ensemble(tuple({"seed": seed, "model.init.draw": draw} for seed, draw in ((0, 1), (0, 2), (1, 2))))
    description = run.data.build().description
    together = jax.device_get(prepare(run, description, ensemble=ensemble).start()["params"])
    alone = jax.device_get(prepare(ensemble.lone(run, 1), description).start()["params"])
    jax.tree.map(np.testing.assert_array_equal, pick(together, 1), alone)
    starts = {pick(together, index)["embedding"]["table"].tobytes() for index in range(len(ensemble))}
    assert len(starts) == len(ensemble)


def test_seeds_of_all_32_bits():
    """As a run by itself has them."""
    seeds = (3_000_000_000, LARGEST_SEED, 1)
    (array,) = Ensemble(tuple({"seed": seed} for seed in seeds)).arrays().values()
    for one, seed in zip(array, seeds, strict=True):
        np.testing.assert_array_equal(
            jax.random.key_data(jax.random.key(one)), jax.random.key_data(jax.random.key(seed))
        )
