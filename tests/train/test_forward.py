"""A pass: what is drawn before it, and what is reported of it, where nothing takes the place of another thing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.answers import Sum
from arch.models.base import Inputs
from arch.spec import UserError
from tests.train.objectives.bigram import spec_and_params
from train.forward import Forward, Sums, numbered, report, tokens_read
from train.objectives.base import Loss, Task
from train.objectives.classification import Classification
from train.objectives.next_token import NextToken


@pytest.mark.parametrize("name", ["loss", "bits_per_byte", "grad_norm"])
def test_a_metric_does_not_take_the_place_of_another(name):
    one = jnp.ones(())
    loss = Loss(one, one, {"nats": one, "bytes": one, "targets": one})
    with pytest.raises(UserError, match=f"{name}: a part of the model reports what the objective or the step does"):
        report(NextToken(), Sums(loss, {}, {name: Sum(one, one)}, {}, one))
    assert "usage" in report(NextToken(), Sums(loss, {}, {"usage": Sum(one, one)}, {}, one))


def test_tokens_read_are_those_of_all_rows_without_padding():
    one = jnp.array([[1, 1, 2, 0], [1, 0, 0, 0]])
    tokens = jnp.zeros((2, 4), jnp.int32)
    assert float(tokens_read(Inputs(tokens, segments=one))) == 4
    assert float(tokens_read(Inputs(tokens))) == 8
    assert float(tokens_read(Inputs(tokens, segments=one, source=Inputs(tokens, segments=one // 2)))) == 5
    assert float(tokens_read(Inputs(tokens, segments=one, second=Inputs(tokens)))) == 12
    assert float(tokens_read(Inputs(images=tokens))) == 0


def test_the_share_of_targets_is_told_of_objectives_that_count_tokens():
    weight, one = jnp.float32(3), jnp.float32(1)
    sums = Sums(Loss(one, weight, {"nats": one, "bytes": one, "targets": weight}), {}, {}, {}, jnp.float32(4))
    assert float(report(NextToken(), sums)["target_fraction"]) == 0.75
    rows = Loss(one, weight, {"nats": one, "correct": one, "rows": weight})
    assert "target_fraction" not in report(Classification(), Sums(rows, {}, {}, {}, jnp.float32(0)))


def test_a_task_may_draw_its_inputs_from_the_model_and_no_gradient_goes_through_them():
    """Each row becomes two: its tokens, and what the model finds most probable after each of them."""

    def prepare(batch, keys):
        return Inputs(tokens=batch["tokens"], source=Inputs(tokens=batch["tokens"])), batch["tokens"]

    def draw(model, inputs, targets, keys):
        logits = model(inputs).logits
        pair = lambda a, b: jnp.stack([a, b], axis=1).reshape(-1, a.shape[1])  # noqa: E731
        own = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        source = Inputs(tokens=pair(inputs.tokens, inputs.tokens))
        return Inputs(tokens=pair(inputs.tokens, own), source=source), jnp.mean(logits)

    def loss(output, drawn):
        return Loss(jnp.sum(output.logits) + 100 * drawn, jnp.ones(()))

    graphdef, params = spec_and_params()
    forward = Forward(graphdef, Task(prepare, loss, draw=draw))
    batch = numbered({"tokens": jnp.array([[0, 1, 2], [1, 1, 1]], jnp.int32)})

    def total(params):
        sums, output = forward(params, {}, batch, None, jax.random.key(0), training=True)
        return sums.loss.total, (output.logits, forward.inputs(params, {}, batch, jax.random.key(0))[0])

    grads, (logits, inputs) = jax.jit(jax.grad(total, has_aux=True))(params)
    assert logits.shape == (4, 3, 3)
    table = np.asarray(params["table"])
    for row, (which, tokens) in enumerate(((0, [0, 1, 2]), (1, [1, 1, 1]))):
        own = table[which][tokens].argmax(-1)
        np.testing.assert_array_equal(inputs.tokens[2 * row : 2 * row + 2], [tokens, own])
        np.testing.assert_array_equal(logits[2 * row + 1], table[which][own])
    counts = np.zeros_like(table)
    np.add.at(counts, (np.repeat([0, 0, 1, 1], 3), np.asarray(inputs.tokens).ravel()), 1)
    np.testing.assert_allclose(grads["table"], counts)
