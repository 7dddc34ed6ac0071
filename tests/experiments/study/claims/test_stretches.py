"""The jackknife over stretches of rows, against closed forms."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.study.claims.stretches import FEWEST, MOST, pseudo_values
from train.forward import Sums
from train.objectives.base import Loss
from train.objectives.classification import Classification


def program(batches):
    """One whose evaluation step gives back the sums that the batch is."""
    sums = lambda params, buffers, batch: Sums(batch, {}, {}, {}, batch.weight)  # noqa: E731
    run = types.SimpleNamespace(objective=Classification())
    return types.SimpleNamespace(run=run, eval_step=sums, place=lambda batch, train: batch), batches


def of(nats, correct, rows):
    """[batches] or [batches, R]."""
    losses = [
        Loss(n, r, {"nats": jnp.float32(n), "correct": jnp.float32(c), "rows": jnp.float32(r)})
        for n, c, r in zip(nats, correct, rows, strict=True)
    ]
    made, batches = program(losses)
    return pseudo_values(made, {"params": {}, "buffers": {}}, "test", batches)


def test_of_a_mean_over_equal_batches_they_are_the_batches_means():
    rng = np.random.default_rng(0)
    nats, correct = rng.uniform(1, 50, 24), rng.integers(0, 16, 24)
    found = of(nats, correct, np.full(24, 16.0))
    assert list(found) == ["test/loss", "test/accuracy"]
    assert found["test/loss"] == pytest.approx(nats / 16, rel=1e-4)
    assert found["test/accuracy"] == pytest.approx(correct / 16, abs=1e-4)


def test_of_a_ratio_their_spread_is_that_of_the_delta_method():
    rng = np.random.default_rng(1)
    rows = rng.integers(8, 17, 60).astype(float)
    nats = 2.0 * rows + rng.normal(0, 4, 60)
    found = of(nats, np.zeros(60), rows)["test/loss"]
    ratio = nats.sum() / rows.sum()
    delta = (nats - ratio * rows) / rows.mean()
    assert found.mean() == pytest.approx(ratio, rel=1e-3)
    assert found.std(ddof=1) == pytest.approx(delta.std(ddof=1), rel=0.05)


def test_many_batches_make_stretches_of_neighbours():
    nats = np.arange(320.0)
    found = of(nats, np.zeros(320), np.ones(320))["test/loss"]
    assert len(found) == MOST
    assert found == pytest.approx(np.arange(2.0, 320, 5), rel=1e-3)


def test_replicas_have_their_own_and_few_batches_none():
    nats = np.stack([np.arange(1.0, 13.0), np.arange(2.0, 26.0, 2.0)], axis=1)
    found = of(nats, np.zeros((12, 2)), np.ones((12, 2)))["test/loss"]
    assert found.shape == (12, 2)
    assert found[:, 1] == pytest.approx(2 * found[:, 0], rel=1e-3)
    assert of(np.ones(FEWEST - 1), np.zeros(FEWEST - 1), np.ones(FEWEST - 1)) == {}
