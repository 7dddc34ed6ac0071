"""Who may influence whom, shown by derivatives: d logits[t] / d embedding[s]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, SlidingWindow
from arch.taps import Tap
from tests.arch import tiny

T = 8
BEHIND = np.arange(T)[:, None] - np.arange(T)[None]
"""How far place s (column) lies behind place t (row)."""


def shifted(spec):
    """`fn(params, delta_TD) -> logits_TV`: the model with `delta` added to its embeddings."""
    forward, params = tiny.forward(spec)

    def fn(params, delta_TD):
        tap = Tap(edit={"embed": lambda x, layer: x + delta_TD[None]})
        return forward(params, tiny.tokens(1, T), tap=tap).logits[0]

    return fn, params


def influence(spec):
    """bool [t, s]: whether logits[t] have a derivative by embedding[s]."""
    fn, params = shifted(spec)
    direction = jnp.eye(T)[:, :, None] * jax.random.normal(jax.random.key(0), (1, 1, tiny.D))
    derivative = jax.vmap(
        lambda params, d: jax.jvp(lambda x: fn(params, x), (jnp.zeros((T, tiny.D)),), (d,))[1], (None, 0)
    )
    moved_STV = np.asarray(tiny.jit(derivative)(params, direction))
    assert np.isfinite(moved_STV).all()
    return (moved_STV != 0).any(axis=-1).T


@pytest.mark.parametrize("position", tiny.POSITIONS)
def test_causal_sees_only_what_came_before(position):
    np.testing.assert_array_equal(influence(tiny.decoder(position, mask=Causal())), BEHIND >= 0)


@pytest.mark.parametrize("position", tiny.POSITIONS)
def test_bidirectional_connects_every_pair(position):
    assert influence(tiny.decoder(position, mask=Bidirectional(), depth=1)).all()


@pytest.mark.parametrize("position", ["rotary", "t5_model"])
@pytest.mark.parametrize(
    ("mask", "reach"),
    [
        (SlidingWindow(3), (BEHIND >= 0) & (BEHIND <= 2 * (3 - 1))),
        (SlidingWindow(1), BEHIND == 0),
        (LocalWindow(1), np.abs(BEHIND) <= 2 * 1),
    ],
    ids=["sliding3", "sliding1", "local1"],
)
def test_window_reaches_as_far_as_depth_allows(position, mask, reach):
    np.testing.assert_array_equal(influence(tiny.decoder(position, mask=mask, depth=2)), reach)


def test_reverse_mode_agrees():
    fn, params = shifted(tiny.decoder(mask=SlidingWindow(3), loop="unroll"))
    weights = jax.random.normal(jax.random.key(0), (T, tiny.V))
    summed = tiny.jit(jax.jacrev(lambda d: jnp.sum(fn(params, d) * weights, axis=-1)))(jnp.zeros((T, tiny.D)))
    np.testing.assert_array_equal((np.asarray(summed) != 0).any(axis=-1), (BEHIND >= 0) & (BEHIND <= 4))


@pytest.mark.parametrize(
    ("mask", "rule"),
    [
        (Causal(), lambda d: d >= 0),
        (SlidingWindow(3), lambda d: (d >= 0) & (d < 3)),
        (LocalWindow(2), lambda d: abs(d) <= 2),
    ],
    ids=["causal", "sliding", "local"],
)
def test_rule_on_positions(mask, rule):
    query, key = jnp.array([5, 6, 9])[:, None], jnp.arange(12)[None]
    np.testing.assert_array_equal(np.asarray(mask.allowed(query, key)), rule(np.asarray(query) - np.asarray(key)))
