"""Batch-size warm-up: its clock against sums by hand, and steps that take the first micro-batches alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.spec import SpecError
from tests.arch import tiny
from tests.train import toys
from train.optim import AdamW, Phase, Phases
from train.optim.batch_warmup import BatchWarmup
from train.setup import prepare

WARMUP = BatchWarmup(most=4, tokens=300, micro_tokens=10)
# A third of the 300 tokens with 1 micro-batch of 10, a third with 2, a third with 3.
TAKEN = [1] * 10 + [2] * 5 + [3] * 4 + [4] * 6
READ = 10 * np.cumsum(TAKEN)


def test_micro_batches_grow_with_the_tokens_read():
    assert np.asarray(WARMUP.taken(np.arange(25))).tolist() == TAKEN
    assert np.asarray(dataclasses.replace(WARMUP, first=4).taken(np.arange(3))).tolist() == [4, 4, 4]
    many = BatchWarmup(most=64, tokens=5e6, micro_tokens=100)
    taken = np.asarray(many.taken(np.arange(6000)))
    read = np.concatenate([[0], np.cumsum(100.0 * taken)[:-1]])
    np.testing.assert_allclose(taken, np.minimum(1 + 63 * read / 5e6, 64), atol=1.3)
    assert taken[-1] == 64


def test_the_clock_counts_what_was_read():
    found = WARMUP.steps_read(jnp.arange(1, 26, dtype=jnp.float32))
    np.testing.assert_allclose(np.asarray(found) * WARMUP.step_tokens, READ, rtol=1e-6)
    for tokens in (1, 10, 11, 100, 101, 200, 320, 321, 500):
        assert WARMUP.updates_for(tokens) == 1 + int(np.searchsorted(READ, tokens))


def test_phases_go_by_the_tokens_read():
    phases = (Phase(150, 1.0), Phase(250, 0.5, "sqrt"))
    warming = Phases(phases=phases, step_tokens=WARMUP)
    steps = warming.steps()
    assert steps == 1 + int(np.searchsorted(READ, 400))
    every_token = Phases(phases=phases, step_tokens=10).build(40)
    expected = np.asarray(every_token(np.minimum(READ[:steps] // 10, 40) - 1))
    np.testing.assert_allclose(np.asarray(warming.build(steps)(np.arange(steps))), expected, atol=1e-6)


@pytest.fixture(scope="module")
def setting():
    """(learner that takes 3 of 4 micro-batches at step 1, parameters, a batch of 8 rows)."""
    data = toys.Toy().build()
    run = toys.run(model=toys.model(dropout=0.0), accumulate=BatchWarmup(most=4, tokens=6, micro_tokens=1, first=2))
    program = prepare(run, data.description, jax.devices()[:1])
    params = jax.device_get(program.start())["params"]
    return program.learner, params, jax.tree.map(jnp.asarray, next(data.train(8, 0)))


def test_a_step_is_that_of_the_rows_it_takes(setting):
    learner, params, batch = setting
    assert [int(learner.taken(step)) for step in range(5)] == [2, 2, 3, 4, 4]
    run = tiny.jit(jax.vmap(learner.gradients, (None, None, None, 0)))  # as an ensemble runs it
    sums, grads = run(params, {}, batch, jnp.array([1, 2, 4]))
    plain = tiny.jit(dataclasses.replace(learner, accumulate=1, taken=None).gradients)
    parts = [
        plain(params, {}, {name: array[np.arange(8) % 4 == micro] for name, array in batch.items()}, jnp.int32(0))
        for micro in range(4)
    ]
    for index, taken in enumerate((2, 3, 4)):
        weight = sum(float(one.loss.weight) for one, _ in parts[:taken])
        np.testing.assert_allclose(sums.loss.weight[index], weight)
        np.testing.assert_allclose(sums.loss.total[index], sum(one.loss.total for one, _ in parts[:taken]), rtol=1e-5)
        mean = lambda *leaves: sum(leaf * (one.loss.weight / weight) for leaf, (one, _) in zip(leaves, parts))  # noqa: B023, B905, E731
        expected = jax.tree.map(mean, *[gradient for _, gradient in parts[:taken]])
        for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one[index], other, rtol=1e-4, atol=1e-6)


def test_what_is_not_taken_is_not_computed(setting):
    learner, _, batch = setting
    seen = []

    def look(rows, key):
        jax.debug.callback(lambda: seen.append(1))
        return jnp.sum(rows["tokens"])

    for taken in (1, 3):
        seen.clear()
        jax.block_until_ready(jax.jit(lambda turns: learner._over(look, batch, jax.random.key(0), turns))(taken))
        jax.effects_barrier()
        assert len(seen) == taken


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: BatchWarmup(most=2, tokens=1, micro_tokens=1, first=3),
            r"BatchWarmup\.first=3: must not be above most=2",
        ),
        (lambda: BatchWarmup(most=2, tokens=0, micro_tokens=1), r"BatchWarmup\.tokens"),
        (
            lambda: toys.run(accumulate=WARMUP, optimizer=AdamW(schedule=Phases())),
            "must be the BatchWarmup of accumulate",
        ),
        (
            lambda: toys.run(optimizer=AdamW(schedule=Phases(step_tokens=WARMUP))),
            "must be the BatchWarmup of accumulate",
        ),
        (lambda: toys.run(batch=6, accumulate=WARMUP), r"Run\.batch=6: must be a multiple of accumulate=4"),
    ],
)
def test_what_is_refused(make, line):
    with pytest.raises(SpecError, match=line):
        make()
