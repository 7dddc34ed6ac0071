"""Additive attention against its formula in numpy float64; documents and padding of the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention.additive import AdditiveAttention, NormedAdditiveAttention
from arch.layers.init.initializers import Normal
from arch.params import ParamFactory, merge, split
from arch.taps import Tap
from tests.arch import tiny

B, S, Q, M, U = 3, 6, 5, 7, 4
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0]], np.int32)
DOCUMENTS = np.array([2, 1, 1], np.int32)
SPECS = {"plain": AdditiveAttention(U), "normed": NormedAdditiveAttention(U)}


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((B, *size)).astype(np.float32) for size in ((Q,), (S, M)))


def layer(spec):
    graphdef, params, _ = split(spec.build(Q, M, ParamFactory(jax.random.key(0), Normal(0.7))))
    rng = np.random.default_rng(1)
    moved = {"gain": jnp.float32(1.3), "bias": jnp.asarray(rng.standard_normal(U).astype(np.float32))}
    return graphdef, {name: moved.get(name, value) for name, value in params.items()}


@pytest.mark.parametrize("kind", SPECS)
def test_it_is_the_formula_over_the_document(kind):
    graphdef, params = layer(SPECS[kind])

    @tiny.jit
    def call(params, q, x):
        part, tap = merge(graphdef, params, {}), Tap(save="attn.pattern").recorder()
        context = part(q, part.keys(x, jnp.asarray(SEGMENTS)), jnp.asarray(DOCUMENTS), tap)
        return context, tap.collect()["attn.pattern"]

    q, x = inputs()
    context, pattern = call(params, q, x)
    q, x, p = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree) for tree in (q, x, params))
    hidden = np.tanh((q @ p["q"]["kernel"])[:, None] + x @ p["k"]["kernel"] + p.get("bias", 0.0))
    v = p["v"] if kind == "plain" else p["gain"] * p["v"] / np.linalg.norm(p["v"])
    seen = (DOCUMENTS[:, None] == SEGMENTS) & (SEGMENTS > 0)
    weights = np.exp(hidden @ v) * seen
    weights /= weights.sum(1, keepdims=True)
    assert pattern.shape == (B, 1, 1, S)
    np.testing.assert_allclose(pattern[:, 0, 0], weights, atol=1e-6)
    np.testing.assert_allclose(context, np.einsum("bs,bsm->bm", weights, x), atol=1e-6)
    assert (np.asarray(pattern[:, 0, 0])[~seen] == 0).all()


def test_normed_begins_with_its_gain_and_no_bias():
    _, params, _ = split(SPECS["normed"].build(Q, M, ParamFactory(jax.random.key(0), Normal())))
    assert float(params["gain"]) == pytest.approx(U**-0.5)
    assert not np.asarray(params["bias"]).any()


def test_a_query_without_a_document_is_finite():
    graphdef, params = layer(SPECS["plain"])
    q, x = inputs()
    part = merge(graphdef, params, {})
    keys = part.keys(jnp.asarray(x), jnp.zeros((B, S), jnp.int32))
    context = part(jnp.asarray(q), keys, jnp.zeros(B, jnp.int32))
    np.testing.assert_allclose(context, x.mean(1), atol=1e-6)
