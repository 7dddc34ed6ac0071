"""The accuracy matrix of a curve, and its three numbers by hand."""

import dataclasses

import numpy as np
import pytest

from arch.spec import UserError
from experiments.key_value_bottleneck import get_config
from experiments.suites.class_incremental import (
    ClassIncremental,
    average,
    backward_transfer,
    forgetting,
    matrix,
    phase_ends,
)

BY_HAND = np.array([[0.9, 0.1, 0.0], [0.95, 0.8, 0.2], [0.5, 0.6, 1.0]])


def curve(steps=30):
    lines = [{"step": 5, "phase1/accuracy": 0.3, "phase2/accuracy": 0.3, "phase3/accuracy": 0.3}]
    for row, values in enumerate(BY_HAND, start=1):
        end = steps * row // 3
        lines.append({"step": end, "train/loss": 1.0})
        lines.append({"step": end} | {f"phase{i}/accuracy": value for i, value in enumerate(values, start=1)})
    return lines


def test_the_matrix_is_what_was_measured_at_the_end_of_each_phase():
    np.testing.assert_array_equal(matrix(curve(), 30, 3), BY_HAND)
    assert phase_ends(1000, 5) == [200, 400, 600, 800, 1000]


def test_the_three_numbers_by_hand():
    assert average(BY_HAND) == pytest.approx((0.5 + 0.6 + 1.0) / 3)
    assert backward_transfer(BY_HAND) == pytest.approx(((0.5 - 0.9) + (0.6 - 0.8)) / 2)
    assert forgetting(BY_HAND) == pytest.approx(((0.95 - 0.5) + (0.8 - 0.6)) / 2)


def test_a_phase_that_was_not_evaluated_is_told():
    with pytest.raises(UserError, match="phase1/accuracy was measured after step 20"):
        matrix([line for line in curve() if line["step"] != 20], 30, 3)


def test_it_is_refused_where_phases_are_not_evaluated_and_says_nothing_without_phases():
    run = get_config("tiny").arms["linear probe"]
    assert ClassIncremental(5).refusal(run) == ""
    rare = dataclasses.replace(run, logging=dataclasses.replace(run.logging, evaluate=8))
    assert "every 4 steps" in ClassIncremental(5).refusal(rare)
    assert ClassIncremental(5).refusal(dataclasses.replace(rare, data=run.data.data.data)) == ""


def test_it_is_refused_where_the_phases_are_others():
    """More sets than phases, and phases of the data that end elsewhere; a run inside the first phase is let through."""
    run = get_config("tiny").arms["linear probe"]
    assert "the data have sets of more" in ClassIncremental(phases=4).refusal(run)
    longer = dataclasses.replace(run, logging=dataclasses.replace(run.logging, evaluate=1))
    for steps in (2 * run.steps, 10):
        longer = dataclasses.replace(longer, steps=steps)
        told = f"5 of read={run.data.order.read} rows are {run.steps} steps of {run.batch}, the run has {steps}"
        assert told in ClassIncremental(5).refusal(longer)
    assert run.data.order.read == 4 * run.batch
    assert ClassIncremental(5).refusal(dataclasses.replace(longer, steps=4)) == ""
