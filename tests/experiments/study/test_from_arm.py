"""Arms that start from arms, and scores taken of trained seeds."""

import dataclasses

import jax
import numpy as np
import pytest

from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.spec import SpecError, UserError
from experiments.config import render
from experiments.hf.arm import open_arm
from experiments.study.engine import run_study
from experiments.study.from_arm import FromArm, generations, settled, shared_teachers, taught, within
from experiments.study.study import TUNING_SEED
from experiments.study.work.cells import Cells
from experiments.suites.likelihood import NextToken
from tests.experiments.study import toy
from tests.train import toys
from train import loop
from train.ensemble import Ensemble
from train.objectives.distillation import Distill
from train.objectives.next_token import NextToken as NextTokens
from train.run import Logging
from train.starts.codes_from_data import KMeansCodes
from train.starts.frozen import Pretrained
from train.starts.start import FromRun

BASE = toys.run(model=toys.model(depth=1), steps=3, logging=Logging(log=3, evaluate=0, checkpoint=0, keep=1))
CODES = VectorQuantized(codes=4)
ARMS = {
    "first": BASE,
    "on": dataclasses.replace(BASE, start=FromArm("first"), steps=2),
    "on again": dataclasses.replace(BASE, start=FromArm("on"), steps=1),
}


@pytest.fixture(scope="module")
def study():
    return toy.study(
        arms=ARMS, claims=(), learning_rates=(3e-3, 1e-2, 3e-2), tuning_seeds=1, seeds=2, suite=(NextToken(rows=4),)
    )


@pytest.fixture(scope="module")
def done(study, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("study"), []
    trained, train = [], loop.train

    def seen(run, at, ensemble=None, **rest):
        result = train(run, at, ensemble=ensemble, **rest)
        trained.append((run, ensemble, jax.device_get(result.params)))
        return result

    loop.train = seen
    try:
        return run_study(study, "toy", folder, note=said.append), trained, folder
    finally:
        loop.train = train


def test_a_seed_starts_from_the_same_seed_of_the_other_arm(done, study):
    results, trained, folder = done
    assert [arm.name for arm in results.arms] == list(ARMS)
    rate = {arm.name: arm.learning_rate for arm in results.arms}
    store = Cells(folder)
    for run, ensemble, _ in trained:
        if not isinstance(run.start, FromRun):
            continue
        child = next(name for name, arm in ARMS.items() if arm.start is not None and arm.steps == run.steps)
        above = ARMS[child].start.arm
        for row in ensemble.rows:
            told = store.folder / "groups"
            assert run.start.folder.startswith(str(told.resolve()))
            seed = row["seed"] - TUNING_SEED if row["seed"] >= TUNING_SEED else row["seed"]
            (group,) = [
                m for r, m, _ in trained
                if r.steps == ARMS[above].steps and m.rows[0]["seed"] < TUNING_SEED
            ]  # fmt: skip
            parent = group.rows[row["start.replica"]]
            assert parent["seed"] == seed
            assert parent["optimizer.learning_rate"] == rate[above]


def test_what_it_starts_from_is_what_was_trained(done, tmp_path):
    """A step that changes nothing, from the second replica, ends at its parameters."""
    _, trained, _ = done
    run, ensemble, _ = next(t for t in trained if isinstance(t[0].start, FromRun) and len(t[1].rows) == 2)
    above = next(params for r, m, params in trained if r.steps == 3 and len(m.rows) == 2)
    still = dataclasses.replace(run, steps=1, optimizer=dataclasses.replace(run.optimizer, learning_rate=0.0))
    rows = tuple({**row, "optimizer.learning_rate": 0.0} for row in reversed(ensemble.rows))
    after = loop.train(still, tmp_path / "run", ensemble=Ensemble(rows)).params
    order = [int(row["start.replica"]) for row in rows]
    wanted = jax.tree.map(lambda old: old[np.array(order)], above)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after), wanted)
    lone = dataclasses.replace(still, start=dataclasses.replace(run.start, replica=1))
    one = loop.train(lone, tmp_path / "lone").params
    jax.tree.map(lambda new, old: np.testing.assert_array_equal(new, old[1]), jax.device_get(one), above)


def test_the_scores_of_every_seed(done):
    results, _, _ = done
    for cell in results.cells:
        assert ("suite/next_token_loss" in cell.metrics) == (cell.phase == "seeds")


def test_again_nothing_is_trained(done, study, monkeypatch):
    before, _, folder = done
    monkeypatch.setattr(loop, "train", lambda *args, **rest: pytest.fail("trained"))
    again = run_study(study, "toy", folder, note=lambda line: None)
    assert again.cells == before.cells


@pytest.mark.parametrize("arm", ["on", "on again"])
def test_an_arm_that_starts_from_another_is_not_exported(done, study, arm):
    """In one line, and one that starts from none is."""
    _, trained, folder = done
    render.write(folder, study)
    with pytest.raises(
        UserError, match=f"^--arm={arm}: starts or learns from another arm; only arms that need none are"
    ):
        open_arm(folder, arm)
    opened, _, _ = open_arm(folder, "first", replica=1)
    seen = {run.start is None and ensemble.rows[1]["seed"] == 1: params for run, ensemble, params in trained
            if len(ensemble.rows) == 2}  # fmt: skip
    for found, other in zip(jax.tree.leaves(opened.params), jax.tree.leaves(seen[True]), strict=True):
        np.testing.assert_array_equal(found, other[1])


def taught_by(arm):
    return Distill(Pretrained(BASE.model, FromArm(arm)), objective=NextTokens(), alpha=0.5)


@pytest.mark.slow
def test_all_seeds_learn_from_the_first_seed_of_another_arm(tmp_path, monkeypatch):
    """In one program, which is that of a run by itself whose teacher is that seed; again nothing is trained."""
    arms = {"student": dataclasses.replace(BASE, objective=taught_by("first")), "first": BASE}
    study, trained, train = toy.study(arms=arms, claims=(), learning_rates=(), seeds=2), [], loop.train

    def seen(run, at, ensemble=None, **rest):
        trained.append((run, ensemble, at))
        return train(run, at, ensemble=ensemble, **rest)

    monkeypatch.setattr(loop, "train", seen)
    done = run_study(study, "toy", tmp_path / "study", note=lambda line: None)
    (_, above, _), (run, ensemble, _) = trained
    start = run.objective.teacher.start
    assert isinstance(start, FromRun)
    assert above.rows[start.replica]["seed"] == 0
    assert [row["seed"] for row in ensemble.rows] == [0, 1]
    alone = train(dataclasses.replace(run, seed=1), tmp_path / "alone")
    (cell,) = [one for one in done.cells if (one.arm, one.seed) == ("student", 1)]
    assert cell.metrics["val/loss"] == pytest.approx(alone.metrics["val/loss"], rel=1e-5)
    assert cell.metrics["val/loss/distillation"] > 0
    assert done.notes == [*study.notes, *shared_teachers(arms)]
    monkeypatch.setattr(loop, "train", lambda *args, **rest: pytest.fail("trained"))
    assert run_study(study, "toy", tmp_path / "study", note=lambda line: None).cells == done.cells


def test_an_arm_whose_seeds_share_a_teacher_is_named():
    arms = {"first": BASE, "student": dataclasses.replace(BASE, objective=taught_by("first")), **ARMS}
    (note,) = shared_teachers(arms)
    assert note == "All seeds of student learn from seed 0 of first: its interval has no room for others."


def test_the_order_of_arms(tmp_path):
    assert generations(ARMS) == [["first"], ["on"], ["on again"]]
    circle = {name: dataclasses.replace(BASE, start=FromArm(other)) for name, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(UserError, match="start from each other in a circle"):
        generations(circle)
    with pytest.raises(SpecError, match="start from each other in a circle"):
        toy.study(arms=circle, claims=())
    with pytest.raises(SpecError, match=r"is no arm; there are first"):
        toy.study(arms={"first": dataclasses.replace(BASE, start=FromArm("nobody"))}, claims=())
    teacher = Pretrained(BASE.model, FromArm("first"))
    learns = dataclasses.replace(BASE, objective=Distill(teacher, objective=NextTokens()))
    both = dataclasses.replace(learns, start=FromArm("on"))
    assert generations({"both": both, "learns": learns, **ARMS}) == [["first"], ["learns", "on"], ["both", "on again"]]
    settled_ = taught(learns.objective, {"first": ("there", 1)})
    assert settled_ == dataclasses.replace(
        learns.objective, teacher=Pretrained(BASE.model, FromRun("there", replica=1))
    )
    nobody = dataclasses.replace(learns, objective=taught_by("nobody"))
    with pytest.raises(SpecError, match=r"arms\[a\]\.objective='nobody': is no arm"):
        toy.study(arms={"a": nobody}, claims=())
    with pytest.raises(SpecError, match="in a circle"):
        toy.study(arms={"a": dataclasses.replace(BASE, objective=taught_by("a"))}, claims=())
    with pytest.raises(UserError, match="is known in a study alone"):
        loop.train(ARMS["on"], tmp_path / "run")


def test_nothing_starts_from_what_diverged(tmp_path):
    hot = dataclasses.replace(BASE, optimizer=dataclasses.replace(BASE.optimizer, learning_rate=1e30))
    study = toy.study(arms={**ARMS, "first": hot}, claims=(), learning_rates=(), seeds=2)
    with pytest.raises(UserError, match="seed 0 of arm first diverged, and another arm starts from it"):
        run_study(study, "toy", tmp_path / "study", note=lambda line: None)


def test_an_arm_within_another_start(study):
    """Codes from data, the rest of the arm: it waits for that arm, and gets its folder and the seed's replica."""
    codes = dataclasses.replace(BASE, start=KMeansCodes(FromArm("first", take=("^stack",)), rows=9))
    assert generations({"codes": codes, "first": BASE}) == [["first"], ["codes"]]
    assert within(codes.start) == ("start.start", codes.start.start)
    there = FromRun("there", take=("^stack",), replica=0)
    assert settled(codes.start, "there") == dataclasses.replace(codes.start, start=there)
    assert settled(codes.start.start, "there") == there
    run = dataclasses.replace(codes, start=settled(codes.start, "there"))
    assert Ensemble(({"start.start.replica": 1},)).lone(run, 0).start.start.replica == 1
    with pytest.raises(SpecError, match=r"is no arm; there are first"):
        toy.study(arms={"first": dataclasses.replace(BASE, start=KMeansCodes(FromArm("nobody")))}, claims=())


@pytest.mark.slow
def test_codes_from_the_data_of_an_arm(tmp_path):
    model = dataclasses.replace(BASE.model, block=dataclasses.replace(BASE.model.block, at=(("mlp_out", CODES),)))
    on = dataclasses.replace(BASE, model=model, start=KMeansCodes(FromArm("first"), rows=8), steps=1)
    study = toy.study(
        arms={"first": BASE, "codes": on}, claims=(), learning_rates=(3e-3, 1e-2, 3e-2), tuning_seeds=1, seeds=2
    )
    results = run_study(study, "toy", tmp_path, note=lambda line: None)
    cells = [cell for cell in results.cells if cell.arm == "codes" and cell.phase == "seeds"]
    assert len(cells) == 2
    assert all(cell.status == "finished" for cell in cells)
