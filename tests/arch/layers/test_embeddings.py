"""Embedding, tied and untied heads, and their soft-capping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.init.initializers import FanIn
from arch.params import ParamFactory
from tests.arch import tiny

V, D = 11, 6
MAKE = ParamFactory(jax.random.key(0), FanIn())
X = np.random.default_rng(0).standard_normal((2, 3, D)).astype(np.float32)
X_JAX = jnp.asarray(X)


@pytest.mark.parametrize("scale", [None, 3.0])
def test_lookup_scales_what_is_looked_up_but_not_the_table(scale):
    embedding = Embedding(scale=scale).build(V, D, MAKE)
    table = np.asarray(embedding.table[...])
    tokens = jnp.array([[0, 10, 3]])
    tiny.close(embedding(tokens), table[np.asarray(tokens)] * np.float32(scale or 1))
    tiny.close(embedding.attend(X_JAX), X @ table.T)


@pytest.mark.parametrize("softcap", [None, 0.5])
def test_heads(softcap):
    embedding = Embedding(scale=3.0).build(V, D, MAKE)
    untied = Untied(softcap=softcap).build(V, D, MAKE)
    cap = lambda x: x if softcap is None else softcap * np.tanh(x / softcap)  # noqa: E731
    tiny.close(Tied(softcap=softcap).build(V, D, MAKE)(X_JAX, embedding), cap(X @ np.asarray(embedding.table[...]).T))
    tiny.close(untied(X_JAX, embedding), cap(X @ np.asarray(untied.kernel[...])))


@pytest.mark.parametrize("head", [Tied(), Untied()])
def test_logits_are_float32_and_summed_in_float32(head):
    low = lambda part: jax.tree.map(lambda p: p.astype(jnp.bfloat16), part)  # noqa: E731
    embedding, layer = low(Embedding().build(V, D, MAKE)), low(head.build(V, D, MAKE))
    logits = layer(X_JAX.astype(jnp.bfloat16), embedding)
    assert logits.dtype == jnp.float32
    matrix = layer.kernel[...] if hasattr(layer, "kernel") else embedding.table[...].T
    tiny.close(logits, X.astype(jnp.bfloat16).astype(np.float32) @ np.asarray(matrix, np.float32), 1e-5, 1e-5)
