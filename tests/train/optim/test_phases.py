"""Phases: the multiplier in tokens against closed forms, joined without a jump, and cut into runs."""

import jax
import numpy as np
import pytest

from arch.spec import SpecError
from train.optim import Phase, Phases
from train.optim.phases import pretraining

# Ettin's phases in its proportions: warm-up, constant; 1 - sqrt to a half; 1 - sqrt to 0.04 of that.
PHASES = (*pretraining(1700, warmup=40), Phase(250, 0.5, "sqrt"), Phase(50, 0.02, "sqrt"))
STEP = 10


def values(schedule, steps):
    return np.asarray(jax.jit(schedule.build(steps))(np.arange(steps)))


def one_minus_sqrt(t, length, final):
    """The rule as the paper has it."""
    return final + (1 - final) * (1 - np.sqrt(t / length))


def test_the_multiplier_is_that_of_the_rule():
    tokens = STEP * np.arange(1, 201, dtype=np.float64)
    expected = np.concatenate([
        tokens[:4] / 40,
        np.ones(166),
        one_minus_sqrt(tokens[:25], 250, 0.5),
        0.5 * one_minus_sqrt(tokens[:5], 50, 0.04),
    ])  # fmt: skip
    schedule = Phases(phases=PHASES, step_tokens=STEP)
    assert schedule.steps() == 200
    found = values(schedule, 200)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found[-1] == np.float32(0.02)
    assert found[3] == found[169] == 1.0
    assert found[194] == np.float32(0.5)


def test_there_is_no_jump_where_phases_join():
    schedule = Phases(phases=PHASES, step_tokens=1)
    multiplier = jax.jit(schedule.build(2000))
    for join, value in ((40, 1.0), (1700, 1.0), (1950, 0.5)):
        around = np.asarray(multiplier(np.array([join - 1 - 1e-3, join - 1, join - 1 + 1e-3], np.float32)))
        np.testing.assert_allclose(around, value, atol=3e-3)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_other_shapes(shape):
    found = values(Phases(phases=(Phase(10, 1.0), Phase(90, 0.2, shape)), step_tokens=STEP), 10)
    u = np.arange(1, 10) / 9
    fallen = u if shape == "linear" else (1 - np.cos(np.pi * u)) / 2
    np.testing.assert_allclose(found, [1.0, *(0.2 + 0.8 * (1 - fallen))], atol=1e-6)


def test_runs_of_other_lengths_go_on_where_the_last_one_stopped():
    whole = values(Phases(phases=PHASES, step_tokens=1), 2000)
    first = values(Phases(phases=PHASES, step_tokens=10), 170)
    second = Phases(phases=PHASES, step_tokens=5, before=1700)
    assert second.steps() == 60
    np.testing.assert_allclose(first, whole[9:1700:10], atol=1e-6)
    np.testing.assert_allclose(values(second, 60), whole[1704::5], atol=1e-6)


def test_trillions_of_tokens():
    phases = (*pretraining(1.7e12, warmup=4e9), Phase(250e9, 0.5, "sqrt"), Phase(50e9, 0.02, "sqrt"))
    schedule = Phases(phases=phases, step_tokens=4608 * 7999, before=1.7e12)
    steps = schedule.steps()
    assert steps == int(np.ceil(300e9 / (4608 * 7999)))
    at = np.array([0, 3000, steps - 1])
    read = (at + 1) * 4608 * 7999.0
    expected = [*one_minus_sqrt(read[:2], 250e9, 0.5), 0.02]
    np.testing.assert_allclose(jax.jit(schedule.build(steps))(at), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Phases(phases=()), r"Phases\.phases"),
        (lambda: Phases(warmup=3), r"Phases\.warmup=3: must be a phase"),
        (lambda: Phases(step_tokens=0), r"Phases\.step_tokens"),
        (lambda: Phase(0, 1.0), r"Phase\.tokens"),
        (lambda: Phase(1, 1.5), r"Phase\.to"),
        (lambda: Phase(1, 1.0, "square"), r"Phase\.shape"),
        (lambda: Phases(phases=PHASES, step_tokens=STEP).build(201), "tokens for 200 updates; the run has 201"),
    ],
)
def test_what_is_refused(make, line):
    with pytest.raises(SpecError, match=line):
        make()
