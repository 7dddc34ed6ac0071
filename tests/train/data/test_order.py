"""The order of rows: what each order is, and that hosts and a resumed run change nothing."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from train.data import ByClass, Curriculum, Digits, InOrder, Ordered, Shuffled, Text
from train.data.base import Dataset
from train.data.description import Description
from train.data.order import Key, Order

LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 1, 0, 3, 0])
LENGTHS = np.array([5, 1, 3, 3, 2, 5, 1, 4, 2, 2, 5])
N = len(LABELS)


class Labelled:
    """Row i is called i + 1; it has a label and a length."""

    def __init__(self):
        self.read = 0

    def __len__(self):
        return N

    def gather(self, indices):
        self.read += len(indices)
        segments = (np.arange(6)[None] < LENGTHS[indices][:, None]).astype(np.int32)
        return {"name": np.asarray(indices) + 1, "label": LABELS[indices], "segments": segments}


@dataclasses.dataclass(frozen=True)
class Backwards(Key):
    """A key as a user writes it."""

    def of(self, batch):
        return -batch["name"]


@dataclasses.dataclass(frozen=True)
class Twice(Order):
    """An order that is wrong: it has too few places."""

    def indices(self, rows, epoch, seed):
        return np.zeros(3, np.int64)


ORDERS = [Shuffled(), InOrder(), ByClass(), ByClass(2), Curriculum(), Curriculum(epochs=1), Curriculum(Backwards())]


def dataset(order):
    return Dataset({"train": Labelled()}, Description({}), "content").ordered(order)


def names(batches, count):
    return [batch["name"].tolist() for batch in itertools.islice(batches, count)]


def epochs(order, count=3, seed=0):
    """The rows of the first epochs, counted from 0."""
    (whole,) = names(dataset(order).train(N * count, seed), 1)
    return [np.array(whole[i * N : (i + 1) * N]) - 1 for i in range(count)]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_every_row_once_an_epoch(order):
    for epoch in epochs(order):
        assert sorted(epoch) == list(range(N))


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_and_resuming_change_nothing(order, hosts):
    whole = names(dataset(order).train(4, seed=3), 9)  # three epochs and more
    parts = [names(dataset(order).train(4, 3, process, hosts), 9) for process in range(hosts)]
    assert [list(itertools.chain.from_iterable(step)) for step in zip(*parts, strict=True)] == whole
    batches = dataset(order).train(4, seed=3)
    names(batches, 4)
    fresh = dataset(order).train(4, seed=3)
    fresh.set_state(json.loads(json.dumps(batches.get_state())))
    assert names(fresh, 5) == whole[4:]


def test_in_order():
    assert [epoch.tolist() for epoch in epochs(InOrder())] == [list(range(N))] * 3


@pytest.mark.parametrize("together", [1, 2])
def test_by_class(together):
    first, second, _ = epochs(ByClass(together))
    for epoch in (first, second):
        groups = LABELS[epoch] // together
        assert groups.tolist() == sorted(groups)
    assert first.tolist() != second.tolist()
    assert first.tolist() != epochs(ByClass(together), seed=1)[0].tolist()
    assert first.tolist() != np.argsort(LABELS, kind="stable").tolist()


def test_curriculum():
    first, second, third = epochs(Curriculum())
    for epoch in (first, second, third):
        assert LENGTHS[epoch].tolist() == sorted(LENGTHS)
    assert first.tolist() != second.tolist()
    down = epochs(Curriculum(descending=True))[0]
    assert LENGTHS[down].tolist() == sorted(LENGTHS, reverse=True)
    assert epochs(Curriculum(Backwards()))[0].tolist() == list(range(N))[::-1]
    once = epochs(Curriculum(epochs=1))
    assert LENGTHS[once[0]].tolist() == sorted(LENGTHS)
    assert [epoch.tolist() for epoch in once[1:]] == [epoch.tolist() for epoch in epochs(Shuffled())[1:]]


def test_keys_are_read_once():
    """And not again in each epoch: 11 rows for the labels, 33 for the batches."""
    rows = Labelled()
    names(Dataset({"train": rows}, Description({}), "content", ByClass()).train(N, 0), 3)
    assert rows.read == 4 * N


def test_a_training_batch_tells_the_place_of_each_row():
    parts = [list(itertools.islice(dataset(InOrder()).train(4, 0, process, 2), 3)) for process in range(2)]
    for process, batches in enumerate(parts):
        for batch in batches:
            assert batch["row"].dtype == np.int32
            assert batch["row"].tolist() == [2 * process, 2 * process + 1]


def test_an_evaluation_batch_tells_the_number_of_each_row():
    """Those that fill up the last batch have the numbers that follow."""
    made = Dataset({"validation": Labelled()}, Description({}), "content")
    for hosts in (1, 2):
        parts = [list(made.evaluation("validation", 4, process, hosts)) for process in range(hosts)]
        for index, step in enumerate(zip(*parts, strict=True)):
            row = np.concatenate([batch["row"] for batch in step])
            assert (row.dtype, row.tolist()) == (np.int32, list(range(4 * index, 4 * index + 4)))
            name = np.concatenate([batch["name"] for batch in step])
            assert name.tolist() == [i + 1 if i < N else 0 for i in row]


def test_a_run_in_another_order_is_not_resumed():
    state = dataset(ByClass()).train(4, 0).get_state()
    with pytest.raises(UserError, match=r"has order 'ByClass\(together=1\)', this run has 'InOrder\(\)'"):
        dataset(InOrder()).train(4, 0).set_state(state)


def test_orders_that_do_not_fit():
    data = Ordered(Text(), ByClass())
    with pytest.raises(SpecError, match=r"Ordered\.order=.*: reads label of the rows; they have tokens, segments, pos"):
        data.build()
    with pytest.raises(UserError, match=r"Twice\(\): gives 3 places for 11 rows"):
        next(dataset(Twice()).train(4, 0))
    with pytest.raises(SpecError, match="together=0: must be at least 1"):
        ByClass(0)
    with pytest.raises(SpecError, match="epochs=0: must be at least 1"):
        Curriculum(epochs=0)


def test_a_stream_of_classes():
    batches = Ordered(Digits(), ByClass()).build().train(100, seed=0)
    labels = np.concatenate([next(batches)["label"] for _ in range(11)])
    assert labels.tolist() == sorted(labels)
    assert set(labels) == set(range(10))
