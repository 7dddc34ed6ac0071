"""In-batch contrastive learning against numpy, and on devices that would each see their own rows alone."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from arch.layers.heads.pooling import LastPooling
from arch.models.base import Output
from arch.models.embedder import Embedder
from arch.sharding import RowsCoupled, activations
from tests.train import toys
from train.data.description import Description
from train.objectives.contrastive import Contrastive
from train.sharding.mesh import Mesh
from train.sharding.placement import MeshPlacement

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((6, 2, 5))


def loss_of(objective=Contrastive(), **arrays):
    task = objective.build(Description({}))
    tokens = jnp.zeros((6, 3), jnp.int32)
    batch = {"tokens": tokens, "tokens2": tokens, **{name: jnp.asarray(array) for name, array in arrays.items()}}
    _, targets = task.prepare(batch, None)
    return task.loss(Output(jnp.asarray(VECTORS, jnp.float32)), targets)


def test_the_loss_is_that_of_the_formula():
    unit = VECTORS / np.linalg.norm(VECTORS, axis=-1, keepdims=True)
    scores = unit[:, 0] @ unit[:, 1].T / 0.3
    found = loss_of(Contrastive(temperature=0.3))
    told = Contrastive().metrics(found)
    assert float(told["loss"]) == pytest.approx(-np.diag(log_softmax(scores, axis=1)).mean(), rel=1e-5)
    assert float(told["accuracy"]) == pytest.approx((scores.argmax(1) == np.arange(6)).mean())


def test_rows_that_fill_up_and_pairs_that_do_not_belong_together():
    """The first are no candidates; the second texts of the others are, and both are not asked for."""
    unit = VECTORS / np.linalg.norm(VECTORS, axis=-1, keepdims=True)
    scores = unit[:, 0] @ unit[:, 1].T / 0.05
    weight, label = np.array([1, 1, 1, 1, 0, 0], np.float32), np.array([1, 0, 1, 1, 1, 0], np.int32)
    found = loss_of(weight=weight, label=label)
    asked = [0, 2, 3]
    assert float(found.weight) == 3
    assert float(found.total) == pytest.approx(-np.diag(log_softmax(scores[:4, :4], axis=1))[asked].sum(), rel=1e-4)


def test_devices_do_not_work_on_their_own_rows():
    alone = MeshPlacement(Mesh(data=1).build(None), lonely=True)
    with pytest.raises(RowsCoupled), activations(alone):
        loss_of()


def test_last_pooling_takes_the_last_token_of_the_text():
    x = jnp.arange(24, dtype=jnp.float32).reshape(2, 4, 3)
    visible = jnp.array([[1, 1, 0, 0], [0, 1, 1, 1]], bool)
    np.testing.assert_array_equal(LastPooling()(x, visible), np.stack([x[0, 1], x[1, 3]]))
    np.testing.assert_array_equal(LastPooling()(x, None), x[:, 3])
    np.testing.assert_array_equal(LastPooling()(x, jnp.zeros((2, 4), bool)), np.zeros((2, 3)))


def test_a_model_of_logits_is_refused():
    run = dataclasses.replace(toys.run(), objective=Contrastive())
    assert any("must be TextEmbedding" in str(error) for error in run.conflicts())
    assert not list(dataclasses.replace(run, model=Embedder(vocab=32, width=16, depth=1)).conflicts())
