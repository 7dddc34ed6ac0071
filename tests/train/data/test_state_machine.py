"""Walks on a state machine: every step is an edge, edges are equally likely, rows depend on their number alone."""

import numpy as np
import pytest

from arch.spec import SpecError
from train.data.state_machine import Machine, StateMachine

SPEC = StateMachine(states=16, edges=3, length=24, rows=2000, held_out=50, tested=40)


@pytest.fixture(scope="module")
def dataset():
    return SPEC.build()


def test_rows_are_walks_in_two_digits(dataset):
    machine = dataset.machine
    rows = dataset.rows["train"].gather(np.arange(2000))
    tokens = rows["tokens"]
    assert tokens.shape == (2000, 49)
    assert (tokens[:, 0] == 4).all()
    assert tokens[:, 1:].max() == 3
    states = machine.read(tokens[:, 1:])
    np.testing.assert_array_equal(machine.tokens(states), tokens)
    assert machine.edges[states[:, :-1], states[:, 1:]].all()
    begin = np.bincount(states[:, 0], minlength=16) / 2000
    assert np.abs(begin - 1 / 16).max() < 5 * np.sqrt(1 / 16 / 2000)
    steps = np.zeros((16, 16))
    np.add.at(steps, (states[:, :-1], states[:, 1:]), 1)
    seen = steps.sum(axis=1) > 1000
    assert seen.any()
    shares = (steps / np.maximum(steps.sum(axis=1, keepdims=True), 1))[seen][machine.edges[seen]]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.06)


def test_a_row_is_a_function_of_its_number_and_its_split(dataset):
    train, again = dataset.rows["train"], SPEC.build().rows["train"]
    some = np.array([7, 1999, 7])
    np.testing.assert_array_equal(train.gather(some)["tokens"], again.gather(np.arange(2000))["tokens"][some])
    assert not np.array_equal(
        train.gather(np.arange(40))["tokens"], dataset.rows["test"].gather(np.arange(40))["tokens"]
    )
    assert len(np.unique(train.gather(np.arange(2000))["tokens"], axis=0)) == 2000
    assert {split: len(rows) for split, rows in dataset.rows.items()} == {
        "train": 2000, "validation": 50, "test": 40
    }  # fmt: skip


def test_reading_states_and_what_comes_next():
    machine = Machine(np.array([[1, 2], [0, 3], [2, 3], [0, 1]]))
    np.testing.assert_array_equal(machine.read(np.array([[1, 0, 0, 2, 1, 1, -1, 0]])), [[2, -1, 3, -1]])
    np.testing.assert_array_equal(machine.next_digit, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(machine.edges.sum(axis=1), 2)
    assert machine.edges[1, 3]
    assert not machine.edges[1, 2]


@pytest.mark.parametrize(("fields", "told"), [({"states": 10}, "square"), ({"states": 4, "edges": 5}, "at most")])
def test_what_is_no_machine(fields, told):
    with pytest.raises(SpecError, match=told):
        StateMachine(**fields)
