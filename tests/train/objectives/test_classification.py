"""The classification loss against scipy, its weights, and what it hands to a model."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from arch.models.base import Output
from arch.spec import UserError
from train.data.description import Description
from train.objectives.classification import Classification, WeightedClassification, label_nats

LOGITS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 4
LABELS = np.array([0, 2, 1, 1, 0], np.int32)


def loss_of(batch, logits=LOGITS, classes=3):
    """The loss when a model answers `logits`, and its metrics."""
    objective = Classification()
    task = objective.build(Description({}, classes=classes))
    _, targets = task.prepare({name: jnp.asarray(value) for name, value in batch.items()}, None)
    found = task.loss(Output(jnp.asarray(logits)), targets)
    return found, {name: float(value) for name, value in objective.metrics(found).items()}


def rows(weight=(1, 1, 1, 1, 1), **arrays):
    return {"tokens": np.zeros((5, 4), np.int32), "label": LABELS, "weight": np.array(weight, np.float32), **arrays}


def test_the_loss_is_the_mean_negative_log_softmax():
    expected = -log_softmax(LOGITS.astype(np.float64), axis=-1)[np.arange(5), LABELS]
    np.testing.assert_allclose(label_nats(jnp.asarray(LOGITS), jnp.asarray(LABELS)), expected, rtol=1e-5, atol=1e-6)
    _, metrics = loss_of(rows())
    assert next(iter(metrics)) == "loss"
    assert metrics["loss"] == pytest.approx(expected.mean(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((LOGITS.argmax(-1) == LABELS).mean())


def test_rows_of_weight_zero_do_not_count():
    found, metrics = loss_of(rows(weight=(1, 0, 1, 0, 0)))
    kept = [0, 2]
    expected = -log_softmax(LOGITS.astype(np.float64), axis=-1)[kept, LABELS[kept]]
    assert float(found.weight) == 2
    assert metrics["loss"] == pytest.approx(expected.mean(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((LOGITS.argmax(-1) == LABELS)[kept].mean())
    assert loss_of(rows(weight=(0,) * 5))[1] == {"loss": 0.0, "accuracy": 0.0}


def test_rows_without_a_label_do_not_count():
    """-1, as TFDS has it, is no class; the last one least of all."""
    found, metrics = loss_of(rows(label=np.array([0, -1, 1, -100, -1], np.int32)))
    kept = [0, 2]
    expected = -log_softmax(LOGITS.astype(np.float64), axis=-1)[kept, LABELS[kept]]
    assert float(found.weight) == 2
    assert metrics["loss"] == pytest.approx(expected.mean(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((LOGITS.argmax(-1) == LABELS)[kept].mean())


def test_bfloat16_logits_are_summed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    assert label_nats(logits, jnp.asarray(LABELS)).dtype == jnp.float32


def test_what_a_model_is_given_to_read():
    prepare = Classification().build(Description({}, classes=3)).prepare
    second = np.ones((5, 4), np.int32)
    inputs, _ = prepare(rows(segments=second, tokens2=second), None)
    assert inputs.present == ["tokens", "segments", "second"]
    assert inputs.second.present == ["tokens"]
    image = {"image": np.zeros((5, 2, 2, 1), np.float32), "label": LABELS, "weight": np.ones(5, np.float32)}
    inputs, _ = prepare(image, None)
    assert inputs.present == ["images"]
    assert inputs.images.shape == (5, 2, 2, 1)


def test_a_model_with_too_few_classes_is_refused():
    with pytest.raises(UserError, match=r"model\.classes=3: must be at least 10"):
        loss_of(rows(), classes=10)


def test_a_weight_changes_what_is_minimised_and_not_what_is_reported():
    plain, told = loss_of(rows(weight=(1, 0, 1, 1, 0)))
    objective = WeightedClassification(20.0)
    task = objective.build(Description({}, classes=3))
    _, targets = task.prepare({name: jnp.asarray(value) for name, value in rows(weight=(1, 0, 1, 1, 0)).items()}, None)
    found = task.loss(Output(jnp.asarray(LOGITS)), targets)
    assert float(found.total) == pytest.approx(20 * float(plain.total))
    assert float(found.weight) == float(plain.weight)
    assert {name: float(value) for name, value in objective.metrics(found).items()} == told
