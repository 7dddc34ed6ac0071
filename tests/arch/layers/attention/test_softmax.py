"""Attention against the formula written out head by head in numpy, with every option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.context import Context
from arch.layers.attention.attend import Scores, plain
from arch.layers.attention.masks import Bidirectional, Causal
from arch.layers.attention.softmax import Attention
from arch.layers.init.initializers import Normal
from arch.layers.linear import Dense
from arch.layers.norms.common import RMSNorm
from arch.layers.positions import ALiBi, NoPosition
from arch.params import ParamFactory
from arch.spec import SpecError
from arch.taps import NoTap
from tests.arch import tiny

B, T, S, K, D = 2, 5, 7, 8, 16
RNG = np.random.default_rng(0)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("shared", [False, True], ids=["a mask a row", "one mask"])
def test_plain_head_by_head(heads, kv_heads, softcap, shared):
    """softmax(cap(q k^T * scale) + bias) v, query head n reading key-value head n * H // N."""
    sizes = ((T, heads), (S, kv_heads), (S, kv_heads))
    q, k, v = (RNG.standard_normal((B, *size, K)).astype(np.float32) for size in sizes)
    visible = RNG.random((1 if shared else B, T, S)) < 0.6
    visible[:, :, 0] = True
    bias = RNG.standard_normal((1, heads, T, S)).astype(np.float32)
    expected = np.zeros((B, T, heads, K))
    for b in range(B):
        for n in range(heads):
            h = n * kv_heads // heads
            score = q[b, :, n] @ k[b, :, h].T * 0.7
            score = score if softcap is None else softcap * np.tanh(score / softcap)
            score = np.where(visible[b % len(visible)], score + bias[0, n], -np.inf)
            expected[b, :, n] = softmax(score) @ v[b, :, h]
    q, k, v, visible, bias = map(jnp.asarray, (q, k, v, visible, bias))
    z = plain(q, k, v, visible=visible, bias=bias, scores=Scores(0.7, softcap), tap=NoTap())
    tiny.close(z, expected.astype(np.float32))


def test_plain_without_mask_and_bias():
    q, k, v = (RNG.standard_normal((B, n, 1, K)).astype(np.float32) for n in (T, S, S))
    z = plain(*map(jnp.asarray, (q, k, v)), visible=None, bias=None, scores=Scores(1.0), tap=NoTap())
    tiny.close(z[:, :, 0], softmax(q[:, :, 0] @ k[:, :, 0].swapaxes(1, 2)) @ v[:, :, 0])


@pytest.mark.parametrize("where", [100.0, -100.0])
def test_scores_of_any_size_stay_finite(where):
    """Also a row that sees nothing, and its gradient."""
    q, k, v = (jnp.asarray(RNG.standard_normal((1, n, 1, K)), jnp.float32) for n in (T, S, S))
    visible = np.ones((1, T, S), bool)
    visible[0, 2] = False

    def total(q, k, v):
        z = plain(where * q, where * k, v, visible=jnp.asarray(visible), bias=None, scores=Scores(1.0), tap=NoTap())
        return z.sum(), z

    gradients, z = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)
    assert all(np.isfinite(x).all() for x in (z, *gradients))


def build(spec):
    graphdef, shapes = nnx.eval_shape(
        lambda: nnx.split(spec.build(D, ParamFactory(jax.random.key(0), Normal())), nnx.Param)
    )
    rng = np.random.default_rng(1)
    fill = lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) / 2, jnp.float32)  # noqa: E731
    return nnx.merge(graphdef, jax.tree.map(fill, nnx.to_pure_dict(shapes)))


@pytest.mark.parametrize(
    ("spec", "scale"),
    [
        (Attention(heads=4, kv_heads=2, position=NoPosition()), 4**-0.5),
        (Attention(heads=3, head_dim=6, position=ALiBi(), linear=Dense(bias=True), mask=Bidirectional()), 6**-0.5),
        (Attention(heads=2, qk_norm=RMSNorm(), position=NoPosition(), scale=0.5, linear=Dense(bias=True)), 0.5),
    ],
    ids=["grouped", "wide with biases", "qk norm"],
)
def test_layer_formula(spec, scale):
    """W_o [softmax(norm(W_q x) norm(W_k x)^T * scale + bias) W_v x + biases] with kernels of shape [D, N, K]."""
    layer = build(spec)
    x = RNG.standard_normal((B, T, D)).astype(np.float32)

    def project(part):
        y = np.einsum("btd,dnk->btnk", x, part.kernel[...])
        return y + np.asarray(part.bias[...]) if hasattr(part, "bias") else y

    def normed(y, gain):
        return y / np.sqrt(np.mean(y**2, -1, keepdims=True) + 1e-6) * np.asarray(gain[...])

    q, k, v = project(layer.q), project(layer.k), project(layer.v)
    if spec.qk_norm is not None:
        q, k = normed(q, layer.q_norm.gain), normed(k, layer.k_norm.gain)
    repeat = spec.heads // (spec.kv_heads or spec.heads)
    k, v = np.repeat(k, repeat, axis=2), np.repeat(v, repeat, axis=2)
    score = np.einsum("btnk,bsnk->bnts", q, k) * scale
    distance = np.arange(T)[:, None] - np.arange(T)[None]
    if isinstance(spec.position, ALiBi):
        score = score - 2.0 ** -np.array([4.0, 8.0, 2.0])[None, :, None, None] * np.abs(distance)
    if isinstance(spec.mask, Causal):
        score = np.where(distance >= 0, score, -np.inf)
    z = np.einsum("bnts,bsnk->btnk", softmax(score), v)
    expected = np.einsum("btnk,nkd->btd", z, layer.o.kernel[...])
    if hasattr(layer.o, "bias"):
        expected = expected + np.asarray(layer.o.bias[...])
    positions = jnp.arange(T)[None]
    tiny.close(layer(jnp.asarray(x), Context(positions, None, positions, None)).x, expected.astype(np.float32))


def test_heads_must_divide_the_width_unless_they_have_one():
    with pytest.raises(SpecError, match=r"Attention.heads=6: must divide the width 32 \(1, 2, 4, 8, 16, 32\), or give"):
        Attention(heads=6).build(32, ParamFactory(jax.random.key(0), Normal()))
    nnx.eval_shape(lambda: Attention(heads=6, head_dim=4).build(32, ParamFactory(jax.random.key(0), Normal())))
