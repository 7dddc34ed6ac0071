"""Gradient noise in whole runs: any devices, any micro-batches, and members of an ensemble."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests.train import children
from tests.train.noisy import MESHES, noisy, trained
from train.data.digits import Digits
from train.ensemble import Ensemble
from train.setup import prepare
from train.sharding.mesh import Mesh

ALONE = noisy(mesh=Mesh(data=1))


@pytest.fixture(scope="module")
def dataset():
    return Digits().build()


@pytest.fixture(scope="module")
def alone(dataset):
    return trained(ALONE, dataset)


def test_devices_draw_the_same_noise():
    found = json.loads(children.run("tests.train.noisy", devices=8).stdout)
    assert found.keys() == MESHES.keys()
    assert max(found.values()) < 1e-5


def test_noise_is_added_once_an_update(dataset, alone):
    """However many micro-batches it has."""
    np.testing.assert_allclose(trained(dataclasses.replace(ALONE, accumulate=4), dataset), alone, atol=1e-5)


def test_the_runs_seed_reaches_the_noise(dataset, alone):
    """From the same start on the same batches, another seed of the optimiser alone."""
    program = prepare(ALONE, dataset.description)
    batch = program.place(next(program.batches(dataset)))
    ends = []
    for seed in (0, 1):
        learner = prepare(dataclasses.replace(ALONE, seed=seed), dataset.description).learner
        state = jax.device_get(program.start())
        after, _ = jax.jit(dataclasses.replace(learner, seed=0).train_step)(state, batch, program.go())
        ends.append(np.asarray(after["params"]["head"]["kernel"]))
    assert np.abs(ends[0] - ends[1]).max() > 0.05


def test_members_vary_eta_and_seed(dataset):
    """Each member is its lone run: its own noise, or none."""
    rows = tuple({"seed": seed, "optimizer.noise.eta": eta} for seed, eta in ((0, 0.3), (0, 0.0), (1, 0.3)))
    ensemble = Ensemble(rows)
    program = prepare(ALONE, dataset.description, ensemble=ensemble)
    batches, state = program.batches(dataset), program.start()
    for _ in range(ALONE.steps):
        state, _ = program.train_step(state, program.place(next(batches)), program.go())
    together = jax.device_get(state["params"])
    for index in range(3):
        mine = np.concatenate([np.ravel(leaf[index]) for leaf in jax.tree.leaves(together)])
        np.testing.assert_allclose(mine, trained(ensemble.lone(ALONE, index), dataset), atol=1e-5)
