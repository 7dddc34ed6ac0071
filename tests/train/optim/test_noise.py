"""Gradient noise: its variance, where it stands in the chain, what it depends on, and the walk it makes of weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.spec import SpecError
from tests.train.optim.test_optimizers import QUICK, assert_close, train, train_unfrozen
from train.optim import SGD, Adafactor, AdamW, Constant, GradientNoise, Muon, walk_std

PLAIN = SGD(learning_rate=1.0, schedule=Constant(), momentum=0.0, clip=None)
NOISY = dataclasses.replace(PLAIN, noise=GradientNoise(eta=0.3))


def noises(counts, params, seed=0, noise=NOISY.noise):
    """What is added to a gradient of zeros at each of these updates."""
    tx = noise.build(seed)
    state = tx.init(params)

    def at(count):
        return tx.update(jax.tree.map(jnp.zeros_like, params), state._replace(updates=count))[0]

    return jax.jit(jax.vmap(at), compiler_options=QUICK)(jnp.asarray(counts, jnp.int32))


@pytest.mark.parametrize("count", [0, 1, 10, 1000])
def test_the_variance_is_the_papers(count):
    """eta / (1 + t)^gamma from t = 0: on 1e6 numbers within 2 %, of the clean gradient whatever that is."""
    tx, gradient = NOISY.noise.build(0), jnp.linspace(-5, 5, 1_000_000)
    state = tx.init(gradient)._replace(updates=jnp.int32(count))
    noisy, after = tx.update({"w": gradient}, state)
    noise = np.asarray(noisy["w"] - gradient, np.float64)
    assert noise.var() == pytest.approx(0.3 / (1 + count) ** 0.55, rel=0.02)
    assert abs(noise.mean()) < 4 * noise.std() / 1000
    assert int(after.updates) == count + 1
    # optax's own schedule, of which this is another implementation.
    reference = optax.add_noise(0.3, 0.55, jax.random.key(1))
    start = reference.init({"w": gradient})._replace(count=jnp.int32(count))
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = reference.update({"w": jnp.zeros_like(gradient)}, start)
    assert noise.var() == pytest.approx(np.asarray(theirs["w"]).var(), rel=0.02)


def test_noise_is_independent_between_parameters_and_updates():
    params = {"a": jnp.zeros((4, 5000)), "b": jnp.zeros((4, 5000))}
    found = noises([0, 1, 2], params)
    columns = np.concatenate([np.asarray(found[name]).reshape(12, 5000) for name in "ab"])
    correlation = np.corrcoef(columns) - np.eye(24)
    assert np.abs(correlation).max() < 0.06  # of 5,000 numbers: four standard errors
    pooled = [np.asarray(found[name][count]).ravel() for name in "ab" for count in range(3)]
    assert np.abs(np.corrcoef(pooled) - np.eye(6)).max() < 0.02


def test_the_seed_decides(params, grads, axes, roles):
    def run(seed):
        return train(NOISY.build(params, 3, roles=roles, axes=axes, seed=seed), params, grads)[0]

    first, again, other = run(1), run(1), run(2)
    assert_close(first, again, rtol=0, atol=0)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True)
    assert all(np.abs(a - b).max() > 0.1 for a, b in pairs)


def test_members_may_vary_seed_and_eta(params, grads, axes, roles):
    """Traced, each equals its lone run; eta = 0 among them is the run without noise."""
    seeds, etas = np.int32([1, 1, 2]), np.float32([0.3, 0.0, 0.3])

    @jax.vmap
    def member(seed, eta):
        noise = GradientNoise()
        object.__setattr__(noise, "eta", eta)
        noisy = dataclasses.replace(PLAIN, noise=noise)
        return train(noisy.build(params, 3, roles=roles, axes=axes, seed=seed), params, grads)[0]

    together = member(seeds, etas)
    for index, (seed, eta) in enumerate(zip(seeds, etas, strict=True)):
        lone = dataclasses.replace(PLAIN, noise=GradientNoise(float(eta)))
        alone, _ = train(lone.build(params, 3, roles=roles, axes=axes, seed=int(seed)), params, grads)
        assert_close(jax.tree.map(lambda leaf, i=index: np.asarray(leaf)[i], together), alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", [AdamW(), PLAIN, Adafactor(), Muon()], ids=lambda spec: type(spec).__name__)
def test_no_eta_is_no_noise(spec, params, grads, axes, roles):
    """To the bit, signed zeros too."""
    silent = dataclasses.replace(spec, noise=GradientNoise(eta=0.0))
    found, _ = train(silent.build(params, 3, roles=roles, axes=axes), params, grads)
    expected, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    assert_close(found, expected, rtol=0, atol=0)
    tx = silent.noise.build(0)
    zeros = np.float32([0.0, -0.0, 1.0])
    kept, _ = tx.update({"w": zeros}, tx.init({"w": zeros}))
    np.testing.assert_array_equal(np.signbit(kept["w"]), np.signbit(zeros))


def test_noise_is_added_after_clipping_and_before_the_direction(params, axes, roles):
    """A zero gradient moves by the noise, far more than the clip allows; Adam's first step is the noise's sign."""
    zeros = jax.tree.map(np.zeros_like, params)
    noise = noises([0], params, seed=5, noise=GradientNoise(0.3))
    clipped = dataclasses.replace(NOISY, clip=1e-3)
    found, _ = train(clipped.build(params, 1, roles=roles, axes=axes, seed=5), params, [zeros])
    expected = jax.tree.map(lambda p, n: p - np.asarray(n[0]), params, noise)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    adam = AdamW(learning_rate=0.1, schedule=Constant(), weight_decay=0.0, noise=GradientNoise(0.3))
    found, _ = train(adam.build(params, 1, roles=roles, axes=axes, seed=5), params, [zeros])
    expected = jax.tree.map(lambda p, n: p - 0.1 * np.sign(n[0]), params, noise)
    assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_frozen_parameters_get_no_noise(params, grads, axes, roles):
    frozen = dataclasses.replace(NOISY, freeze=("embedding",))
    found, _ = train_unfrozen(frozen, params, grads, axes, roles)
    np.testing.assert_array_equal(found["embedding"]["table"], params["embedding"]["table"])
    # The others draw what they draw without the freeze.
    free, _ = train(NOISY.build(params, 3, roles=roles, axes=axes), params, grads)
    assert_close(found["head"], free["head"], rtol=1e-6, atol=1e-6)


def test_weights_without_gradients_walk_at_random():
    """The law, within 2 % on 20,000 weights over 300 updates, for two learning rates and starts."""
    for rate, start in ((0.1, 0.0), (0.2, 0.1)):
        params = {"w": start * jax.random.normal(jax.random.key(0), (20_000,))}
        spec = dataclasses.replace(NOISY, learning_rate=rate, noise=GradientNoise(0.01))
        found, _ = train(
            spec.build(params, 300, roles={"w": "linear"}), params, [jax.tree.map(jnp.zeros_like, params)] * 300
        )
        expected = walk_std(float(jnp.std(params["w"])), rate, 0.01, 300)
        assert float(jnp.std(found["w"])) == pytest.approx(expected, rel=0.02)


def test_the_law_is_the_papers_numbers():
    """Against the closed form, and the predictions noted for lr 0.1 and 0.2 at 5,000 updates."""
    assert walk_std(0.0, 0.1, 0.01, 5000) == pytest.approx(0.100, abs=0.001)
    assert walk_std(0.0, 0.2, 0.01, 5000) == pytest.approx(0.200, abs=0.002)
    assert walk_std(0.1, 0.1, 0.01, 5000) == pytest.approx(0.142, abs=0.001)
    steps = np.array([0, 1, 100_000])
    closed = np.sqrt(0.1**2 * 0.01 * ((1 + steps) ** 0.45 - 1) / 0.45)
    np.testing.assert_allclose(walk_std(0.0, 0.1, 0.01, steps)[[0, 2]], closed[[0, 2]], rtol=0.01)
    assert walk_std(0.0, 0.1, 0.01, 1) == pytest.approx(0.1 * 0.1)


def test_refusals():
    with pytest.raises(SpecError, match=r"GradientNoise\.eta=-1.0: must be at least 0"):
        GradientNoise(eta=-1.0)
