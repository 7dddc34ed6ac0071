import itertools
import json

import numpy as np
import pytest

from arch.spec import UserError
from train.data.base import Dataset
from train.data.description import Description


class Numbered:
    """Row i holds i + 1 in every place."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def gather(self, indices):
        return {"tokens": np.repeat(np.asarray(indices)[:, None] + 1, 3, axis=1).astype(np.int32)}


def made(fingerprint):
    arrays = {"tokens": ((3,), np.int32)}
    return Dataset({"train": Numbered(23), "validation": Numbered(11)}, Description(arrays), fingerprint)


@pytest.fixture
def dataset():
    return made("content")


def ids(batch):
    return [int(row[0]) for row in batch["tokens"]]


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def take(batches, count):
    return [ids(batch) for batch in itertools.islice(batches, count)]


def test_every_row_once_an_epoch_and_nothing_dropped(dataset):
    order = joined(take(dataset.train(8, seed=0), 23))
    epochs = [order[i : i + 23] for i in range(0, len(order), 23)]
    assert len(epochs) == 8
    for epoch in epochs:
        assert sorted(epoch) == list(range(1, 24))
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_the_order_is_a_function_of_the_seed(dataset):
    first = take(dataset.train(8, seed=0), 6)
    assert take(dataset.train(8, seed=0), 6) == first
    assert take(dataset.train(8, seed=1), 6) != first
    assert first[0] != list(range(1, 9))


def test_the_order_of_rows_does_not_depend_on_the_batch(dataset):
    assert joined(take(dataset.train(8, seed=0), 6)) == joined(take(dataset.train(4, seed=0), 12))


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_together_hold_the_global_batches(dataset, hosts):
    whole = take(dataset.train(8, seed=3), 12)  # four epochs
    parts = [take(dataset.train(8, seed=3, process_index=p, process_count=hosts), 12) for p in range(hosts)]
    assert all(len(batch) == 8 // hosts for part in parts for batch in part)
    assert [joined(step) for step in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_together_hold_the_validation(dataset, hosts):
    parts = [[ids(b) for b in dataset.validation(4, p, hosts)] for p in range(hosts)]
    together = [joined(step) for step in zip(*parts, strict=True)]
    assert together == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 0]]


def test_validation_is_the_same_each_time(dataset):
    validation = dataset.validation(4)
    assert len(validation) == 3
    assert take(validation, 9) == take(validation, 9) == take(dataset.validation(4), 9)


def test_a_batch_larger_than_the_data(dataset):
    assert take(dataset.validation(16, 1, 2), 2) == [[9, 10, 11, 0, 0, 0, 0, 0]]
    assert sorted(set(take(dataset.train(64, seed=0), 1)[0])) == list(range(1, 24))


@pytest.mark.parametrize("done", [0, 1, 2, 3, 10])  # an epoch ends within the third batch
def test_a_restored_iterator_goes_on_exactly(dataset, done):
    batches = dataset.train(8, seed=5)
    take(batches, done)
    state = json.loads(json.dumps(batches.get_state()))
    wanted = take(batches, 7)
    fresh = dataset.train(8, seed=5)
    fresh.set_state(state)
    assert take(fresh, 7) == wanted
    batches.set_state(state)  # also backwards, in a used one
    assert take(batches, 7) == wanted


def test_a_run_goes_on_with_other_hosts(dataset):
    alone = dataset.train(8, seed=5)
    take(alone, 4)
    state, wanted = alone.get_state(), take(alone, 3)
    parts = []
    for process in range(4):
        batches = dataset.train(8, 5, process, 4)
        batches.set_state(state)
        parts.append(take(batches, 3))
    assert [joined(step) for step in zip(*parts, strict=True)] == wanted


@pytest.mark.parametrize(("change", "name"), [({"batch": 4}, "batch 8, this run has 4"), ({"seed": 6}, "seed 5")])
def test_a_state_of_another_run_is_refused(dataset, change, name):
    state = dataset.train(8, seed=5).get_state()
    with pytest.raises(UserError, match=f"the saved data position has {name}"):
        dataset.train(**{"batch": 8, "seed": 5, **change}).set_state(state)


def test_a_state_of_other_data_is_refused(dataset):
    other = made("other")
    with pytest.raises(UserError, match="the saved data position has data 'content', this run has 'other'"):
        other.train(8, 5).set_state(dataset.train(8, 5).get_state())


@pytest.mark.parametrize("split", ["train", "validation"])
def test_batches_that_cannot_be_dealt_out(dataset, split):
    make = {"train": lambda *a: dataset.train(a[0], 0, *a[1:]), "validation": dataset.validation}[split]
    with pytest.raises(UserError, match="batch 6: must be a positive multiple of the number of processes, 4"):
        make(6, 0, 4)
    with pytest.raises(UserError, match="batch 0: must be a positive multiple"):
        make(0)
    with pytest.raises(UserError, match="process index 2: must be between 0 and 1"):
        make(4, 2, 2)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_grain_does_not_take(dataset, seed):
    with pytest.raises(UserError, match=rf"data seed {seed}: must be between 0 and 4294967295"):
        dataset.train(8, seed)
