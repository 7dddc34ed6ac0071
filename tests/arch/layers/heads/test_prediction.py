"""BERT's prediction head against its formula in numpy, float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from arch.layers.embeddings import Embedding
from arch.layers.heads.prediction import PredictionHead
from arch.layers.init.initializers import FanIn
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm
from arch.params import ParamFactory, metadata
from tests.arch import tiny

V, D = 11, 6
MAKE = ParamFactory(jax.random.key(0), FanIn(2.0))


def test_logits_are_those_of_the_formula():
    embedding = Embedding().build(V, D, MAKE)
    head = PredictionHead(norm=LayerNorm(), linear=Dense(bias=True), softcap=3.0).build(V, D, MAKE)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, D)).astype(np.float32)
    for param in (head.bias, head.norm.gain, head.norm.bias, head.dense.bias):
        param.set_value(jnp.asarray(rng.standard_normal(param.shape), jnp.float32))
    h = x.astype(np.float64) @ np.asarray(head.dense.kernel[...]) + np.asarray(head.dense.bias[...])
    h = h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    h = h * np.asarray(head.norm.gain[...]) + np.asarray(head.norm.bias[...])
    logits = h @ np.asarray(embedding.table[...]).T + np.asarray(head.bias[...])
    tiny.close(head(jnp.asarray(x), embedding), (3 * np.tanh(logits / 3)).astype(np.float32))


def test_modernberts_has_one_bias_and_a_role_of_its_own():
    rows = metadata(PredictionHead().build(V, D, MAKE))
    assert {path: row["shape"] for path, row in rows.items()} == {
        "bias": (V,),
        "dense.kernel": (D, D),
        "norm.gain": (D,),
    }
    assert rows["dense.kernel"]["role"] == "transform"


def test_logits_are_float32():
    low = lambda part: jax.tree.map(lambda p: p.astype(jnp.bfloat16), part)  # noqa: E731
    head, embedding = low(PredictionHead().build(V, D, MAKE)), low(Embedding().build(V, D, MAKE))
    assert head(jnp.ones((1, 2, D), jnp.bfloat16), embedding).dtype == jnp.float32
