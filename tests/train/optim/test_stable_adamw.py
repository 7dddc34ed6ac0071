"""StableAdamW against the paper's algorithm in numpy, a layer at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.optim import AdamW, Constant, StableAdamW

AXES = {"w": ("layers", "embed", "mlp"), "b": ("layers", "mlp")}
ROLES = {"w": "linear", "b": "constant"}
LAYERS, RATE, DECAY, B1, B2, EPS = 3, 0.1, 0.2, 0.8, 0.9, 1e-3


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {"w": (LAYERS, 4, 5), "b": (LAYERS, 5)}
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


# The gradient of the third update is thirty times what the second moments remember, in the second layer alone.
GRADS = [
    tree(1),
    tree(2),
    {name: g * np.array([1, 30, 1]).reshape(-1, *[1] * (g.ndim - 1)) for name, g in tree(3).items()},
]


def trained(spec, grads=GRADS):
    params = jax.tree.map(jnp.asarray, tree(0))
    tx = spec.build(params, len(grads), roles=ROLES, axes=AXES)
    state = tx.init(params)
    step = jax.jit(tx.update)
    for one in grads:
        updates, state = step(jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), one), state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_hand():
    params = {name: value.astype(np.float64) for name, value in tree(0).items()}
    clipped = set()
    for name in params:
        for layer in range(LAYERS):
            p, m, v = params[name][layer], 0.0, 0.0
            for t, grads in enumerate(GRADS, 1):
                g = grads[name][layer].astype(np.float64)
                one, two = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in (B1, B2))  # the algorithm's own means
                m, v = one * m + (1 - one) * g, two * v + (1 - two) * g**2
                r = np.sqrt(np.mean(g**2 / np.maximum(v, EPS**2)))
                clipped |= {(name, layer, t)} if r > 1.5 else set()
                p = p - RATE * m / (np.sqrt(v) + EPS) / max(1, r) - RATE * (DECAY if name == "w" else 0) * p
            params[name][layer] = p
    return params, clipped


SPEC = StableAdamW(learning_rate=RATE, schedule=Constant(), weight_decay=DECAY, b1=B1, b2=B2, eps=EPS)


def test_steps_are_those_of_the_algorithm():
    expected, clipped = by_hand()
    assert {("w", 1, 3), ("b", 1, 3)} <= clipped
    assert ("w", 0, 3) not in clipped
    for name, found in trained(SPEC).items():
        np.testing.assert_allclose(found, expected[name], rtol=2e-5, atol=2e-6)


def test_without_surprise_it_is_adamw():
    """Equal gradients have second moments that are never out of date: r is 1."""
    fields = {field.name: getattr(SPEC, field.name) for field in dataclasses.fields(AdamW)}
    plain = AdamW(**fields)
    same, found = (trained(spec, GRADS[:1] * 3) for spec in (plain, SPEC))
    for name in same:
        np.testing.assert_allclose(found[name], same[name], rtol=1e-5, atol=1e-6)
    assert np.abs(trained(plain)["w"][1] - trained(SPEC)["w"][1]).max() > 0.01
