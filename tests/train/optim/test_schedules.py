"""Schedules against closed forms in numpy, exact at the corners."""

import jax
import numpy as np
import pytest

from arch.spec import SpecError
from train.optim import Constant, Cosine, InverseSqrt, Linear, OneMinusSqrt, WarmupStableDecay

STEPS, WARMUP = 40, 8


def values(schedule, steps=STEPS) -> np.ndarray:
    return np.asarray(jax.jit(schedule.build(steps))(np.arange(steps)))


def warm(rest: np.ndarray) -> np.ndarray:
    """A warm-up of 8, then `rest` from update 8 on."""
    return np.concatenate([np.arange(1, WARMUP + 1) / WARMUP, rest])


# Fraction of the decay done at updates 8..39, of a decay that starts at the peak (update 7) and ends at update 39.
U = np.arange(1, 33) / 32
# The same for a decay over the last 10 updates.
LATE = np.concatenate([np.zeros(22), np.arange(1, 11) / 10])

CLOSED = {
    "constant": (Constant(warmup=WARMUP), warm(np.ones(32))),
    "cosine": (Cosine(warmup=WARMUP, final=0.1), warm(0.1 + 0.9 * (1 + np.cos(np.pi * U)) / 2)),
    "linear": (Linear(warmup=WARMUP, final=0.25), warm(1 - 0.75 * U)),
    "wsd": (WarmupStableDecay(warmup=WARMUP, decay=10), warm(1 - LATE)),
    "wsd cosine": (WarmupStableDecay(WARMUP, 0.25, "cosine", 0.2), warm(0.2 + 0.8 * (1 + np.cos(np.pi * LATE)) / 2)),
    "one minus sqrt": (OneMinusSqrt(warmup=0.2, decay=10), warm(1 - np.sqrt(LATE))),
    "inverse sqrt": (InverseSqrt(warmup=WARMUP), warm(np.sqrt(8 / np.arange(9, 41)))),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form(name):
    schedule, expected = CLOSED[name]
    found = values(schedule)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (Constant(WARMUP), 1.0),
        (Cosine(WARMUP, 0.1), 0.1),
        (Linear(WARMUP, 0.3), 0.3),
        (Linear(WARMUP), 0.0),
        (WarmupStableDecay(WARMUP, 0.5, "sqrt", 0.05), 0.05),
        (OneMinusSqrt(WARMUP), 0.0),
    ],
)
def test_corners_are_exact(schedule, last):
    found = values(schedule)
    assert found[0] == np.float32(1 / WARMUP)
    assert found[WARMUP - 1] == 1.0
    assert np.all(found[: WARMUP - 1] < 1.0)
    assert found[-1] == np.float32(last)


@pytest.mark.parametrize("schedule", [Constant(), Cosine(), Linear(), WarmupStableDecay(), OneMinusSqrt()])
def test_without_warmup_the_first_update_is_at_the_peak(schedule):
    assert values(schedule)[0] == 1.0
    assert values(schedule, steps=1)[0] == 1.0


def test_lengths_in_steps_and_as_fractions_agree():
    np.testing.assert_array_equal(values(Cosine(warmup=0.2)), values(Cosine(warmup=8)))
    np.testing.assert_array_equal(values(WarmupStableDecay(8, decay=0.25)), values(WarmupStableDecay(8, decay=10)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warmup=41).build(40), "Constant.warmup=41: must not be longer than the run of 40 steps"),
        (lambda: Cosine(warmup=41).build(40), "warmup=41: must not be longer"),
        (lambda: Cosine(warmup=40).build(40), "warmup=40: must leave at least one of the 40 steps"),
        (lambda: WarmupStableDecay(warmup=30, decay=11).build(40), "decay=11: must fit, after a warm-up of 30 steps"),
        (lambda: OneMinusSqrt(warmup=35, decay=0.2).build(40), "decay=0.2: must fit"),
        (lambda: Cosine(warmup=1.0), "warmup=1.0: a float is a fraction"),
        (lambda: Cosine(warmup=-0.1), "warmup=-0.1: a float is a fraction"),
        (lambda: Cosine(warmup=-1), "warmup=-1: must be at least 0 steps"),
        (lambda: Cosine(final=1.5), "final=1.5: must be between 0 and 1"),
        (lambda: WarmupStableDecay(shape="cubic"), "shape='cubic': must be one of linear, cosine, sqrt"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        make()


def test_a_decay_that_just_fits():
    found = values(WarmupStableDecay(warmup=30, decay=10))
    assert found[29] == 1.0
    assert found[30] == np.float32(0.9)
