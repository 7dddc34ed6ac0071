"""What prototypes are said to stand for, on images where it is known."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from arch.bottlenecks.prototypes import PrototypeLayer
from arch.layers.image_encoders import ConvEncoder
from arch.models.features import FeatureClassifier
from arch.models.prototypes import PrototypeNetwork
from experiments.suites.base import exhibits, score
from experiments.suites.prototypes import PrototypeExplanation
from train.data import Digits
from train.objectives.classification import WeightedClassification
from train.run import Run
from train.setup import prepare
from train.trained import TrainedRun

ENCODER = ConvEncoder((3, 2))
MODEL = PrototypeNetwork((8, 8, 1), 10, ENCODER, prototypes=PrototypeLayer(3))
DATA = Digits(held_out=1600, test=100)


@pytest.fixture(scope="module")
def opened():
    """A network whose decoder makes 0.5 of everything, so that all pictures are one."""
    run, dataset = Run(MODEL, DATA, WeightedClassification(), batch=8, steps=1), DATA.build()
    program = prepare(run, dataset.description)
    state = jax.device_get(program.start())
    params = dict(state["params"])
    params["decoder"] = jax.tree.map(np.zeros_like, params["decoder"])
    weights = np.ones((3, 10), np.float32)
    images, labels = dataset.rows["train"].images, dataset.rows["train"].labels
    near = int(labels[np.sum((images - 0.5) ** 2, axis=(1, 2, 3)).argmin()])
    for row, label in enumerate((near, (near + 1) % 10, near)):
        weights[row, label] = -1.0
    params["head"] = {"kernel": weights}
    return TrainedRun(program, {**state, "params": params}, dataset, 1), near


def test_the_numbers_by_hand(opened):
    one, near = opened
    found = score((PrototypeExplanation(rows=10),), one, "test")
    images = one.dataset.rows["train"].images
    assert found["pixel_distance_error"] == pytest.approx(np.sqrt(np.sum((images - 0.5) ** 2, axis=(1, 2, 3)).min()))
    assert found["agreement_score"] == pytest.approx(2 / 3)
    assert found["covered_score"] == 1
    network = one.model
    codes = np.asarray(network.encoder(one.dataset.rows["test"].images[:10], None), np.float64)
    prototypes = np.asarray(network.prototypes.prototypes[...], np.float64)
    nearest = np.min(np.sum((codes[:, None] - prototypes[None]) ** 2, axis=-1), axis=1)
    assert found["nearest_prototype_error"] == pytest.approx(nearest.mean(), rel=1e-4)
    (shown,) = exhibits((PrototypeExplanation(rows=10),), one, "test")
    assert np.asarray(shown.values).shape == (3, 8, 8)
    assert shown.names == [f"{near} ({near})", f"{(near + 1) % 10} ({near})", f"{near} ({near})"]


def test_of_models_without_prototypes_it_says_nothing():
    run, dataset = Run(FeatureClassifier(encoder=ENCODER), DATA, WeightedClassification(), batch=8), DATA.build()
    program = prepare(run, dataset.description)
    one = TrainedRun(program, jax.device_get(program.start()), dataset, 1)
    assert score((PrototypeExplanation(),), one, "test") == {}
    assert exhibits((PrototypeExplanation(),), one, "test") == []
    bare = dataclasses.replace(MODEL, prototypes=None).build(rngs=nnx.Rngs(0))
    assert not hasattr(bare, "prototypes")
