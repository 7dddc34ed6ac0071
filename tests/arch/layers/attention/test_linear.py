"""Linear attention against the quadratic form, in chunks and cached; random features against the softmax kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import softmax

from arch.blocks import PreNorm
from arch.layers.attention import linear as linear_attention
from arch.layers.attention.feature_maps import EluPlusOne, PositiveOrthogonal, directions
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow
from arch.layers.caches import Room
from arch.models.decoder import Decoder
from arch.spec import SpecError
from tests.arch import tiny
from tests.arch.layers.attention import kinds
from tests.arch.layers.attention.kinds import B, K, N, T, layer, padded, rows, run

PACKED = np.array([[1] * 5 + [2] * 7, [1] * 4 + [2] * 3 + [3] * 2 + [0] * 3, [0] * 2 + [1] * 10], np.int32)


def quadratic(q, k, v, seen):
    """Row-normalised phi(q) phi(k)^T over the pairs `seen` [b, t, s], written out; zero where nothing is seen."""
    phi = [np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k)]
    weights = np.einsum("btnk,bsnk->bnts", *phi) * seen[:, None]
    total = weights.sum(-1, keepdims=True)
    return np.einsum("bnts,bsnk->btnk", weights / np.where(total > 0, total, 1), v)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunk", [64, 5])
def test_elu_plus_one_is_the_quadratic_form(causal, chunk, monkeypatch):
    monkeypatch.setattr(linear_attention, "CHUNK", chunk)
    kinds.compiled.cache_clear()
    segments = PACKED if causal else padded((T, 7, 4))
    _, taps = run(LinearAttention(N, K, mask=Causal() if causal else Bidirectional()), rows(), segments)
    seen = (segments[:, :, None] == segments[:, None]) & (segments[:, None] > 0)
    if causal:
        seen = seen & np.tril(np.ones((T, T), bool))
    q, k, v = (np.asarray(taps[f"attn.{name}"], np.float64) for name in "qkv")
    expected = quadratic(q, k, v, seen).astype(np.float32)
    kinds.compiled.cache_clear()
    real = segments > 0
    tiny.close(np.asarray(taps["attn.z"])[real], expected[real])


def test_random_features_converge_to_softmax_attention():
    """The error falls as 1 / sqrt(features), and is small with many."""
    x = rows() * 0.25
    same = layer(kinds.softmax(Bidirectional()))[1]
    expected = run(kinds.softmax(Bidirectional()), x, params=same)[1]["attn.z"]
    errors = []
    for count in (16, 256, 4096):
        spec = LinearAttention(N, K, features=PositiveOrthogonal(count))
        errors.append(float(jnp.sqrt(jnp.mean(jnp.square(run(spec, x, params=same)[1]["attn.z"] - expected)))))
    scale = float(jnp.std(expected))
    assert errors[2] < 0.03 * scale
    assert errors[2] < errors[1] / 2 < errors[0] / 4


def test_random_features_estimate_the_softmax_kernel_without_bias():
    q, k = (np.random.default_rng(seed).standard_normal((1, 5, 1, 8)).astype(np.float32) / 2 for seed in (1, 2))
    features = PositiveOrthogonal(200_000)
    raw = [np.exp(np.asarray(features.exponents(jnp.asarray(x)), np.float64)) for x in (q, k)]
    estimate = np.einsum("btnr,bsnr->ts", *raw) / features.count
    exact = np.exp(np.einsum("btnk,bsnk->ts", q, k) / np.sqrt(8))
    np.testing.assert_allclose(estimate, exact, rtol=0.03)


def test_directions_are_orthogonal_with_the_lengths_of_gaussian_vectors():
    drawn = directions(4096, 8, seed=0)
    for group in drawn.reshape(-1, 8, 8)[:10]:
        products = group @ group.T
        np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-4)
    assert np.mean(np.square(drawn).sum(1)) == pytest.approx(8, rel=0.05)
    assert directions(5, 8, seed=0).shape == (5, 8)
    assert (directions(5, 8, seed=0) != directions(5, 8, seed=1)).all()


def test_large_keys_and_queries_stay_finite():
    spec = LinearAttention(N, K, features=PositiveOrthogonal(32))
    for x in (rows() * 30, rows() * 1e-6):
        assert np.isfinite(run(spec, x)[0]).all()


@pytest.mark.parametrize("features", [EluPlusOne(), PositiveOrthogonal(16)], ids=["elu", "random"])
def test_cached_decoding_is_the_full_forward_pass(features):
    mixer = LinearAttention(N, K, features=features, mask=Causal())
    spec = Decoder(vocab=tiny.V, width=16, depth=2, block=PreNorm(mixer=mixer))
    forward, params = tiny.forward(spec)
    tokens = tiny.tokens(2, 9)

    def whole(params):
        return forward(params, tokens).logits

    found, _ = tiny.jit(tiny.in_pieces(spec, tokens, (4, 5, 9)))(params)
    tiny.close(found, tiny.jit(whole)(params), rtol=1e-4, atol=1e-4)


def test_the_causal_form_is_causal():
    spec = LinearAttention(N, K, mask=Causal(), features=PositiveOrthogonal(16))
    graphdef, params = layer(spec)
    assert set(params) == {"q", "k", "v", "o"}

    def at(x, t):
        return jnp.sum(kinds.function(spec)(params, x, None, None)[0][:, t])

    gradient = np.asarray(tiny.jit(jax.grad(at), static_argnums=1)(jnp.asarray(rows()), 6))
    assert (gradient[:, 7:] == 0).all()
    assert (gradient[:, :7] != 0).any(axis=-1).all()
    cache = nnx.merge(graphdef, params).init_cache(Room(B, 10_000))
    assert cache.state.values.shape == (B, N, 16, K)  # whatever the length


def test_other_masks_are_refused():
    with pytest.raises(SpecError, match="mask"):
        LinearAttention(mask=LocalWindow(2))


def test_softmax_reference_is_what_it_says():
    """The reference of the convergence test against numpy, so that both cannot be wrong together."""
    _, taps = run(kinds.softmax(Bidirectional()), rows())
    q, k, v = (np.asarray(taps[f"attn.{name}"], np.float64) for name in "qkv")
    pattern = softmax(np.einsum("btnk,bsnk->bnts", q, k) / np.sqrt(K), axis=-1)
    tiny.close(taps["attn.z"], np.einsum("bnts,bsnk->btnk", pattern, v).astype(np.float32))
