"""Sinkhorn attention: the matrix, and the layer against its definition block by block in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from arch.layers.attention.sinkhorn import Sinkhorn, sinkhorn
from tests.arch import tiny
from tests.arch.layers.attention.kinds import B, K, N, T, layer, padded, rows, run

BLOCK, BLOCKS = 3, 4
SPEC = Sinkhorn(N, K, length=T, block=BLOCK, iterations=40)


def test_the_matrix_becomes_doubly_stochastic():
    scores = np.random.default_rng(0).normal(size=(5, 6, 6)).astype(np.float32) * 3
    matrix = sinkhorn(jnp.asarray(scores), 100)
    assert (np.asarray(matrix) > 0).all()
    tiny.close(np.asarray(matrix).sum(-1), np.ones((5, 6), np.float32), rtol=1e-4)
    tiny.close(np.asarray(matrix).sum(-2), np.ones((5, 6), np.float32), rtol=1e-4)
    # It is the scores' exponential with each row and each column multiplied by a factor.
    log_ratio = np.log(np.asarray(matrix)) - scores
    mixed = log_ratio[:, 1:, 1:] - log_ratio[:, :1, 1:] - log_ratio[:, 1:, :1] + log_ratio[:, :1, :1]
    np.testing.assert_allclose(mixed, 0, atol=1e-3)


def test_the_layer_block_by_block():
    """Own block and sorted block in one softmax."""
    _, params = layer(SPEC)
    x = rows()
    _, taps = run(SPEC, x)
    sums = x.reshape(B, BLOCKS, BLOCK, -1).sum(2)
    scores = np.einsum("bwd,dnu->bnuw", sums, np.asarray(params["sort"]["kernel"]))
    tiny.close(taps["attn.order"], sinkhorn(jnp.asarray(scores) / 0.75, 40), rtol=1e-3, atol=1e-4)
    order = np.asarray(taps["attn.order"], np.float64)
    q, k, v = (
        np.asarray(taps[f"attn.{name}"], np.float64).reshape(B, BLOCKS, BLOCK, N, K).transpose(0, 3, 1, 2, 4)
        for name in "qkv"
    )
    expected = np.zeros_like(q)
    for b in range(B):
        for n in range(N):
            for u in range(BLOCKS):
                keys, values = (
                    np.concatenate([y[b, n, u], np.tensordot(order[b, n, u], y[b, n], axes=1)]) for y in (k, v)
                )
                expected[b, n, u] = softmax(q[b, n, u] @ keys.T / np.sqrt(K), axis=-1) @ values
    expected = expected.transpose(0, 2, 3, 1, 4).reshape(B, T, N, K).astype(np.float32)
    tiny.close(taps["attn.z"], expected, rtol=1e-3, atol=1e-3)


def test_blocks_of_padding_are_sorted_among_themselves():
    lengths = (T, 7, 4)
    _, taps = run(SPEC, rows(), padded(lengths))
    order = np.asarray(taps["attn.order"])
    for b, length in enumerate(lengths):
        full = -(-length // BLOCK)
        assert (order[b, :, :full, full:] < 1e-6).all()
        np.testing.assert_allclose(order[b, :, :full, :full].sum(-1), 1, rtol=1e-3)
        np.testing.assert_allclose(order[b, :, :full, :full].sum(-2), 1, rtol=1e-3)


def test_noise_comes_with_a_key_only():
    still, noisy = run(SPEC, rows())[0], [run(SPEC, rows(), key=jax.random.key(seed))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (np.asarray(noisy[0]) != np.asarray(noisy[2])).any()
    quiet = Sinkhorn(N, K, length=T, block=BLOCK, iterations=40, noise=0.0)
    tiny.close(run(quiet, rows(), key=jax.random.key(0))[0], still)


def test_a_row_need_not_fill_its_last_block():
    short = run(SPEC, rows(length=7))[0]
    longer = np.pad(rows(length=7), [(0, 0), (0, 5), (0, 0)])
    tiny.close(run(SPEC, longer, padded((7,) * B))[0][:, :7], short)
