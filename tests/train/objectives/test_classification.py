"""The classification loss against scipy, its weights, and what it hands to a model."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from arch.spec import UserError
from train.objectives.classification import Classification, label_nats

LOGITS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 4
LABELS = np.array([0, 2, 1, 1, 0], np.int32)


def answer(logits, aux=None, calls=None):
    """A model that answers `logits` whatever it reads, and notes how it was called."""

    def model(*args, **kwargs):
        if calls is not None:
            calls.append((args, kwargs))
        return types.SimpleNamespace(logits=jnp.asarray(logits), aux=aux or {})

    return model


def loss_of(batch, logits=LOGITS, classes=3, **fields):
    objective = Classification()
    loss = objective.build(types.SimpleNamespace(classes=classes))
    found = loss(answer(logits, **fields), {name: jnp.asarray(value) for name, value in batch.items()}, None)
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


def test_bfloat16_logits_are_summed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    assert label_nats(logits, jnp.asarray(LABELS)).dtype == jnp.float32


def test_the_first_input_goes_by_place_and_the_others_by_name():
    calls: list = []
    second = np.ones((5, 4), np.int32)
    loss_of(rows(segments=second, tokens2=second, row=np.arange(5, dtype=np.int32)), calls=calls)
    ((args, kwargs),) = calls
    assert [arg.shape for arg in args] == [(5, 4)]
    assert set(kwargs) == {"segments", "tokens2", "key"}
    image = {"image": np.zeros((5, 2, 2, 1), np.float32), "label": LABELS, "weight": np.ones(5, np.float32)}
    loss_of(image, calls=calls)
    assert calls[-1][0][0].shape == (5, 2, 2, 1)
    assert set(calls[-1][1]) == {"key"}


def test_auxiliary_losses_are_added_and_reported():
    plain, _ = loss_of(rows())
    found, metrics = loss_of(rows(), aux={"loss/commit": jnp.array([0.5, 0.25]), "entropy": jnp.array([7.0, 7.0])})
    assert float(found.total) == pytest.approx(float(plain.total) + 5 * 0.75)
    assert metrics["loss/commit"] == pytest.approx(0.75)
    assert "entropy" not in metrics


def test_a_model_with_too_few_classes_is_refused():
    with pytest.raises(UserError, match=r"model\.classes=3: must be at least 10"):
        loss_of(rows(), classes=10)
