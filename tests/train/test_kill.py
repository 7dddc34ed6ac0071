"""A run in processes of its own, killed, terminated and interrupted, ends as one that was left alone."""

import json
import signal

import jax
import numpy as np
import pytest

from tests.train import children, toys
from tests.train.families import FAMILIES
from tests.train.test_loop import lines
from train.data.base import TrainBatches
from train.loop import train
from train.record.checkpoint import Checkpoints
from train.setup import prepare


def child(folder, **told):
    return children.finish(children.start("tests.train.child_train", folder, json.dumps(told)))


def params(folder, **fields) -> list[np.ndarray]:
    """The parameters of the last checkpoint, read independently of the loop."""
    run = toys.run(**fields)
    program = prepare(run, run.data.describe())
    with Checkpoints(folder, keep=2) as checkpoints:
        found = checkpoints.restore(program.abstract)
    assert found is not None
    assert found.step == run.steps
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found.state["params"])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(toys.run(), folder)
    return folder


def test_killed_terminated_and_interrupted(whole, tmp_path):
    """SIGKILL while checkpoint 4 is written, SIGTERM at a random step, Ctrl-C at the last: as if nothing had been."""
    killed = child(tmp_path, kill_in_save=4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    when = int(np.random.default_rng().integers(2, 4))
    terminated = child(tmp_path, signal=["SIGTERM", when])
    assert "going on from step 2 of 6" in terminated.stdout
    assert (terminated.returncode, terminated.stderr) == (143, ""), f"at batch {when}"
    assert f"SIGTERM: stopped after step {when + 1} of 6, which is saved; to go on, run the same" in terminated.stdout
    interrupted = child(tmp_path, signal=["SIGINT", 5])
    assert (interrupted.returncode, interrupted.stderr) == (130, "")
    finished = child(tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "left: []" in finished.stdout
    assert lines(tmp_path) == lines(whole)
    for ours, theirs in zip(params(tmp_path), params(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_survives_being_killed(family, tmp_path):
    """SIGKILL before anything is saved, while checkpoint 4 is written, and at a random step after it: the end is that
    of a run that was left alone, dropout and hidden tokens too."""
    train(toys.run(**FAMILIES[family]), tmp_path / "whole")
    when = int(np.random.default_rng().integers(3, 6))
    for told in ({"signal": ["SIGKILL", 1]}, {"kill_in_save": 4}, {"signal": ["SIGKILL", when]}):
        killed = child(tmp_path / "run", family=family, **told)
        assert killed.returncode == -signal.SIGKILL, (told, killed.stderr[-2000:])
    finished = child(tmp_path / "run", family=family)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "going on from step" in finished.stdout
    assert lines(tmp_path / "run") == lines(tmp_path / "whole"), f"killed at batch {when}"
    both = (params(tmp_path / name, **FAMILIES[family]) for name in ("run", "whole"))
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_test_would_notice_a_batch_that_is_skipped(whole, tmp_path, monkeypatch):
    """Guards the test above: a run that loses one batch at the resume is another run."""
    fetch, sent = TrainBatches.__next__, []

    def skipping(self):
        if self.get_state()["next_batch"] == 3 and not sent:
            sent.append(fetch(self))
        return fetch(self)

    monkeypatch.setattr(TrainBatches, "__next__", skipping)
    train(toys.run(), tmp_path)
    assert lines(tmp_path) != lines(whole)
