"""Attention with values of another width than keys, in every form of the product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from arch.layers.attention import blockwise as module
from arch.layers.attention.attend import Scores, Visibility, attend, plain, plain_form
from arch.layers.attention.masks import Bidirectional, Causal, SlidingWindow
from arch.taps import NoTap, Tap
from tests.arch import tiny

B, T, N, H, K = 2, 11, 4, 2, 3


def inputs(width, length=T):
    rng = np.random.default_rng(0)
    shapes = ((B, T, N, K), (B, length, H, K), (B, length, H, width))
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def by_hand(q, k, v, visible):
    """Head by head, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    z = np.zeros((*q.shape[:3], v.shape[3]))
    for b in range(B):
        for n in range(N):
            score = np.where(visible, q[b, :, n] @ k[b, :, n * H // N].T * 0.7, -np.inf)
            z[b, :, n] = softmax(score, axis=-1) @ v[b, :, n * H // N]
    return z.astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 7])
@pytest.mark.parametrize("mask", [Causal(), SlidingWindow(4), Bidirectional()], ids=lambda mask: type(mask).__name__)
def test_values_of_another_width(mask, width, monkeypatch):
    """Plain, in blocks of queries, with taps: the formula, and one gradient."""
    monkeypatch.setattr(module, "LEAST_ROWS", 2)
    q, k, v = inputs(width)
    places = np.arange(T)
    visibility = Visibility(mask, places[None], places[None], None, None)
    allowed = mask.allowed(places[:, None], places[None])
    expected = by_hand(q, k, v, np.ones((T, T), bool) if allowed is None else allowed)
    weight = jnp.asarray(np.random.default_rng(1).standard_normal(expected.shape), jnp.float32)

    def run(tap):
        def total(q, k, v):
            z = attend(q, k, v, visibility=visibility, bias=None, scores=Scores(0.7), tap=tap)
            return jnp.sum(z * weight), z

        return tiny.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    blocks = run(NoTap())
    with plain_form():
        whole = run(NoTap())
    tiny.close(blocks[1], expected)
    tiny.close(whole[1], expected)
    tiny.close(blocks[0], whole[0])
    assert blocks[0][2].shape == (B, T, H, width)
    tiny.close(run(Tap(save="attn.pattern").recorder()), whole)


def test_keys_of_another_length_with_a_bias():
    """What a cache or a memory holds."""
    q, k, v = inputs(5, length=6)
    bias = jnp.asarray(np.random.default_rng(2).standard_normal((1, N, T, 6)), jnp.float32)
    z = plain(q, k, v, visible=None, bias=bias, scores=Scores(0.7), tap=NoTap())
    assert z.shape == (B, T, N, 5)
    score = np.einsum("btnk,bsnk->bnts", q, np.repeat(k, N // H, axis=2)) * 0.7 + bias
    expected = np.einsum(
        "bnts,bsnv->btnv", softmax(np.asarray(score, np.float64), axis=-1), np.repeat(v, N // H, axis=2)
    )
    tiny.close(z, expected.astype(np.float32))
