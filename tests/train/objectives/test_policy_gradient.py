"""Policy gradients against the sum over all sentences of a toy language of three words; drawn continuations."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.models.base import Inputs
from arch.params import merge
from arch.spec import SpecError, UserError
from tests.extension.harness import difference, steps
from tests.train.objectives.bigram import Bigram, spec_and_params
from train.data.description import Description
from train.data.reversal import Reversed
from train.forward import Forward, numbered
from train.objectives.continuations import continuations
from train.objectives.policy_gradient import PolicyGradient
from train.objectives.rewards import gleu
from train.optim import AdamW, Constant
from train.run import Run
from train.sharding.mesh import Mesh

ROWS, GROUPS = 400, 16
GRAPH, PARAMS = spec_and_params()
SEGMENTS = {None: [1, 1, 1], 2: [1, 1, 1]}
TARGET = {None: [0, 1, 2], 2: [0, 1, 2]}
"""A token to begin with, and the target; with an end token it is one word and the end."""


def batch(end, rows=ROWS):
    arrays = {"source": [1], "source_segments": [1], "tokens": TARGET[end], "segments": SEGMENTS[end]}
    return numbered({name: jnp.tile(jnp.asarray([row], jnp.int32), (rows, 1)) for name, row in arrays.items()})


def gradient(objective, key, rows=ROWS):
    forward = Forward(GRAPH, objective.build(Description({}, vocab=3)))

    def total(params, key):
        sums, _ = forward(params, {}, batch(objective.end, rows), None, key, training=True)
        return sums.loss.total / sums.loss.weight, sums.loss.sums

    grads, sums = jax.grad(total, has_aux=True)(PARAMS, key)
    return grads["table"], sums


def log_p(params, words):
    table = jax.nn.log_softmax(params["table"][1], axis=-1)
    return sum(table[a, b] for a, b in itertools.pairwise([0, *words]))


def sentences(end):
    """All that can be drawn in two turns, and the words of it that are read."""
    for words in itertools.product(range(3), repeat=2):
        if end is not None and words[0] == end:
            if words[1] == 0:
                yield (end,), ()
        else:
            yield words, words[: words.index(end)] if end in words else words


def expected_reward(params, end):
    reference = (1,) if end == 2 else (1, 2)
    return sum(jnp.exp(log_p(params, words)) * gleu(read, reference) for words, read in sentences(end))


@pytest.mark.parametrize("end", [None, 2])
@pytest.mark.parametrize("baseline", ["others", "none", "mean"])
def test_its_mean_is_the_gradient_of_the_expected_reward(baseline, end):
    """Within four standard errors, of 16 groups of 400 sentences with 5 samples each. A baseline moves nothing but the
    noise; the mean of all samples makes (m - 1) / m of it."""
    objective = PolicyGradient(alpha=0.0, samples=5, end=end, baseline=baseline)
    draw = jax.jit(lambda key: gradient(objective, key)[0])
    found = -np.array([draw(jax.random.key(seed)) for seed in range(GROUPS)])
    exact = np.asarray(jax.grad(expected_reward)(PARAMS, end)["table"]) * (0.8 if baseline == "mean" else 1.0)
    error = found.std(0, ddof=1) / np.sqrt(GROUPS)
    assert np.abs(exact).max() > 20 * error.max(), "the errors are too large to tell anything"
    assert (np.abs(found.mean(0) - exact) <= 4.5 * error + 1e-7).all()


def test_the_baseline_makes_less_noise():
    noise = {}
    for baseline in ("others", "none"):
        objective = PolicyGradient(alpha=0.0, samples=5, baseline=baseline)
        draw = jax.jit(lambda key, objective=objective: gradient(objective, key, rows=4)[0])
        noise[baseline] = np.array([draw(jax.random.key(seed)) for seed in range(100)]).std(0).mean()
    assert noise["others"] < 0.8 * noise["none"]


def test_a_large_alpha_is_maximum_likelihood():
    """And reward and loss are reported as they are."""
    objective = PolicyGradient(alpha=1e6, samples=2, end=2)
    grads, sums = jax.jit(lambda key: gradient(objective, key))(jax.random.key(0))
    likelihood = jax.grad(lambda params: -log_p(params, (1, 2)))(PARAMS)["table"]
    np.testing.assert_allclose(grads / 1e6, likelihood, atol=1e-5)
    told = objective.metrics(type("Sums", (), {"sums": sums}))
    np.testing.assert_allclose(told["loss"], -log_p(PARAMS, (1, 2)) / 2, rtol=1e-5)
    np.testing.assert_allclose(told["reward"], expected_reward(PARAMS, 2), atol=0.03)


def test_both_gradients_add_up():
    key = jax.random.key(1)
    run = lambda alpha: jax.jit(lambda: gradient(PolicyGradient(alpha=alpha, samples=3), key)[0])()  # noqa: E731
    likelihood = jax.grad(lambda params: -log_p(params, (1, 2)))(PARAMS)["table"]
    np.testing.assert_allclose(run(0.5) - run(0.0), 0.5 * likelihood, atol=1e-5)


def test_continuations_are_drawn_from_the_model_by_each_rows_key():
    """As often as their probabilities say; a row's do not depend on the others."""
    model = merge(GRAPH, PARAMS, {})
    keys = jax.random.split(jax.random.key(3), 4000)

    @jax.jit
    def draw(keys):
        rows = keys.shape[0]
        prompt = Inputs(tokens=jnp.zeros((rows, 1), jnp.int32), source=Inputs(tokens=jnp.ones((rows, 1), jnp.int32)))
        return continuations(model, prompt, 2, keys)

    tokens = np.asarray(draw(keys))
    for words in itertools.product(range(3), repeat=2):
        p = float(np.exp(log_p(PARAMS, words)))
        assert abs((tokens == words).all(1).mean() - p) < 4.5 * np.sqrt(p * (1 - p) / 4000)
    np.testing.assert_array_equal(draw(keys[5:7]), tokens[5:7])


def test_rows_that_fill_a_batch_up_and_padding_count_nothing():
    objective = PolicyGradient(alpha=0.3, samples=2, end=2)
    forward = Forward(GRAPH, objective.build(Description({}, vocab=3)))
    one = batch(2, rows=1)
    filled = {name: jnp.concatenate([array, jnp.zeros_like(array)]) for name, array in one.items()}
    longer = {**one, "tokens": jnp.array([[0, 1, 2, 1]]), "segments": jnp.array([[1, 1, 1, 0]])}
    loss = jax.jit(lambda batch: forward(PARAMS, {}, batch, None, jax.random.key(0), training=True)[0].loss)
    whole, padded = loss(one), loss(filled)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, padded)
    np.testing.assert_allclose(loss(longer).sums["nats"], whole.sums["nats"], rtol=1e-6)


def test_mistakes_are_told():
    with pytest.raises(SpecError, match="samples=1: must be at least 2"):
        PolicyGradient(samples=1)
    task = PolicyGradient().build(Description({}, vocab=3))
    with pytest.raises(UserError, match="one sentence a row"):
        task.prepare({"positions": jnp.zeros((1, 2))}, None)


def test_a_run_draws_the_same_in_micro_batches():
    """Through the whole step: metrics, gradients and the parameters after two updates."""
    toy = Run(
        model=Bigram(vocab=8),
        data=Reversed(length=4, vocab=8, rows=16, held_out=6),
        objective=PolicyGradient(alpha=0.1, samples=3, end=1),
        optimizer=AdamW(learning_rate=1e-2, schedule=Constant(), eps=1e-3),
        batch=8,
        steps=2,
        mesh=Mesh(data=1),
    )
    whole, parts = steps(toy), steps(dataclasses.replace(toy, accumulate=2))
    for one, two in zip(whole.told, parts.told, strict=True):
        assert {"loss", "reward"} <= one.keys()
        for name, value in one.items():
            np.testing.assert_allclose(two[name], value, rtol=1e-5, err_msg=name)
    assert difference(whole.state["params"], parts.state["params"]) < 1e-6
    assert difference(whole.state["params"], whole.first["params"]) > 1e-3
    assert 0 < whole.evaluated["reward"] < 1
