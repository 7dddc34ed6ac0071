"""Token labels: the loss and the accuracy against numpy, and what does not count."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from arch.models.base import Output
from arch.models.tagger import Tagger
from arch.spec import UserError
from tests.train import toys
from train.data.description import Description
from train.objectives.token_labels import TokenLabels

B, T, C = 3, 5, 4
RNG = np.random.default_rng(0)
SEGMENTS = np.array([[1, 1, 1, 2, 2], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)
BATCH = {
    "tokens": RNG.integers(0, 9, (B, T)).astype(np.int32),
    "segments": SEGMENTS,
    "positions": np.zeros((B, T), np.int32),
    "labels": RNG.integers(0, C, (B, T)).astype(np.int32),
    "weights": np.where(np.arange(T) == 1, 0, 1).astype(np.float32) * np.ones((B, 1), np.float32),
}
KEYS = jax.random.split(jax.random.key(0), B)


@pytest.mark.parametrize("weighted", [True, False])
def test_by_numpy(weighted):
    batch = {name: jnp.asarray(array) for name, array in BATCH.items() if weighted or name != "weights"}
    logits = RNG.standard_normal((B, T, C))
    objective = TokenLabels()
    task = objective.build(Description({}))
    inputs, targets = task.prepare(batch, KEYS)
    np.testing.assert_array_equal(inputs.tokens, BATCH["tokens"])
    loss = task.loss(Output(jnp.asarray(logits, jnp.float32)), targets)
    counts = (SEGMENTS > 0) * (BATCH["weights"] if weighted else 1)
    nats = -np.take_along_axis(log_softmax(logits, axis=-1), BATCH["labels"][..., None], -1)[..., 0]
    found = objective.metrics(loss)
    assert float(loss.weight) == counts.sum() == (5 if weighted else 7)
    np.testing.assert_allclose(found["loss"], (nats * counts).sum() / counts.sum(), rtol=1e-5)
    right = (logits.argmax(-1) == BATCH["labels"]) * counts
    np.testing.assert_allclose(found["accuracy"], right.sum() / counts.sum(), rtol=1e-6)


def test_tokens_without_a_label_do_not_count():
    labels = np.where(np.arange(T) == 1, -1, BATCH["labels"])
    objective, logits = TokenLabels(), jnp.asarray(RNG.standard_normal((B, T, C)), jnp.float32)
    found = []
    for batch in ({**BATCH, "labels": labels, "weights": np.ones((B, T), np.float32)}, BATCH):
        _, targets = objective.build(Description({})).prepare({k: jnp.asarray(v) for k, v in batch.items()}, KEYS)
        found.append({name: float(v) for name, v in objective.metrics(objective.loss(Output(logits), targets)).items()})
    assert found[0] == found[1]


def test_padding_alone_is_no_division_by_zero():
    objective, batch = TokenLabels(), {name: jnp.asarray(array[2:]) for name, array in BATCH.items()}
    task = objective.build(Description({}))
    loss = task.loss(Output(jnp.ones((1, T, C))), task.prepare(batch, KEYS[2:])[1])
    assert {name: float(value) for name, value in objective.metrics(loss).items()} == {"loss": 0.0, "accuracy": 0.0}


def test_what_does_not_fit_is_refused():
    run = toys.run(objective=TokenLabels())
    assert "must be Tagging" in str(next(iter(run.conflicts())))
    tagger = dataclasses.replace(run, model=Tagger(vocab=toys.VOCAB, width=16, depth=1))
    assert not list(tagger.conflicts())
    few = Tagger(vocab=toys.VOCAB, width=16, depth=1, classes=2)
    (error,) = TokenLabels().unfit(few, Description({}, vocab=toys.VOCAB, classes=3))
    assert "classes=2: must be at least 3" in str(error)
    with pytest.raises(UserError, match="the data has image, which TokenLabels does not read"):
        TokenLabels().build(Description({})).prepare({**BATCH, "image": BATCH["tokens"]}, KEYS)
