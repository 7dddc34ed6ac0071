"""Depth statistics against values known by hand, and against numpy on random streams."""

import numpy as np
import pytest

from arch.probe.depth import (
    angular_distance,
    attention_entropy,
    cosine,
    relative_contribution,
    residual_rms,
    token_mean,
    variance,
)

L, B, T, D = 3, 2, 5, 8
RNG = np.random.default_rng(0)
X, Y = (RNG.standard_normal((L, B, T, D)).astype(np.float32) for _ in range(2))
MASK = (RNG.random((B, T)) < 0.6).astype(np.float32)
TOKENS = np.argwhere(MASK > 0)


def over_tokens(fn):
    """The mean of `fn(x, y)` over the kept tokens, layer by layer, in float64."""
    return [np.mean([fn(X[l, b, t].astype(float), Y[l, b, t].astype(float)) for b, t in TOKENS]) for l in range(L)]  # noqa: E741


def cos(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def test_against_numpy_over_the_tokens_that_count():
    norm = np.linalg.norm
    kept = X[:, MASK > 0].astype(float)
    for actual, expected in [
        (residual_rms(X, MASK), np.sqrt(over_tokens(lambda x, y: np.mean(x**2)))),
        (variance(X, MASK), kept.reshape(L, -1).var(axis=1)),
        (relative_contribution(X, Y, MASK), over_tokens(lambda x, y: norm(x) / norm(y))),
        (cosine(X, Y, MASK), over_tokens(cos)),
        (angular_distance(X, Y, MASK), over_tokens(lambda x, y: np.arccos(np.clip(cos(x, y), -1, 1)) / np.pi)),
    ]:
        np.testing.assert_allclose(actual, expected, rtol=2e-5)


@pytest.mark.parametrize("fn", [residual_rms, variance], ids=lambda fn: fn.__name__)
def test_without_weights_all_tokens_count(fn):
    np.testing.assert_allclose(fn(X), fn(X, np.ones((B, T), np.float32)), rtol=1e-6)
    assert np.abs(fn(X) - fn(X, MASK)).max() > 1e-3


def test_angles():
    """0 for identical vectors, 1/2 for orthogonal, 1 for opposite; scale does not matter, and nothing is NaN."""
    e = np.eye(4, dtype=np.float32)
    x = np.stack([e[0], e[0], e[0], e[0] + e[1]])[:, None, None]
    y = np.stack([7 * e[0], e[1], -3 * e[0], e[0]])[:, None, None]
    np.testing.assert_allclose(angular_distance(x, y), [0, 0.5, 1, 0.25], atol=1e-7)
    assert (np.asarray(angular_distance(X, 3 * X)) < 1e-6).all()
    near = angular_distance(x, x * np.float32(1) + np.float32(1e-5) * np.roll(x, 1, axis=-1))
    np.testing.assert_allclose(near[0], 1e-5 / np.pi, rtol=1e-3)


def test_a_write_along_the_stream_and_against_it():
    np.testing.assert_allclose(cosine(2 * X, X), 1, rtol=1e-6)
    np.testing.assert_allclose(cosine(-X, X), -1, rtol=1e-6)
    np.testing.assert_allclose(relative_contribution(-0.5 * X, X), 0.5, rtol=1e-6)


def test_entropy():
    """Of attention to one key and to all T alike; a masked key has probability 0 and no logarithm."""
    pattern = np.zeros((2, B, 3, T, T), np.float32)
    pattern[0, ..., 0] = 1
    pattern[1] = 1 / T
    np.testing.assert_allclose(attention_entropy(pattern), [0, np.log(T)], rtol=1e-6)
    causal = np.tril(np.ones((T, T), np.float32)) / np.arange(1, T + 1, dtype=np.float32)[:, None]
    pattern = np.broadcast_to(causal, (1, B, 3, T, T))
    expected = (np.log(np.arange(1, T + 1)) * MASK).sum() / MASK.sum()
    np.testing.assert_allclose(attention_entropy(pattern, MASK), [expected], rtol=1e-5)


def test_zeros_stay_finite():
    zeros = np.zeros_like(X)
    for value in (relative_contribution(X, zeros), cosine(zeros, X), angular_distance(zeros, X), residual_rms(zeros)):
        assert np.isfinite(value).all()
    np.testing.assert_array_equal(token_mean(X[..., 0], np.zeros((B, T), np.float32)), np.zeros(L))


def test_any_number_of_places():
    """Images: the stream is [L, B, H, W, D]."""
    tall = X.reshape(L, B, 1, T, D)
    np.testing.assert_array_equal(residual_rms(tall, MASK[:, None]), residual_rms(X, MASK))
