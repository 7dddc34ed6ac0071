"""What is evaluated when: validation and further sets at each evaluation, the test split once, at the end."""

import dataclasses
import signal

import jax
import numpy as np
import pytest

from arch.models.base import Inputs
from tests.train import toys
from train.data.base import EvaluationBatches
from train.data.wrappers import WithEvaluation
from train.evaluate import TEST, evaluate_all, evaluation_batches
from train.loop import train
from train.record.metrics import read
from train.run import Logging
from train.runtime.signals import Stopped
from train.trained import open_run

DATA = WithEvaluation(toys.Toy(rows=20, held_out=13, test=9), (("more", toys.Toy(held_out=5)),))
RUN = toys.run(model=toys.model(depth=1), data=DATA, steps=2, logging=Logging(log=0, evaluate=1, checkpoint=1))
NAMES = ("loss", "bits_per_byte", "target_fraction")


def told(folder):
    """(step, prefixes) of each evaluation."""
    lines = [(line["step"], {name.partition("/")[0] for name in line} - {"step", "train"}) for line in read(folder)]
    return [line for line in lines if line[1]]


def values(folder):
    return [{name: line[name] for name in line if not name.startswith("train/")} for line in read(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return train(RUN, folder), folder


def test_the_test_split_is_evaluated_once_at_the_end(whole):
    trained, folder = whole
    assert told(folder) == [(1, {"val", "more"}), (2, {"val", "test", "more"})]
    assert set(trained.metrics) == {f"{split}/{name}" for split in ("val", "test", "more") for name in NAMES}
    last = values(folder)[-1]
    assert trained.metrics == {name: last[name] for name in trained.metrics}


def test_each_split_is_measured_on_its_own_rows(whole):
    """By the model itself, all rows of a split at once."""
    trained, _ = whole
    for split, name in (("validation", "val"), (TEST, "test"), ("more", "more")):
        rows = trained.dataset.rows[split].arrays
        tokens, segments = rows["tokens"], rows["segments"]
        logits = trained.model(Inputs(tokens[:, :-1], rows["positions"][:, :-1], segments[:, :-1])).logits
        nats = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits), np.float64), tokens[:, 1:, None], -1)[..., 0]
        counted = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        assert trained.metrics[f"{name}/loss"] == pytest.approx(nats[counted].mean(), rel=1e-6)
    assert len({trained.metrics[f"{name}/loss"] for name in ("val", "test", "more")}) == 3


def test_an_opened_run_finds_the_same(whole):
    trained, folder = whole
    assert open_run(RUN, folder).evaluate() == pytest.approx(trained.metrics, rel=1e-6)


def test_a_run_stopped_between_two_splits_makes_up_for_both(whole, tmp_path, monkeypatch):
    """The signal comes with the test split, after the validation split was measured."""
    walk = EvaluationBatches.__iter__

    def signalled(self):
        for batch in walk(self):
            if len(self._rows) == 9:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(EvaluationBatches, "__iter__", signalled)
        with pytest.raises(Stopped):
            train(RUN, tmp_path)
    assert told(tmp_path) == [(1, {"val", "more"})]
    again = train(RUN, tmp_path)
    assert values(tmp_path) == values(whole[1])
    assert again.metrics == whole[0].metrics
    assert train(RUN, tmp_path).metrics == again.metrics  # read from the folder


def test_processes_evaluate_their_own_rows(whole, monkeypatch):
    """Two halves of a batch, as two processes hold them, are the batch."""
    trained, _ = whole
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    halves = []
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        halves.append(list(evaluation_batches(trained.program, trained.dataset)["validation"]))
    both = [np.concatenate([a["tokens"], b["tokens"]]) for a, b in zip(*halves, strict=True)]
    wanted = [batch["tokens"] for batch in trained.dataset.validation(RUN.batch)]
    np.testing.assert_array_equal(both, wanted)


def test_data_without_anything_to_evaluate_on(whole, tmp_path):
    data = toys.Toy(held_out=0)
    trained = train(dataclasses.replace(RUN, data=data, steps=1), tmp_path)
    assert trained.metrics == {}
    assert evaluate_all(trained.program, trained.params, {}) == {}
