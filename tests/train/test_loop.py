"""The loop: what a run leaves behind, and that an interrupted run leaves the same."""

import dataclasses
import signal

import jax
import numpy as np
import pytest

from arch.models.base import Inputs
from arch.spec import SpecError, UserError
from tests.train import toys
from train.data.base import TrainBatches
from train.loop import train
from train.optim import SGD, Constant
from train.record.metrics import read
from train.record.reporter import TIMES
from train.runtime.profiling import Window
from train.runtime.signals import Stopped
from train.trained import open_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and its folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return train(toys.run(), folder), folder


def lines(folder) -> list[dict]:
    """The metrics without those that measure the machine."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in read(folder)]


def same(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def signal_at(monkeypatch, batch: int, number: int = signal.SIGTERM) -> None:
    """Sends `number` to this process when it fetches `batch`, once."""
    fetch, sent = TrainBatches.__next__, []

    def signalled(self):
        if self.get_state()["next_batch"] == batch and not sent:
            sent.append(signal.raise_signal(number))
        return fetch(self)

    monkeypatch.setattr(TrainBatches, "__next__", signalled)


def test_what_a_run_leaves_behind(whole):
    trained, folder = whole
    told = lines(folder)
    assert [line["step"] for line in told] == [1, 2, 3, 3, 4, 5, 6, 6]
    train_names = {"step", "train/loss", "train/bits_per_byte", "train/target_fraction"}
    train_names |= {"train/grad_norm", "train/learning_rate"}
    assert all(set(line) == train_names for line in told if "val/loss" not in line)
    assert told[0]["train/loss"] == pytest.approx(np.log(toys.VOCAB), abs=0.1)
    assert told[-1]["val/loss"] < told[3]["val/loss"] < told[0]["train/loss"]
    assert trained.metrics == {
        name: told[-1][name] for name in ("val/loss", "val/bits_per_byte", "val/target_fraction")
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"4", "6"}
    assert all("train/tokens_per_s" in line for line in read(folder)[1:] if "val/loss" not in line)


def test_evaluation_counts_every_row_once(whole):
    """13 rows in batches of 8: the mean over all targets at once, by the model itself."""
    trained, _ = whole
    rows = trained.dataset.rows["validation"].arrays
    tokens, segments = rows["tokens"], rows["segments"]
    logits = trained.model(Inputs(tokens[:, :-1], rows["positions"][:, :-1], segments[:, :-1])).logits
    nats = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits), np.float64), tokens[:, 1:, None], -1)[..., 0]
    counted = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    assert trained.metrics["val/loss"] == pytest.approx(nats[counted].mean(), rel=1e-6)


def test_a_finished_run_is_left_as_it_is(whole):
    trained, folder = whole
    before = {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "tensorboard" not in str(path)
    }
    again = train(toys.run(), folder)
    same(again.params, trained.params)
    assert again.metrics == trained.metrics
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal_and_resumed(whole, tmp_path, monkeypatch, capsys, number, code):
    """Stopped after step 3, when an evaluation was due, and nowhere near a checkpoint."""
    with monkeypatch.context() as patch:
        signal_at(patch, 2, number)
        with pytest.raises(Stopped) as stopped:
            train(toys.run(), tmp_path)
    assert stopped.value.code == code
    out = capsys.readouterr().out
    assert "stopped after step 3 of 6, which is saved; to go on, run the same command again" in out
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "3"}
    resumed = train(toys.run(), tmp_path)
    assert "going on from step 3 of 6" in capsys.readouterr().out
    same(resumed.params, whole[0].params)
    assert lines(tmp_path) == lines(whole[1])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_stopped_during_an_evaluation(whole, tmp_path, monkeypatch):
    """The evaluation is given up, and made up for by the run that goes on."""
    from train.data.base import EvaluationBatches

    walk = EvaluationBatches.__iter__

    def signalled(self):
        for batch in walk(self):
            signal.raise_signal(signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(EvaluationBatches, "__iter__", signalled)
        with pytest.raises(Stopped):
            train(toys.run(), tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    train(toys.run(), tmp_path)
    assert lines(tmp_path) == lines(whole[1])


def test_a_changed_model_is_refused_before_anything_is_done(whole, monkeypatch):
    monkeypatch.setattr(toys.Toy, "build", lambda *a, **k: pytest.fail("the data were built"))
    with pytest.raises(UserError, match=r"another configuration.*\n  model\.depth: 3 -> 4"):
        train(toys.run(model=toys.model(dropout=0.1, depth=4)), whole[1])


def test_a_new_run_is_described_once(tmp_path):
    told = []
    short = toys.run(steps=1, logging=dataclasses.replace(toys.run().logging, log=0))
    for _ in range(2):
        train(short, tmp_path / "run", describe=lambda folder: told.append((folder / "run.json").exists()))
    assert told == [True]


def test_a_model_with_too_few_tokens_for_the_data(tmp_path):
    with pytest.raises(SpecError, match="vocab=31: must be at least 32, the tokens of the data"):
        train(toys.run(model=toys.model(vocab=31)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_learning_rate_that_ends_in_infinity(tmp_path, capsys):
    """The step and the layer are named, the checkpoint before is kept, and resuming meets the same end."""
    hot = toys.run(optimizer=SGD(learning_rate=1e19, clip=None, schedule=Constant(), momentum=0.0))
    hot = dataclasses.replace(hot, logging=dataclasses.replace(hot.logging, checkpoint=1))
    for _ in range(2):
        with pytest.raises(UserError) as error:
            train(hot, tmp_path)
        line = str(error.value)
        assert "\n" not in line
        assert line.startswith("step 2: the loss or its gradient is not finite: the first values that are not finite")
        assert "of layer 0" in line
        assert f"the checkpoint of step 1 is good; {tmp_path}" in line
        assert [told["step"] for told in read(tmp_path)] == [1, 2]
        assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"1"}


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    """The gradient is finite and its product with the learning rate is not."""
    hot = toys.run(optimizer=SGD(learning_rate=3e38, clip=1e3, schedule=Constant(), momentum=0.0), steps=1)
    hot = dataclasses.replace(hot, optimizer=dataclasses.replace(hot.optimizer, weight_decay=1e3))
    with pytest.raises(UserError, match=r"step 1: the update made the parameter .* not finite; there is no checkpoint"):
        train(hot, tmp_path)


def test_no_space_left_for_metrics(tmp_path, monkeypatch):
    from train.record import metrics

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics.Metrics, "_append", full)
    with pytest.raises(UserError, match="cannot write metrics: No space left on device; what was written before is"):
        train(toys.run(steps=2), tmp_path)


def test_a_profile_of_some_steps(tmp_path):
    train(toys.run(steps=3, logging=dataclasses.replace(toys.run().logging, log=0)), tmp_path, profile=Window(2, 1))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    with pytest.raises(UserError, match="both must be at least 1"):
        Window(0)


def test_opening_a_run_touches_nothing(whole):
    """Another process may train there, and be in the middle of a save."""
    trained, folder = whole
    half = folder / "checkpoints" / "7.orbax-checkpoint-tmp"
    half.mkdir()
    before = sorted(map(str, folder.rglob("*")))
    opened = open_run(toys.run(), folder)
    assert sorted(map(str, folder.rglob("*"))) == before
    half.rmdir()
    same(opened.params, trained.params)
