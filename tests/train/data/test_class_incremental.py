"""Phases of classes: which rows each phase reads, and the sets that it is evaluated on."""

import numpy as np
import pytest

from arch.spec import SpecError
from train.data import ClassIncremental, Digits, Ordered, WithClassSets

LABELS = np.array([2, 0, 1, 3, 0, 2, 5, 1, 0, 3, 4, 4])


class Labelled:
    def __len__(self):
        return len(LABELS)

    def gather(self, indices):
        return {"label": LABELS[indices]}


def places(order, count, seed=0):
    """The rows at the first `count` places of a run."""
    rows = Labelled()
    epochs = -(-count // len(rows))
    return np.concatenate([order.indices(rows, epoch, seed) for epoch in range(epochs)])[:count]


def test_a_phase_reads_its_classes_alone_and_all_its_rows_equally_often():
    read = 20
    found = places(ClassIncremental(2, read), 80)
    for phase in range(3):
        rows = found[phase * read : (phase + 1) * read]
        assert set(LABELS[rows] // 2) == {phase}
        counts = np.bincount(rows, minlength=12)[phase == LABELS // 2]
        assert counts.max() - counts.min() <= 1
    assert set(LABELS[found[60:]] // 2) == {2}  # and goes on with the last


def test_turns_of_a_phase_have_orders_of_their_own():
    found = places(ClassIncremental(2, 50), 50)
    turns = found.reshape(-1, 5)  # five rows of classes 0 and 1
    assert all(sorted(turn) == [1, 2, 4, 7, 8] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 5
    assert np.array_equal(found, places(ClassIncremental(2, 50), 50))
    assert not np.array_equal(found, places(ClassIncremental(2, 50), 50, seed=1))


def test_sets_are_the_test_rows_of_each_phase():
    dataset = Ordered(WithClassSets(Digits(), together=4), ClassIncremental(4, 64)).build()
    sizes = [len(dataset.rows[name]) for name in ("phase1", "phase2", "phase3")]
    assert sum(sizes) == len(dataset.rows["test"]) == 300
    for index in range(3):
        labels = np.concatenate([b["label"][b["weight"] > 0] for b in dataset.evaluation(f"phase{index + 1}", 32)])
        assert set(labels // 4) == {index}
        assert len(labels) == sizes[index]
    assert dataset.description.splits == ("train", "validation", "test", "phase1", "phase2", "phase3")
    labels = np.concatenate([next(batches)["label"] for batches in [dataset.train(16, 0)] for _ in range(4)])
    assert set(labels // 4) == {0}


def test_what_does_not_fit_is_refused():
    for data, what in (
        (WithClassSets(Digits(test=0)), "split"),
        (WithClassSets(Digits(), classes=12), "classes"),
    ):
        with pytest.raises(SpecError, match=what):
            data.build()
