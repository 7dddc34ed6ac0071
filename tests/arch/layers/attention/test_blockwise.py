"""Attention in blocks of queries against the plain form, which is tested against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention import blockwise as module
from arch.layers.attention.attend import Scores, Visibility, attend, plain_form
from arch.layers.attention.blockwise import ranges
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, SlidingWindow
from arch.taps import NoTap
from tests.arch import tiny

B, T, K = 2, 22, 4
MASKS = [Causal(), Bidirectional(), SlidingWindow(window=5), LocalWindow(radius=3)]


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Blocks of 6, 6, 6 and 4 rows at T=22."""
    monkeypatch.setattr(module, "LEAST_ROWS", 2)


def inputs(heads: int, kv_heads: int, packed: bool):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((B, T, n, K)), jnp.float32) for n in (heads, kv_heads, kv_heads))
    if not packed:
        positions = np.arange(T)[None]
        return q, k, v, positions, None
    segments = np.asarray([[1] * 9 + [2] * 13, [1] * 4 + [2] * 11 + [0] * 7])
    positions = np.stack(
        [np.concatenate([np.arange(np.sum(row == s)) for s in dict.fromkeys(row)]) for row in segments]
    )
    return q, k, v, jnp.asarray(positions), jnp.asarray(segments)


@pytest.mark.parametrize("packed", [False, True], ids=["one document", "packed"])
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
@pytest.mark.parametrize(("heads", "kv_heads", "softcap", "biased"), [(4, 2, None, True), (3, 3, 2.0, False)])
def test_the_same_function_and_gradients_as_the_plain_form(mask, packed, heads, kv_heads, softcap, biased):
    q, k, v, positions, segments = inputs(heads, kv_heads, packed)
    visibility = Visibility(mask, positions, positions, segments, segments)
    rng = np.random.default_rng(1)
    bias = jnp.asarray(rng.standard_normal((1, heads, T, T)), jnp.float32) if biased else None
    real = np.ones((B, T), bool) if segments is None else np.asarray(segments > 0)
    weight = jnp.asarray(rng.standard_normal(q.shape) * real[:, :, None, None], jnp.float32)

    def total(q, k, v):
        z = attend(q, k, v, visibility=visibility, bias=bias, scores=Scores(0.7, softcap), tap=NoTap())
        return jnp.sum(z * weight), z

    def both(q, k, v):
        gradients, z = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)
        return z[real], *gradients

    blocks = both(q, k, v)
    with plain_form():
        expected = both(q, k, v)
    for a, b in zip(blocks, expected, strict=True):
        tiny.close(a, b)


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
def test_blocks_leave_out_what_no_query_sees_and_nothing_else(mask):
    """Every visible pair is in exactly one block; a first or last key that no row of its block sees is in none."""
    positions = np.arange(T)
    allowed = mask.allowed(positions[:, None], positions[None])
    allowed = np.ones((T, T), bool) if allowed is None else allowed
    covered = np.zeros((T, T), int)
    for rows, keys in ranges(T, mask.span):
        covered[rows, keys] += 1
        assert allowed[rows, keys][:, 0].any()
        assert allowed[rows, keys][:, -1].any()
    assert (covered[allowed] == 1).all()
    assert covered.max() == 1
    assert (covered.sum() < T * T) == (mask.span != (None, None))


def test_a_query_that_sees_nothing_stays_finite():
    q, k, v, positions, _ = inputs(2, 2, packed=False)
    nothing = jnp.zeros((B, T), jnp.int32)
    visibility = Visibility(Causal(), positions, positions, nothing, nothing)

    def total(q, k, v):
        z = attend(100 * q, 100 * k, v, visibility=visibility, bias=None, scores=Scores(1.0), tap=NoTap())
        return jnp.sum(z), z

    gradients, z = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)
    assert all(np.isfinite(x).all() for x in (z, *gradients))


def test_bfloat16_keeps_its_scores_and_sums_in_float32():
    q, k, v, positions, _ = inputs(4, 2, packed=False)
    visibility = Visibility(Causal(), positions, positions, None, None)
    run = lambda *x: attend(*x, visibility=visibility, bias=None, scores=Scores(0.5), tap=NoTap())  # noqa: E731
    low = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    z = run(*low)
    assert z.dtype == jnp.bfloat16
    exact = run(*(x.astype(jnp.float32) for x in low))
    np.testing.assert_allclose(z.astype(jnp.float32), exact, atol=0.02)
