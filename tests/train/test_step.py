"""One step against the same computed by other means."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from arch.models.base import Inputs
from arch.params import roles
from tests.train import toys
from train.setup import CompiledRun, prepare
from train.weighing import divisor

RUN = toys.run(model=toys.model(), batch=8)


@pytest.fixture(scope="module")
def dataset():
    return toys.Toy().build()


@pytest.fixture(scope="module")
def program(dataset) -> CompiledRun:
    return prepare(RUN, dataset.description)


@pytest.fixture(scope="module")
def batch(program, dataset):
    return program.place(next(dataset.train(8, 0)))


@pytest.fixture(scope="module")
def start(program):
    """The first state, on the host."""
    return jax.device_get(program.start())


@pytest.fixture
def state(program, start):
    return jax.device_put(start, program.shardings)


@pytest.fixture(scope="module")
def gradients(program, batch, start):
    """`accumulate` -> the loss sums and gradients of the first parameters, without dropout."""
    params = start["params"]

    def of(accumulate: int):
        learner = dataclasses.replace(program.learner, accumulate=accumulate)
        return told(*jax.jit(learner.gradients)(params, {}, batch, jnp.int32(0)))

    return {accumulate: of(accumulate) for accumulate in (1, 4)}


def told(sums, grads):
    """The objective's loss, of a model whose parts answer nothing, and the gradient."""
    assert not sums.losses
    assert not sums.metrics
    assert not sums.statistics
    return sums.loss, grads


def fine() -> jax.Array:
    return jnp.asarray(True)


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_the_gradient_is_that_of_the_mean_over_targets(program, batch, start, gradients):
    def mean(params):
        read = Inputs(batch["tokens"][:, :-1], batch["positions"][:, :-1], batch["segments"][:, :-1])
        logits = nnx.merge(program.learner.forward.graphdef, params)(read).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["tokens"][:, 1:])
        counted = (batch["segments"][:, 1:] == batch["segments"][:, :-1]) & (batch["segments"][:, 1:] > 0)
        return jnp.sum(jnp.where(counted, nats, 0.0)) / jnp.sum(counted.astype(jnp.float32))

    wanted = jax.jit(jax.value_and_grad(mean))(start["params"])
    loss, grads = gradients[1]
    close((loss.total / loss.weight, grads), wanted, rtol=1e-4, atol=1e-7)


def test_few_calls_lie_between_the_step_and_its_gradient(program, batch, start, monkeypatch):
    """A reader of a traceback, or of the code, goes from the step to `jax.grad` in a few."""
    real, found = jax.grad, []

    def grad(*args, **kwargs):
        frame = sys._getframe(1)
        while frame.f_code.co_name != "train_step":
            found.append(frame.f_code.co_name)
            frame = frame.f_back
        return real(*args, **kwargs)

    monkeypatch.setattr(jax, "grad", grad)
    jax.eval_shape(program.learner.train_step, start, dict(batch), True)
    assert found == ["one", "sums", "gradients"]


def test_micro_batches_equal_one_batch(batch, gradients):
    """Although the micro-batches hold different numbers of targets."""
    counted = (batch["segments"][:, 1:] == batch["segments"][:, :-1]) & (batch["segments"][:, 1:] > 0)
    weights = np.asarray(jnp.sum(counted, axis=1)).reshape(2, 4).sum(axis=0)
    assert len(set(weights.tolist())) > 1
    close(gradients[4], gradients[1], rtol=1e-4, atol=1e-7)


def test_a_step_is_the_optimisers_update(program, batch, gradients, state):
    before = jax.device_get(state["params"])
    _, grads = gradients[1]
    tx = RUN.optimizer.build(before, RUN.steps, roles=roles(RUN.abstract_model()))
    updates, _ = tx.update(grads, tx.init(before), before)
    after, metrics = program.train_step(state, batch, fine())
    # Two programs round differently, and Adam divides the smallest gradients by their own size: 1e-3 of a step.
    close(after["params"], optax.apply_updates(before, updates), rtol=1e-5, atol=2e-5)
    squares = [np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(grads)]
    np.testing.assert_allclose(metrics["grad_norm"], np.sqrt(np.sum(squares)), rtol=1e-5)
    assert float(metrics["learning_rate"]) == pytest.approx(1e-2)
    assert int(after["step"]) == 1
    assert bool(metrics["finite"])


def test_the_state_is_donated(program, batch, state):
    kernel = state["params"]["head"]["kernel"]
    program.train_step(state, batch, fine())
    assert kernel.is_deleted()


@pytest.mark.parametrize("bad", ["parameter", "step before"])
def test_a_bad_step_changes_nothing(program, batch, state, bad):
    if bad == "parameter":
        state["params"]["norm"]["gain"] = state["params"]["norm"]["gain"].at[3].set(jnp.nan)
    before = jax.device_get(state)
    after, metrics = program.train_step(state, batch, jnp.asarray(bad == "parameter"))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after), before)
    assert not bool(metrics["finite"])


def test_a_batch_of_padding_has_no_gradient(program, batch, state):
    empty = program.place({name: np.zeros(array.shape, np.int32) for name, array in batch.items()})
    _, metrics = program.train_step(state, empty, fine())
    assert bool(metrics["finite"])
    assert float(metrics["grad_norm"]) == 0.0
    assert float(divisor(jnp.float32(0.5))) == 0.5


def test_dropout_differs_by_step_and_not_by_call(dataset, batch, start):
    learner = prepare(toys.run(batch=8), dataset.description).learner
    keys = jax.random.key(0)
    total = jax.jit(
        lambda params, step: learner.forward(params, {}, batch, learner.key(step), keys, training=True)[0].loss.total
    )
    first, again, second = (total(start["params"], jnp.int32(step)) for step in (0, 0, 1))
    assert float(first) == float(again) != float(second)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32(program, batch, start):
    learner = dataclasses.replace(program.learner, dtype=jnp.bfloat16)
    forward = lambda params: learner.forward(params, {}, batch, None, jax.random.key(0), training=True)[0]  # noqa: E731
    jaxpr = str(jax.make_jaxpr(forward)(learner.cast(start["params"])))
    kernels = [line for line in jaxpr.splitlines() if "dot_general" in line and "bf16" in line]
    assert len(kernels) >= 7
    loss, grads = told(*jax.jit(learner.gradients)(start["params"], {}, batch, jnp.int32(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    assert loss.total.dtype == jnp.float32


def test_the_start_depends_on_the_seed_alone(program, dataset, start):
    close(start["params"], nnx.to_pure_dict(nnx.state(RUN.model.build(rngs=nnx.Rngs(0)), nnx.Param)), atol=1e-6)
    other = prepare(dataclasses.replace(RUN, seed=1), dataset.description).start()
    assert not np.allclose(other["params"]["head"]["kernel"], start["params"]["head"]["kernel"])


def test_evaluation_drops_nothing_out(dataset, batch, start):
    """The toy has dropout, the program without it must agree."""
    with_dropout, without = prepare(toys.run(batch=8), dataset.description), prepare(RUN, dataset.description)
    params = start["params"]
    close(with_dropout.eval_step(params, {}, batch), without.eval_step(params, {}, batch), rtol=1e-6)
